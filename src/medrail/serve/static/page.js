// The page: choose an image, see the answer. No library, nothing from elsewhere; text is always set as text, never as HTML.
import { WORDS, PROBLEMS_ZH } from "./words.js";

const $ = (id) => document.getElementById(id);
const STATES = ["empty", "busy", "problem", "result"];
const STAGES = { decode: "decode", prepare: "prepare", model: "network", post: "post" };
const SHOWN_CLASSES = 8;
const state = { language: "en", models: [], limit: Infinity, file: null, shown: () => {}, request: null, maskUrl: "" };

// ---------------------------------------------------------------- words and numbers
function word(key, values = {}) {
  return (WORDS[state.language][key] ?? WORDS.en[key]).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
const locale = () => (state.language === "zh" ? "zh-CN" : "en");
const number = (value, digits = 0) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
const percent = (value) =>
  new Intl.NumberFormat(locale(), { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(value);
const megabytes = (bytes) =>
  bytes < 1024 * 1024 ? `${number(Math.max(bytes / 1024, 0.1), 1)} KiB` : `${number(bytes / 1024 / 1024, 1)} MiB`;
const milliseconds = (value) => number(value, value < 10 ? 1 : 0);

function element(tag, { text = "", className = "", ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function setLanguage(language) {
  state.language = language;
  localStorage.setItem("medrail-language", language);
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = word(each.dataset.word);
  $("language").textContent = word("other");
  $("language").lang = language === "zh" ? "en" : "zh-CN";
  if (Number.isFinite(state.limit)) $("formats").textContent = `${word("formats")}; ${word("limit", { size: megabytes(state.limit) })}`;
  showModel();
  state.shown();
}

// ---------------------------------------------------------------- key
// Only this tab has it: no cookie that a browser would send by itself, and gone when the tab is closed.
const KEY = "medrail-key";
const keyHeaders = () => (sessionStorage.getItem(KEY) ? { "X-API-Key": sessionStorage.getItem(KEY) } : {});

function askForKey(wanted) {
  $("key-field").hidden = !wanted;
  if (wanted) $("key").focus();
}

function useKey() {
  const key = $("key").value.trim();
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  $("key").value = "";
  begin();
}

// ---------------------------------------------------------------- models
const currentModel = () => state.models.find((model) => identity(model) === $("model").value) ?? state.models[0];
const identity = (model) => `${model.name}/${model.version}`;
// Of each model the first in the list is the version that answers: by its name alone, so that pins and canaries count.
const answers = (model) => state.models.find((each) => each.name === model.name) === model;
const wanted = (model) => (answers(model) ? model.name : identity(model));

async function loadModels() {
  const answer = await fetch("/v1/models", { headers: keyHeaders() });
  askForKey(answer.status === 401);
  if (!answer.ok) throw await answer.json();
  const listed = await answer.json();
  state.models = listed.models;
  state.limit = listed.max_upload_bytes;
  $("model").replaceChildren(
    ...listed.models.map((model) => element("option", { text: identity(model), value: identity(model) })));
  $("model-field").hidden = listed.models.length < 2;
}

function showModel() {
  const model = currentModel();
  if (!model) return;
  $("roi-field").hidden = !model.needs_roi;
  $("card-open").hidden = false;
  const facts = [
    [word("name"), `${model.name} ${model.version}`],
    [word("task"), `${word(model.task)}, ${model.dims}-D`],
    [word("classes"), model.classes.length > 12 ? `${model.classes.slice(0, 12).join(", ")} …` : model.classes.join(", ")],
    [word("trainedOn"), model.input],
  ];
  const measured = Object.entries(model.metrics).slice(0, 3).filter(([, metric]) => typeof metric.value === "number");
  if (measured.length) {
    const lines = measured.map(([name, metric]) => metricText(name, metric));
    facts.push([word("measured"), [...lines, word("measuredHow")].join("\n")]);
  } else {
    facts.push([word("measured"), word("notMeasured")]);
  }
  $("model-facts").replaceChildren(
    ...facts.flatMap(([name, text]) => [element("dt", { text: name }), element("dd", { text })]));
}

function metricText(name, metric) {
  const interval = typeof metric.low === "number" ? ` (${number(metric.low, 3)}–${number(metric.high, 3)})` : "";
  return `${name} ${number(metric.value, 3)}${interval}, n = ${metric.n}`;
}

async function showCard() {
  const model = currentModel();
  const answer = await fetch(
    `/v1/models/${encodeURIComponent(model.name)}/versions/${encodeURIComponent(model.version)}/card`,
    { headers: keyHeaders() });
  $("card-text").textContent = await answer.text();
  $("card").showModal();
}

// ---------------------------------------------------------------- asking
function choose(file) {
  if (!file) return;
  state.file = file;
  $("chosen").hidden = false;
  $("chosen-name").textContent = file.name;
  $("chosen-size").textContent = megabytes(file.size);
  if (currentModel()?.needs_roi && !$("roi").files.length) {
    say(word("roiMissing"));
    $("roi").focus();
    return;
  }
  send();
}

function send() {
  state.request?.abort();
  const roi = currentModel()?.needs_roi ? $("roi").files[0] : null;
  const size = state.file.size + (roi?.size ?? 0);
  if (size > state.limit) {
    showProblem(() => ({
      title: word("tooLargeTitle"),
      detail: word("tooLargeDetail", { size: megabytes(size), limit: megabytes(state.limit) }),
      remedy: word("tooLargeRemedy"),
    }));
    return;
  }
  const form = new FormData();
  form.append("file", state.file, "image"); // the name stays here: it may be a patient's
  if (roi) form.append("roi", roi, "roi");
  const request = new XMLHttpRequest();
  state.request = request;
  const model = currentModel();
  request.open("POST", `/v1/predict/image?preview=true${model ? `&model=${encodeURIComponent(wanted(model))}` : ""}`);
  request.setRequestHeader("Accept", "application/json");
  for (const [name, value] of Object.entries(keyHeaders())) request.setRequestHeader(name, value);
  let sent = 0;
  const busy = () => {
    $("busy-text").textContent = sent < 1 ? word("uploading", { percent: percent(sent) }) : word("working");
    if (sent < 1) $("progress").value = sent * 100;
    else $("progress").removeAttribute("value");
  };
  show("busy", busy);
  say(word("working"));
  request.upload.onprogress = (event) => { sent = event.total ? event.loaded / event.total : 1; busy(); };
  request.upload.onload = () => { sent = 1; busy(); };
  request.onabort = () => { if (state.request === request) { show("empty"); say(word("cancelled")); } };
  request.onerror = () => showProblem(offline);
  request.onload = () => receive(request);
  request.send(form);
}

function receive(request) {
  let answer;
  try {
    answer = JSON.parse(request.responseText);
  } catch {
    showProblem(offline);
    return;
  }
  askForKey(request.status === 401);
  if (request.status === 200) showResult(answer);
  else showProblem(() => problemOf(answer));
}

const offline = () => ({ title: word("offlineTitle"), detail: word("offlineDetail"), remedy: word("offlineRemedy") });

function problemOf(answer) {
  const translated = state.language === "zh" ? PROBLEMS_ZH[String(answer.type).split(":").pop()] : null;
  return {
    title: translated?.[0] ?? answer.title,
    detail: answer.detail === `${answer.title}.` ? "" : answer.detail,
    detailLanguage: translated ? "en" : "",
    remedy: translated?.[1] ?? answer.remedy,
    request: answer.request_id,
  };
}

// ---------------------------------------------------------------- showing
function show(name, again = () => {}) {
  for (const each of STATES) $(each).hidden = each !== name;
  state.shown = again;
  again();
}

const say = (text) => { $("live").textContent = text; };

// On a narrow screen the answer is below the fold.
function lookAtAnswer() {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("answer").scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

function showProblem(make) {
  show("problem", () => {
    const problem = make();
    $("problem-title").textContent = problem.title;
    $("problem-detail").textContent = problem.detail;
    $("problem-detail").lang = problem.detailLanguage || document.documentElement.lang;
    $("problem-remedy").textContent = problem.remedy;
    $("problem-request").textContent = problem.request ?? "";
    $("problem-request").parentElement.hidden = !problem.request;
  });
  lookAtAnswer();
}

function showResult(answer) {
  URL.revokeObjectURL(state.maskUrl);
  state.maskUrl = answer.mask ? URL.createObjectURL(maskBlob(answer.mask)) : "";
  show("result", () => {
    const isMask = answer.task === "segmentation";
    if (isMask) showMask(answer.mask);
    else showClasses(answer);
    showDoubts(answer);
    showPreview(answer, isMask);
    showFoot(answer);
  });
  say(`${word("done")} ${$("headline").textContent}`);
  lookAtAnswer();
}

// What speaks against relying on the answer stands before it.
function showDoubts(answer) {
  const possible = answer.conformal_set;
  const doubts = [];
  if (answer.unlike_training) doubts.push(word("unlike", { score: number(answer.ood_score, 1) }));
  if (possible?.length === 0) doubts.push(word("noneFits"));
  else if (possible && String(possible) !== answer.class_name) doubts.push(word("undecided", { classes: possible.join(", ") }));
  $("headline").prepend(...doubts.map((text) => element("span", { text, className: "doubt" })));
}

function showClasses(answer) {
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const several = answer.findings; // null where an image has one class
  $("headline").replaceChildren(...(several ? findingsHeadline(answer) : [
    element("span", { text: word(answer.class_name === ranked[0][0] ? "found" : "byThreshold"), className: "over" }),
    element("span", { text: answer.class_name, className: "big" }),
    element("span", { text: `${percent(answer.confidence)} ${word("confidence")}`, className: "pill" })]));
  const rows = ranked.map(([name, value], rank) => bar(name, value, several ? several.includes(name) : rank === 0));
  const list = element("ul", { className: "bars" }, ...rows.slice(0, SHOWN_CLASSES));
  const rest = rows.slice(SHOWN_CLASSES);
  $("details").replaceChildren(list);
  if (rest.length) {
    const summary = element("summary", { text: word("more", { count: rest.length }) });
    $("details").append(element("details", {}, summary, element("ul", { className: "bars" }, ...rest)));
  }
}

function findingsHeadline(answer) {
  const limits = [...new Set(Object.values(answer.thresholds))];
  const from = limits.length === 1 ? word("findingFrom", { threshold: percent(limits[0]) }) : word("findingFromOwn");
  return [
    element("span", { text: word("findings"), className: "over" }),
    element("span", { text: answer.findings.join(" · ") || word("noFinding"), className: "big" }),
    element("span", { text: from, className: "pill" })];
}

function bar(name, value, first) {
  const fill = element("span", { className: "fill" });
  fill.style.inlineSize = `${value * 100}%`;
  return element("li", { className: first ? "first" : "" },
    element("span", { text: name, className: "bar-name" }),
    element("span", { text: percent(value), className: "bar-value" }),
    element("span", { className: "track", "aria-hidden": "true" }, fill));
}

function showMask(mask) {
  const isPicture = mask.shape[0] === 1;
  const found = mask.classes.filter((each) => each.index > 0 && each.voxels > 0);
  $("headline").replaceChildren(
    element("span", { text: word("segmented"), className: "over" }),
    element("span", { text: found.length ? headlineOf(found) : word("nothing"), className: "big" }));
  const hasVolume = mask.classes.some((each) => each.volume_ml !== null);
  const total = mask.shape.reduce((product, extent) => product * extent, 1);
  const head = [word("class"), ...(hasVolume ? [word("volume")] : []), word(isPicture ? "pixels" : "voxels"), "%"];
  const rows = mask.classes.filter((each) => each.index > 0).map((each) => {
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = each.colour;
    return element("tr", {},
      element("th", { scope: "row" }, swatch, document.createTextNode(each.name)),
      ...(hasVolume ? [element("td", { text: volumeText(each.volume_ml) })] : []),
      element("td", { text: number(each.voxels) }),
      element("td", { text: percent(each.voxels / total) }));
  });
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { text, scope: "col" })))),
    element("tbody", {}, ...rows));
  const shape = (isPicture ? mask.shape.slice(1) : mask.shape).join(" × ");
  $("details").replaceChildren(
    table,
    element("p", { className: "note", text: word(isPicture ? "gridPicture" : "grid", { shape }) }),
    element("a", { className: "button", href: state.maskUrl, download: maskName(mask), text: word("download") }));
}

const volumeText = (ml) => `${number(ml, ml < 10 ? 3 : 1)} ml`;
const headlineOf = (found) =>
  found.length > 3 ? `${found.length} ${word("classes")}`
    : found.map((each) => (each.volume_ml === null ? each.name : `${each.name} ${volumeText(each.volume_ml)}`)).join(" · ");

function maskBlob(mask) {
  const bytes = Uint8Array.from(atob(mask.data), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: mask.encoding.startsWith("png") ? "image/png" : "application/gzip" });
}

function maskName(mask) {
  const stem = (state.file?.name ?? "image").replace(/(\.nii)?\.[^.]*$/, "");
  return `${stem}_mask.${mask.encoding.startsWith("png") ? "png" : "nii.gz"}`;
}

function showPreview(answer, isMask) {
  $("preview").hidden = !answer.preview_png;
  if (!answer.preview_png) return;
  $("preview-image").src = `data:image/png;base64,${answer.preview_png}`;
  $("preview-image").alt = word(isMask ? "previewMask" : "previewImage");
  const inSpace = isMask && answer.mask.spacing_mm && answer.mask.shape[0] > 1;
  $("preview-caption").textContent = inSpace ? word("radiological") : word(isMask ? "previewMask" : "previewImage");
  $("result").classList.toggle("wide", Boolean(inSpace));
}

function showFoot(answer) {
  const times = answer.timings_ms;
  const shown = Object.fromEntries(Object.entries(times).map(([stage, value]) => [stage, milliseconds(value)]));
  $("times").replaceChildren(...Object.keys(STAGES).map((stage) => {
    const part = element("span", { className: `stage stage-${stage}` });
    part.style.flexGrow = times[stage];
    return part;
  }));
  $("times-text").replaceChildren(
    element("strong", { text: word("time", { total: milliseconds(answer.inference_time_ms) }) }),
    ...Object.entries(STAGES).map(([stage, key]) => element("span", {},
      element("span", { className: `dot stage-${stage}`, "aria-hidden": "true" }),
      document.createTextNode(`${word(key)} ${shown[stage]}`))),
    element("span", { text: word("besides", shown) }));
  $("signature").replaceChildren(
    element("span", { text: `${word("model")} ${answer.model_name}, ${word("version")} ${answer.model_version}` }),
    element("code", { text: answer.bundle_id }),
    element("span", {}, document.createTextNode(`${word("request")} `), element("code", { text: answer.request_id })));
}

// ---------------------------------------------------------------- start
function listen() {
  const drop = $("drop");
  $("file").addEventListener("change", () => { choose($("file").files[0]); $("file").value = ""; });
  $("roi").addEventListener("change", () => { if (state.file && $("roi").files.length) send(); });
  $("key-use").addEventListener("click", useKey);
  $("key").addEventListener("keydown", (event) => { if (event.key === "Enter") useKey(); });
  $("send").addEventListener("click", () => choose(state.file));
  $("cancel").addEventListener("click", () => state.request?.abort());
  $("model").addEventListener("change", () => { showModel(); if (state.file) choose(state.file); });
  $("language").addEventListener("click", () => setLanguage(state.language === "zh" ? "en" : "zh"));
  $("card-open").addEventListener("click", showCard);
  $("card-close").addEventListener("click", () => $("card").close());
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over-it"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over-it"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over-it");
    choose(event.dataTransfer.files[0]);
  });
}

function begin() {
  loadModels().then(
    () => { if (!$("problem").hidden) show("empty"); setLanguage(state.language); },
    (error) => showProblem(error?.type ? () => problemOf(error) : offline));
}

function preferredLanguage() {
  const kept = localStorage.getItem("medrail-language");
  return kept ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
}

listen();
setLanguage(preferredLanguage());
begin();
