"""What is wrong with cases that have been looked at: one function a kind of finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medrail.cases.check.report import PatternProposal
from medrail.cases.check.summary import is_tile, tiles_of_slides
from medrail.cases.index import empty_splits, give_split
from medrail.cases.labels import labels_of
from medrail.cases.leaks import Leak
from medrail.cases.listing import Entry, Finding, Severity, counted, short_name, shown
from medrail.cases.look.burned_in import rule_for
from medrail.cases.look.examine import Facts, place_of
from medrail.config import Config
from medrail.types import SPLITS, Case

# Of all cases so many may be lost before the rest no longer stands for what was meant.
_MOST_LOST = 0.05


def leak_finding(leak: Leak, config: Config) -> Finding:
    """A copy between train and val spoils the choice of the best epoch, not the numbers of the evaluated split."""
    splits = " and ".join(leak.splits)
    rest = shown(leak.group[1:], 4)
    if leak.kind == "patient":
        remedy = (
            "Set split.by: patient, which draws the splits anew by patient (`medrail init` does so for such data), or "
            "move the files, so that all images of a patient are in one split."
        )
        what = f"the same patient is in {splits}: {rest}"
        return Finding("patient_leak", leak.group[0], what, remedy, others=leak.group[1:])
    severity: Severity = "stop" if leak.sure and config.evaluate.split in leak.splits else "warn"
    if leak.kind == "near":
        remedy = "Look at them; keep one, or give them the same patient (`medrail check --fix` does)."
        remedy = remedy if leak.sure else "Look at them; if they are the same, keep one, or give them the same patient."
        members = [f"{place} ({how})" for place, how in zip(leak.group, leak.evidence, strict=True)][1:]
        what = f"{'' if leak.sure else 'perhaps '}nearly the same image is in {splits}: {shown(members, 4)}"
        defect = "near_leak" if leak.sure else "perhaps_near_leak"
        return Finding(defect, leak.group[0], what, remedy, severity, leak.group[1:])
    remedy = "Keep one of them, or give them the same patient (`medrail check --fix` does)."
    what = f"the same pixels are in {splits}: {rest}"
    return Finding("exact_leak", leak.group[0], what, remedy, severity, leak.group[1:])


def unlabelled_as_one(
    findings: Sequence[Finding], cases: Sequence[Case], labelled: int, severity: Severity
) -> list[Finding]:
    """The findings with one in place of all that say an image has no label; ``labelled`` is how many cases have one."""
    without = [finding for finding in findings if finding.defect == "unlabelled"]
    if not without or not cases:
        return list(findings)
    places = [place_of(case) for case in cases]
    what = (
        f"{counted(len(cases), 'image has', 'images have')} no label or mask, of {labelled + len(cases):,}: nothing "
        f"can be trained on them. The first: {shown(map(short_name, places), 3)}"
    )
    remedy = "; ".join(dict.fromkeys(finding.remedy.rstrip(".") for finding in without[:3])) + "."
    if severity == "warn":
        remedy = "The images are judged all the same. `medrail init` writes a project whose table takes the labels."
    one = Finding("unlabelled", places[0], what, remedy, severity, tuple(places[1:]))
    return [one, *(finding for finding in findings if finding.defect != "unlabelled")]


def pixel_findings(cases: Sequence[Case], facts: Mapping[str, Facts], config: Config) -> list[Finding]:
    """Blank images, masks without foreground."""
    remedy = "Look at it; take the case out if it shows nothing."
    blank = [
        Finding("blank", place_of(case), "all voxels have the same value", remedy, "warn")
        for case in cases
        if facts[case.id].blank
    ]
    if config.task != "segmentation":
        return blank
    empty = [
        Finding(
            "empty_mask", str(case.target), "the mask has no foreground", "Right if there is nothing to mark.", "warn"
        )
        for case in cases
        if facts[case.id].classes == (0,) and not is_tile(case)
    ]
    return blank + empty + _bare_slides(cases, facts)


def _bare_slides(cases: Sequence[Case], facts: Mapping[str, Facts]) -> list[Finding]:
    """Slides on which nothing is drawn in any tile; single tiles without foreground are as it should be."""
    masks = {case.paths[0]: str(case.target) for case in cases}
    remedy = "Right if there is nothing to mark. Else look whether it was drawn in pixels of the slide's finest level."
    return [
        Finding("empty_mask", masks[slide], f"no tile of {count:,} has any foreground", remedy, "warn")
        for slide, (count, filled) in tiles_of_slides(cases, facts).items()
        if not filled
    ]


def defect_findings(
    cases: Sequence[Case], facts: Mapping[str, Facts], entries: Mapping[str, Entry], config: Config
) -> list[Finding]:
    """DICOM defects that were accepted or mended when the case was read (``Image.defects``), each with its evidence."""
    look = "Look at the case; the case table's column defects names it, and evaluation can tell such cases apart."
    why = f"Read all the same, because data.on_defect is {config.data.on_defect}"
    # What is set apart is no choice of the user's: the rest is whole without it.
    remedy = f"{why}. {look}" if config.data.on_defect != "refuse" else f"Read without what is set apart. {look}"
    found: dict[Finding, None] = {}
    for case in cases:
        one = facts[case.id]
        for name, evidence in zip(one.defects, one.evidence, strict=True):
            found[Finding(name, place_of(case), evidence, remedy, "warn")] = None
        entry = entries.get(case.id)
        for name in () if entry is None else entry.defects:
            if name not in one.defects and not one.findings:
                found[Finding(name, place_of(case), "its headers say so", remedy, "warn")] = None
    return list(found)


def named(case: Case, facts: Facts, entry: Entry | None) -> Facts:
    """A case that cannot be read because of a defect that its headers show is called by that defect's name."""
    if entry is None or not entry.defects or not facts.findings:
        return facts
    renamed = tuple(
        replace(finding, defect=_said_in(finding.what, entry.defects)) if finding.defect == "unreadable" else finding
        for finding in facts.findings
    )
    return replace(facts, findings=renamed)


def _said_in(text: str, defects: Sequence[str]) -> str:
    """Of several defects the one that the error speaks of first."""
    at = {name: text.find(name.replace("_", " ")) for name in defects}
    return min(defects, key=lambda name: at[name] if at[name] >= 0 else len(text))


def text_findings(cases: Sequence[Case], facts: Mapping[str, Facts], entries: Mapping[str, Entry]) -> list[Finding]:
    """Text burned into the pixels: by a rule about the DICOM header, or by what the pixels look like; it says which."""
    remedy = "Look at it: it may name the patient, and a network may learn it. `medrail deidentify` blanks areas."
    findings = []
    for case in cases:
        seen, entry = facts[case.id].text, entries.get(case.id)
        rule = rule_for(entry.modality, entry.burned_in, scanner=entry.scanner) if entry else ""
        said = [f"by rule ({rule})"] if rule else []
        said += [f"by the pixel detector ({seen})"] if seen else []
        if said:
            what = f"text may be burned into the pixels: {' and '.join(said)}"
            findings.append(Finding("burned_in_text", place_of(case), what, remedy, "warn"))
    return findings


def missing_rois(cases: Sequence[Case], config: Config) -> list[Finding]:
    """Cases without the region of interest that a step crops to; each would fail in preparation."""
    if not any(step.get("kind") == "crop_roi" for step in config.prepare.steps):
        return []
    what = "the step crop_roi needs a region of interest, and the case has none"
    remedy = "Give it one in a column roi of the CSV (data.kind: csv), or use crop_foreground, which needs none."
    return [Finding("missing_roi", place_of(case), what, remedy) for case in cases if case.roi is None]


def unusable_cases(cases: Sequence[Case], usable: Sequence[Case], config: Config) -> list[Finding]:
    """Cases that are refused or cannot be read: every result is one about fewer cases than there are."""
    counted_cases = [case for case in cases if case.target is not None]
    good = {case.id for case in usable}
    lost = [case for case in counted_cases if case.id not in good]
    if not lost:
        return []
    total, loses = Counter(case.split for case in counted_cases), Counter(case.split for case in lost)
    parts = [f"{name} loses {loses[name]} of {total[name]}" for name in SPLITS if loses[name]]
    what = "; ".join((f"{len(lost)} of {counted(len(counted_cases), 'case')} cannot be used", *parts))
    classes, of_class = (
        Counter(name for case in some for name in labels_of(case.target, config.data)) for some in (counted_cases, lost)
    )
    gone = any(loses[name] == total[name] for name in SPLITS if total[name])
    gone = gone or (config.task == "classification" and any(of_class[name] == classes[name] for name in of_class))
    many = gone or len(lost) > _MOST_LOST * len(counted_cases)
    remedy = f"Mend them, or take them out (`medrail check --fix`); up to {_MOST_LOST:.0%} may be left out."
    remedy = remedy if many else "No result counts them. Look why, or mend them."
    return [Finding("unusable_cases", "data", what, remedy, "stop" if many else "warn")]


def split_findings(cases: tuple[Case, ...], usable: tuple[Case, ...], config: Config) -> list[Finding]:
    """Splits that are needed and have no case, or none that can be used."""
    findings = empty_splits(cases, config)
    empty = {finding.where for finding in findings}
    for name in SPLITS:
        count, where = sum(case.split == name for case in cases), f"split {name}"
        if count and not any(case.split == name for case in usable):
            what = f"none of its {counted(count, 'case')} can be used"
            findings.append(Finding("empty_split", where, what, "Repair what is said of them."))
        elif not count and name == "val" and where not in empty:
            what = "no case: the best epoch cannot be told, and training does not stop early"
            drawn = "Set split.val above 0, or add some."
            remedy = f"{give_split(name)}, or set split.by: patient." if config.split.by == "given" else drawn
            findings.append(Finding("empty_split", where, what, remedy, "warn"))
    return findings


def patients_unknown(
    proposal: PatternProposal | None, cases: Sequence[Case] = (), entries: Mapping[str, Entry] | None = None
) -> Finding:
    """Without patients, each image counts as one; file names may say otherwise."""
    what = "it is not known which images are of the same patient; each counts as a patient by itself"
    known = sum(case.id in entries and entries[case.id].names_patient for case in cases) if entries else 0
    if known:
        what = f"of {len(cases) - known} of {counted(len(cases), 'image')} {what}"
    if proposal is None:
        remedy = "Set data.patient_pattern, or a patient column in the CSV, if any patient has several images."
        return Finding("patient_unknown", "data", what, remedy, "warn")
    file, patient = proposal.example
    what += (
        f". Names look like patients: {counted(proposal.files, 'file')}, {counted(proposal.patients, 'patient')}, "
        f"e.g. {file} -> {patient}"
    )
    remedy = f"If that is right, set data.patient_pattern: {quoted(proposal.pattern)}"
    if not proposal.divided:
        return Finding("patient_unknown", "data", what, f"{remedy}.", "warn")
    stand = "stands" if proposal.divided == 1 else "stand"
    what += f"; {counted(proposal.divided, 'of these patients', 'of these patients')} {stand} in more than one split"
    remedy += ". If every image is another patient, say so with data.patient_pattern: '(.+)'."
    return Finding("patient_unknown", "data", what, remedy, "stop")


def quoted(text: str) -> str:
    """A text as YAML takes it literally."""
    return "'" + text.replace("'", "''") + "'"


def class_findings(cases: Sequence[Case], has: Mapping[str, set[str]], names: Sequence[str]) -> list[Finding]:
    """Classes that a split which has cases does not have; one line a class."""
    findings = []
    filled = [split for split in SPLITS if any(case.split == split for case in cases)]
    for name in names:
        present = {case.split for case in cases if name in has[case.id]}
        missing = [split for split in filled if split not in present]
        if missing:
            effect = "it cannot be learnt" if "train" in missing else "nothing is known about it there"
            where = f"split {missing[0]}" if len(missing) == 1 else f"splits {', '.join(missing)}"
            remedy = "Add cases of it, or take the class out of data.classes."
            findings.append(Finding("class_missing", where, f"no case of {name!r}: {effect}", remedy, "warn"))
    return findings
