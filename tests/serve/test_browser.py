"""The page in a real Chromium: what a person sees for both tasks, in both languages, and when something is wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrail.serve.keys import add_key

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """A page that is open, and everything that its browser complained of."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        values = {"locale": "en-GB", "viewport": {"width": 1280, "height": 860}}
        self.context = browser.new_context(**(values | context))
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfinished", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(url)

    def send(self, path: Path) -> None:
        self.page.set_input_files("#file", str(path))
        self.page.wait_for_selector("#result:not([hidden]), #problem:not([hidden])")

    def shoot(self, name: str) -> None:
        """A picture for people, where MEDRAIL_SCREENSHOTS names a folder."""
        folder = os.environ.get("MEDRAIL_SCREENSHOTS")
        if folder:
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def visit(chromium) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def begin(url: str, **context: Any) -> Visitor:
        visitors.append(Visitor(chromium, url, **context))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        assert visitor.complaints == []
        assert len({host for host in visitor.hosts if host}) == 1
        visitor.context.close()


@pytest.fixture
def picture_file(tmp_path: Path, blob_png: bytes) -> Path:
    path = tmp_path / "Doe_Jane.png"
    path.write_bytes(blob_png)
    return path


def url_of(service: Any, path: str = "/") -> str:
    return str(service.client.base_url.copy_with(path=path))


def test_classification(start, classifier, visit, picture_file, blob_png) -> None:
    service = start(classifier)
    visitor = visit(url_of(service))
    page = visitor.page
    assert "Not a medical device" in page.inner_text("body")
    page.wait_for_selector("#model-facts dd")
    visitor.shoot("start-en")
    visitor.send(picture_file)
    expected = service.predict(blob_png).json()
    assert expected["class_name"] in page.inner_text("#headline")
    assert page.locator(".bars li").count() == 3
    assert f"{expected['confidence'] * 100:.1f}%" in page.inner_text("#headline")
    assert "chest" in page.inner_text("#signature")
    assert "ms for inference" in page.inner_text("#times-text")
    assert page.evaluate("document.getElementById('preview-image').naturalWidth") > 0
    visitor.shoot("classification-en")
    page.click("#language")
    assert "最可能的类别" in page.inner_text("#headline")
    assert "不是医疗器械" in page.inner_text(".warning >> nth=0")
    assert page.get_attribute("html", "lang") == "zh-CN"
    visitor.shoot("classification-zh")
    page.reload()
    page.wait_for_selector("#model-facts dd")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert "Doe_Jane" not in service.log.read_text()


def test_what_speaks_against_the_answer_stands_before_it(start, calibrated_classifier, visit, encode, tmp_path) -> None:
    service = start(calibrated_classifier)
    visitor = visit(str(service.client.base_url))
    for value, says in ((140, "Undecided: cannot be ruled out are no, yes."), (230, "unlike the training data")):
        path = tmp_path / f"{value}.png"
        path.write_bytes(encode(np.full((30, 40), value, np.uint8)))
        visitor.send(path)
        visitor.page.wait_for_function(
            "text => document.querySelector('#headline')?.innerText.includes(text)", arg=says
        )
    visitor.page.click("#language")
    visitor.page.wait_for_function("document.querySelector('#headline').innerText.includes('与训练数据差异过大')")
    assert visitor.complaints == []


def test_several_labels(start, findings_classifier, visit, encode, blob, tmp_path) -> None:
    service = start(findings_classifier)
    visitor = visit(url_of(service))
    page = visitor.page
    page.wait_for_selector("#model-facts dd")
    seen = set()
    for number, colours in enumerate([(blob, blob // 2, 255 - blob), (255 - blob, blob, blob // 3)]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encode(np.stack(colours, axis=-1)))
        visitor.send(path)
        expected = service.predict(path.read_bytes()).json()
        page.wait_for_function(
            "text => document.querySelector('#headline .big').textContent === text",
            arg=" · ".join(expected["findings"]) or "None of the findings",
        )
        assert "from a probability of 50.0% on" in page.inner_text("#headline")
        assert page.locator(".bars li").count() == 3
        marked = page.locator(".bars li.first .bar-name").all_inner_texts()
        assert sorted(marked) == sorted(expected["findings"])
        seen.add(tuple(marked))
    assert len(seen) == 2, "the pictures do not tell the answers apart"
    visitor.shoot("findings-en")
    page.click("#language")
    assert "检出结果" in page.inner_text("#headline")


def test_segmentation_of_a_volume_and_its_download(start, volume_segmenter, visit, head_nifti, tmp_path) -> None:
    from medrail.read import read_mask

    service = start(volume_segmenter)
    visitor = visit(url_of(service), locale="zh-CN")
    page = visitor.page
    assert page.get_attribute("html", "lang") == "zh-CN"
    visitor.send(head_nifti)
    assert "brain" in page.inner_text("#headline")
    assert page.locator("#details tbody tr").count() == 2
    assert "ml" in page.inner_text("#details")
    visitor.shoot("segmentation-zh")
    page.click("#language")
    visitor.shoot("segmentation-en")
    with page.expect_download() as download:
        page.click("text=Download the mask")
    assert download.value.suggested_filename == "head_mask.nii.gz"
    download.value.save_as(tmp_path / "mask")
    mask = service.predict(head_nifti.read_bytes(), headers={"Accept": "application/gzip"}).content
    (tmp_path / "expected").write_bytes(mask)
    assert (read_mask(tmp_path / "mask").voxels == read_mask(tmp_path / "expected").voxels).all()


def test_segmentation_of_a_picture(start, picture_segmenter, visit, picture_file) -> None:
    visitor = visit(url_of(start(picture_segmenter)), color_scheme="dark")
    visitor.send(picture_file)
    assert "nucleus" in visitor.page.inner_text("#headline")
    assert "80" in visitor.page.inner_text("#details")
    visitor.shoot("segmentation-picture-dark")


def test_dropped_file(start, classifier, visit, blob_png) -> None:
    visitor = visit(url_of(start(classifier)))
    visitor.page.evaluate(
        """(bytes) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
        }""",
        list(blob_png),
    )
    visitor.page.wait_for_selector("#result:not([hidden])")
    assert visitor.page.inner_text("#chosen-name") == "dropped.png"


def test_problem_with_its_remedy(start, picture_classifier, visit, head_nifti, tmp_path) -> None:
    service = start(picture_classifier, max_upload_mb=0.4)
    visitor = visit(url_of(service))
    page = visitor.page
    visitor.send(head_nifti)
    visitor.complaints.clear()  # Chromium lists every 4xx in its console
    assert "another kind" in page.inner_text("#problem-title")
    assert "single picture" in page.inner_text("#problem-remedy")
    assert len(page.inner_text("#problem-request")) == 36
    visitor.shoot("problem-en")
    page.click("#language")
    assert "训练图像不符" in page.inner_text("#problem-title")
    visitor.shoot("problem-zh")
    page.click("#language")
    large = tmp_path / "large.bin"
    large.write_bytes(b"\0" * 600_000)
    visitor.send(large)
    assert "too large" in page.inner_text("#problem-title")
    assert "409.6 KiB" in page.inner_text("#problem-detail")


def test_service_that_is_gone(start, classifier, visit, picture_file) -> None:
    visitor = visit(url_of(start(classifier)))
    visitor.page.wait_for_selector("#model-facts dd")
    visitor.page.route("**/v1/predict/**", lambda route: route.abort())
    visitor.send(picture_file)
    visitor.complaints.clear()
    assert "does not answer" in visitor.page.inner_text("#problem-title")


def test_region_of_interest_is_asked_for(start, roi_classifier, visit, picture_file, blob, encode, tmp_path) -> None:
    roi = tmp_path / "roi.png"
    roi.write_bytes(encode((blob > 150).astype("uint8")))
    visitor = visit(url_of(start(roi_classifier)))
    page = visitor.page
    page.wait_for_selector("#roi-field:not([hidden])")
    page.set_input_files("#file", str(picture_file))
    page.set_input_files("#roi", str(roi))
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator(".bars li").count() == 2


def test_model_is_chosen(start, classifier, picture_segmenter, visit, picture_file) -> None:
    visitor = visit(url_of(start(classifier, picture_segmenter)))
    visitor.page.wait_for_selector("#model-field:not([hidden])")
    visitor.page.select_option("#model", "nuclei/1")
    visitor.send(picture_file)
    assert "nucleus" in visitor.page.inner_text("#headline")
    visitor.page.click("#card-open")
    visitor.page.wait_for_selector("#card-text:has-text('nuclei 1')")
    visitor.shoot("card-en")
    visitor.page.keyboard.press("Escape")


def test_the_name_alone_is_asked_for_unless_another_version_is_chosen(
    start, classifier, other_classifier, visit, picture_file
) -> None:
    visitor = visit(url_of(start(classifier, other_classifier)))
    page = visitor.page
    page.wait_for_selector("#model-field:not([hidden])")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visitor.send(picture_file)
    page.select_option("#model", "chest/2")
    page.wait_for_function("document.querySelector('#model-facts').innerText.includes('chest 2')")
    visitor.send(picture_file)
    models = [url.partition("model=")[2] for url in asked if "/v1/predict/image" in url]
    assert (models[0], models[-1]) == ("chest", "chest%2F2")
    page.click("#card-open")
    page.wait_for_selector("#card-text:has-text('chest 2')")


def test_keyboard_and_names(start, classifier, visit, picture_file) -> None:
    visitor = visit(url_of(start(classifier)))
    page = visitor.page
    page.wait_for_selector("#model-facts dd")
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"language", "file", "card-open"} <= set(reached)
    visitor.send(picture_file)
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, img")]
            .filter((each) => each.offsetParent !== null)
            .filter((each) => !(each.textContent.trim() || each.labels?.length || each.hasAttribute("alt")))
            .map((each) => each.outerHTML)"""
    )
    assert unnamed == []
    assert page.inner_text("#live").startswith("Done.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(start, classifier, visit, picture_file, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for all text, on the colour that is really behind it."""
    visitor = visit(url_of(start(classifier)), color_scheme=scheme)
    visitor.send(picture_file)
    visitor.page.wait_for_timeout(400)
    pairs = visitor.page.evaluate(
        """() => {
            const behind = (node) => {
                for (; node; node = node.parentElement) {
                    const colour = getComputedStyle(node).backgroundColor;
                    if (!/, 0\\)$|transparent/.test(colour)) return colour;
                }
                return "rgb(255, 255, 255)";
            };
            const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
            const found = [];
            while (texts.nextNode()) {
                const parent = texts.currentNode.parentElement;
                if (!texts.currentNode.textContent.trim() || parent.offsetParent === null) continue;
                if (parent.closest("noscript, script, .skip, .visually-hidden")) continue;
                found.push([parent.textContent.trim().slice(0, 30), getComputedStyle(parent).color, behind(parent)]);
            }
            return found;
        }"""
    )
    assert len(pairs) > 20
    for text, ink, ground in pairs:
        assert _contrast(ink, ground) >= 4.5, (text, ink, ground)


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_narrow_screen(start, volume_segmenter, visit, head_nifti) -> None:
    visitor = visit(url_of(start(volume_segmenter)), viewport={"width": 390, "height": 800})
    visitor.send(head_nifti)
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 390
    visitor.shoot("segmentation-narrow")


@pytest.mark.parametrize(("path", "sign"), [("/docs", ".opblock-summary-path"), ("/redoc", "[role=menuitem]")])
def test_documentation_works_without_the_internet(start, classifier, visit, path: str, sign: str) -> None:
    visitor = visit(url_of(start(classifier), path))
    visitor.page.wait_for_selector(sign)
    assert "Classify or segment one image" in visitor.page.inner_text("body")
    visitor.shoot(path[1:])
    # ReDoc's maker has its logo on its own server; the policy keeps the browser from asking for it.
    visitor.complaints[:] = [text for text in visitor.complaints if "logo-mini.svg" not in text]


def test_class_names_are_text_not_html(start, visit, picture_file, blob_png, classifier) -> None:
    service = start(classifier)
    visitor = visit(url_of(service))
    evil = "<img src=x onerror=window.hacked=1>"
    answer = service.predict(blob_png).json() | {"class_name": evil, "probabilities": {evil: 1.0}, "confidence": 1.0}
    visitor.page.route("**/v1/predict/**", lambda route: route.fulfill(json=answer))
    visitor.send(picture_file)
    assert "<img" in visitor.page.inner_text("#headline")
    assert "<img" in visitor.page.inner_text("#details")
    assert visitor.page.evaluate("window.hacked") is None


def test_a_key_is_asked_for_and_kept_in_the_tab_only(start, classifier, visit, picture_file, tmp_path) -> None:
    _, key = add_key(tmp_path / "keys.json", "reader", "predict")
    service = start(classifier, host="10.1.2.3", key_file=tmp_path / "keys.json")
    visitor = visit(url_of(service))
    page = visitor.page
    page.wait_for_selector("#key-field:not([hidden])")
    assert page.inner_text("#problem-title") == "A key is needed"
    page.fill("#key", "wrong")
    page.click("#key-use")
    sync_api.expect(page.locator("#problem-detail")).to_contain_text("not valid", timeout=WAIT_MS)
    page.fill("#key", key)
    page.press("#key", "Enter")
    page.wait_for_selector("#key-field", state="hidden")
    visitor.send(picture_file)
    assert page.inner_text("#headline .big") in {"normal", "bacterial pneumonia", "viral pneumonia"}
    page.click("#card-open")
    sync_api.expect(page.locator("#card-text")).not_to_be_empty(timeout=WAIT_MS)
    assert page.evaluate("document.cookie") == ""
    assert key not in page.content()
    assert key not in page.evaluate("JSON.stringify(localStorage)")
    # The browser itself writes an error for each answer of 401.
    visitor.complaints[:] = [text for text in visitor.complaints if "401" not in text]
