"""The verbs about raw data: inspect, convert, check, deidentify; otherwise as ``medrail.cli``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.errors import ConfigError, MedrailError
from medrail.wording import CONVERT, INSPECT, in_words, reworded

if TYPE_CHECKING:
    from medrail.console import Console
    from medrail.inspection import Inspection
    from medrail.stages import Project, StageResult

OK, FAILED = 0, 1
_NAMED = 50  # files that deidentify names on the terminal


def inspect(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import inspection
    from medrail.types import ReadOptions

    path, options = Path(arguments.path), ReadOptions(on_defect=arguments.on_defect)
    with console.progress() as bars:
        result = inspection.inspect(
            path,
            options,
            pixels=not arguments.headers_only,
            looking=bars("Reading headers"),
            decoding=bars("Decoding"),
        )
    _show(result, console)
    if console.as_json:
        console.json(result.to_dict())
    return FAILED if result.failed else OK


def _show(result: Inspection, console: Console) -> None:
    """A table of the images, their defects below it, then what is refused and what else there is."""
    blank = ""
    if result.found:
        console.grid(*result.table())
        blank = "\n"
    for title, sentences in result.sections():
        console.line(f"{blank}{title}:")
        console.bullets([in_words(sentence, INSPECT) for sentence in sentences])
        blank = "\n"
    console.line(f"{blank}{result.summary}")


def convert(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import shown
    from medrail.inspection import convert as write_one
    from medrail.types import ReadOptions

    out, options = Path(arguments.out), ReadOptions(on_defect=arguments.on_defect)
    try:
        written = write_one(Path(arguments.path), out, arguments.series, options, force=arguments.force)
    except MedrailError as error:
        raise reworded(error, CONVERT) from None
    image, pixel_mm = written.image, written.pixel_mm
    spacing = image.geometry.spacing_mm if image.geometry else None
    size = " x ".join(map(str, image.grid))
    mm = "no physical space, written as 1 mm"
    if spacing or pixel_mm:
        mm = " x ".join(f"{part:.4g}" for part in spacing or pixel_mm or ()) + " mm"
        mm += "" if spacing else " (H x W; no place in space)"
    console.line(f"{size} voxels (D x H x W), {mm}, unit {image.unit}")
    console.bullets([str(defect) for defect in image.defects])
    console.line(f"-> {shown(out)}")
    if console.as_json:
        defects = [{"name": one.name, "evidence": one.evidence, "action": one.action} for one in image.defects]
        affine = image.geometry.affine_ras_mm.tolist() if image.geometry else None
        values = {"out": str(out), "shape": image.voxels.shape, "spacing_mm": spacing, "affine_ras_mm": affine}
        console.json({**values, "pixel_mm": pixel_mm, "unit": image.unit, "defects": defects})
    return OK


def check(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    path = Path(arguments.path)
    configured = path.suffix in (".yaml", ".yml") or (path / "medrail.yaml").is_file() or not path.exists()
    if configured:
        return _check(stages.open_project(path, arguments.set), "medrail run", arguments, console)
    if arguments.fix and not arguments.out:
        raise ConfigError(
            "--fix does not know where to write: there is no project",
            where=str(path),
            needed="a folder for the corrected table",
            remedy="Name one outside the data: -o FOLDER.",
        )
    with stages.inferred_project(path, arguments.set) as project:
        console.line(f"{path} has no medrail.yaml; judged as `medrail init` would read it.")
        return _check(project, "medrail init my-project --data", arguments, console)


def _check(project: Project, next_command: str, arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    path, out = Path(arguments.path), Path(arguments.out) if arguments.out else None
    with console.progress() as bars:
        result = stages.check(project, bars, out)
    console.stage(result)
    if arguments.fix:
        return _fix(project, out or project.workspace.root, result, arguments, console)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        console.error("this data would give a wrong result, or none; what is marked STOP above says what to do")
        return FAILED
    console.next_command(next_command, path)
    return OK


def _fix(project: Project, out: Path, checked: StageResult, arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages
    from medrail.console import shown

    with console.progress() as bars:
        result = stages.fix(project, out, bars)
    console.stage(result)
    if console.as_json:
        console.json({**checked.values, "fix": result.values})
    if result.failed:
        console.error("the corrected table would give a wrong result still; what is marked STOP is left to do by hand")
        return FAILED
    if project.bare:
        console.next_command("medrail init my-project --data", shown(Path(result.values["table"])))
    else:
        console.next_command("medrail run", arguments.path, sets=[*arguments.set, *stages.using(project, result)])
    return OK


def deidentify(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.cases.deidentify import deidentify as copy_without_identity
    from medrail.cases.deidentify import read_options
    from medrail.console import shown

    out = Path(arguments.out)
    options = read_options(arguments.keep, arguments.blank, Path(arguments.rules) if arguments.rules else None)
    linkage = Path(arguments.linkage) if arguments.linkage else None
    with console.progress() as bars:
        report = copy_without_identity(
            Path(arguments.source),
            out,
            options,
            linkage=linkage,
            dry_run=arguments.dry_run,
            progress=bars("De-identifying"),
        )
    did = "would be written (dry run: nothing was)" if arguments.dry_run else "written"
    console.line(f"{report.written} of {report.files} files {did}; patients: {len(report.patients)}")
    console.table(report.table())
    for title, rows in (("was not written", report.failed), ("was left out", report.left_out)):
        for number, reason in rows[:_NAMED]:
            console.line(f"  file {number} {title}: {reason}")
        if len(rows) > _NAMED:
            console.line(f"  and {len(rows) - _NAMED} more; deidentified.md and --json name all")
    for where, warning in sorted(report.warnings.items()):
        console.line(f"  ! {where}: {warning}")
    console.line(report.note)
    if not arguments.dry_run:
        console.line(f"-> {shown(out / 'deidentified.md')}")
    if linkage and not arguments.dry_run:
        console.line(f"-> {shown(linkage)}  (who is who, and the secret: keep it apart)")
    if console.as_json:
        console.json(report.to_dict())
    if not report.failed and not report.written:
        console.error(f"{arguments.source}: no image there that is read; name the folder that holds the images")
        return FAILED
    if not report.failed:
        return OK
    console.error("files that could not be copied safely were left out; they are named by number, see above")
    return FAILED
