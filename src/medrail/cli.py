"""The command line: verbs only. Parse, import the stage inside the verb, call one function, print, exit code.

Exit codes: 0 ok, 1 the work failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail import __version__
from medrail.errors import ConfigError, MedrailError

if TYPE_CHECKING:
    from medrail.config import ServeConfig
    from medrail.console import Console
    from medrail.stages import Project

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
from raw images to a served model:
  medrail demo                              see the whole way on real images first
  medrail init my-project --data scans/     look at the data, write my-project/medrail.yaml
  medrail check my-project                  judge the data before trusting it
  medrail run my-project                    check, prepare, train, evaluate, export
  medrail predict my-project scan.nii.gz    answers as files
  medrail serve my-project                  answers over HTTP, with a page at /

`medrail VERB --help` explains each verb. Not a medical device: for research and education only.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``medrail`` command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    verb: Callable[[argparse.Namespace, Console], int] = arguments.verb
    from medrail.console import Console

    console = Console(as_json=getattr(arguments, "json", False))
    try:
        return verb(arguments, console)
    except ConfigError as error:
        console.error(str(error))
        return USAGE
    except MedrailError as error:
        console.error(str(error))
        return FAILED
    except ModuleNotFoundError as error:
        console.error(_missing_package(error))
        return FAILED
    except KeyboardInterrupt:
        console.error("interrupted; what was finished is kept, and the same command goes on from there")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`medrail ... | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        console.error(f"{error.filename or 'the system'}: {error.strerror or error}")
        return FAILED
    except Exception as error:
        if os.environ.get("MEDRAIL_DEBUG"):
            raise
        console.error(
            f"a fault in medrail itself ({type(error).__name__}). "
            "Set MEDRAIL_DEBUG=1 to see where, and please report it."
        )
        return FAILED


def _missing_package(error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    serve = {"fastapi", "uvicorn", "multipart", "onnxruntime"}
    extra = "serve" if name in serve else "train,serve"
    return f"the package {name!r} is not installed. Install it with: pip install 'medrail[{extra}]'"


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the reference page is generated from it."""
    parser = argparse.ArgumentParser(
        prog="medrail",
        description="From a folder of raw medical images to a defended, deployed model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"medrail {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_init(verbs)
    _add_stage(verbs, "check", check, "judge the data: what is missing, mislabelled, duplicated or leaking", _CHECK)
    _add_stage(verbs, "prepare", prepare, "raw images -> model-ready arrays; bad cases never stop the others", _PREPARE)
    training = _add_stage(
        verbs, "train", train, "prepared cases -> a run with its passport; resumes after a kill", _TRAIN
    )
    training.add_argument("--run", metavar="NAME", help="name of the run's folder below runs/ (default: counted on)")
    _add_stage(verbs, "evaluate", evaluate, "the trained network on patients it never saw, with intervals", _EVALUATE)
    _add_stage(verbs, "export", export, "a run -> a bundle: network, preprocessing, numbers, hashes", _EXPORT)
    _add_predict(verbs)
    _add_serve(verbs)
    _add_stage(verbs, "run", run, "check, prepare, train, evaluate, export; skips what is up to date", _RUN)
    _add_demo(verbs)
    return parser


_CHECK = """\
PATH is a project folder, a medrail.yaml, or a folder of images without one (then the layout is inferred).
Writes cases.csv and check.json. Exit code 1 on what would make a result wrong.

  medrail check my-project
  medrail check scans/
"""
_PREPARE = """\
Runs `prepare.steps` of the configuration on every case, in parallel. Cases that are up to date are skipped; those that
fail are named in failures.csv, and the others go on.

  medrail prepare my-project
  medrail prepare my-project --set prepare.workers=1
"""
_TRAIN = """\
Trains on the prepared cases of the train split, chooses the best epoch on the val split, never looks at the test split.
A run that was interrupted goes on; a finished one with the same configuration and data is kept.

  medrail train my-project
  medrail train my-project --set train.lr=1e-3 --set train.epochs=5

networks (model.name): tiny_cnn for small pictures and quick looks; resnet18 a strong default for classification;
resnet50 with much data; densenet121 the chest X-ray classic; efficientnet_b0 small to deploy; unet the default for
segmentation; segresnet for 3-D and larger data; dynunet the nnU-Net architecture, slowest and strongest.
"""
_EVALUATE = """\
PATH is a run's folder, or a project (its newest run). What is evaluated is the exported network with the bundle's own
preprocessing, on raw files: exactly what will be served.

  medrail evaluate my-project
  medrail evaluate my-project/runs/model-001 --set evaluate.split=val
"""
_EXPORT = """\
PATH is a run's folder, or a project (its newest run). The ONNX network must answer as the trained one on real cases, or
there is no bundle.

  medrail export my-project
  medrail export my-project --set export.version=2
"""
_RUN = """\
Every stage compares fingerprints of its configuration and data, and is skipped when nothing it depends on has changed.

  medrail run my-project
  medrail run my-project --set model.width=32
"""


def _add_verb(verbs: Any, name: str, verb: Callable[..., int], summary: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(verb=verb)
    return parser


def _add_stage(verbs: Any, name: str, verb: Callable[..., int], summary: str, text: str) -> argparse.ArgumentParser:
    parser = _add_verb(verbs, name, verb, summary, text)
    parser.add_argument("path", metavar="PATH", nargs="?", default=".", help="default: this folder")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key; repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")
    return parser


def _add_init(verbs: Any) -> None:
    text = """\
Data may be: class folders (scans/CLASS/*.png); a CSV with path, label or mask, patient, split; image/mask pairs by
folder or suffix; one folder of DICOM series per patient; a MedMNIST .npz. The file it writes runs as it is.

  medrail init my-project --data scans/
"""
    parser = _add_verb(verbs, "init", init, "look at the data and write a commented medrail.yaml", text)
    parser.add_argument("directory", metavar="DIR", help="project folder to make")
    parser.add_argument("--data", metavar="PATH", required=True, help="folder, CSV or npz of raw images; never changed")
    parser.add_argument("--task", choices=("classification", "segmentation"), help="default: told from the data")
    parser.add_argument("--force", action="store_true", help="overwrite an existing medrail.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_predict(verbs: Any) -> None:
    text = """\
MODEL is a bundle's folder, or a project (its newest bundle). INPUT is a file, or a folder: every image below it, and
each DICOM series as one image. Writes predictions.csv, masks on the raw grid (NIfTI) and overlays (PNG).

  medrail predict my-project scan.nii.gz -o answers/
  medrail predict bundles/model/1 dicom-folder/ -o answers/
"""
    parser = _add_verb(verbs, "predict", predict, "answers for files and folders, as files", text)
    parser.add_argument("model", metavar="MODEL", help="bundle, or project folder")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files or folders")
    parser.add_argument(
        "-o", "--out", metavar="OUT", default="predictions", help="folder to write; default: predictions"
    )
    parser.add_argument("--roi", metavar="MASK", help="region of interest, for models that crop to one; with one INPUT")
    parser.add_argument("--no-overlays", action="store_true", help="do not draw PNGs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_serve(verbs: Any) -> None:
    text = """\
MODEL is a bundle's folder, or a project (its newest bundle). The page is at /, the interface's description at /docs,
the route at POST /v1/predict/image. Never imports torch.

  medrail serve my-project
  curl -F file=@scan.nii.gz http://127.0.0.1:8000/v1/predict/image
"""
    parser = _add_verb(verbs, "serve", serve, "answers over HTTP, with a page for a person", text)
    parser.add_argument("model", metavar="MODEL", help="bundle, or project folder")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, help="default: 8000; 0: any free one")
    parser.add_argument("--threads", type=int, help="threads of the inference engine (default: all cores)")
    parser.add_argument("--max-upload-mb", type=float, help="largest upload (default: 512)")
    parser.add_argument(
        "--log-dir", metavar="DIR", help="folder of the log, a JSON line a request; default: logs/ of the project"
    )


def _add_demo(verbs: Any) -> None:
    text = """\
Trains on one real head (Colin27) and tests on another (MNI152), both shipped with medrail, with the same commands you
will use for your own data. segment: outline the brain in T1 MRI. classify: which anatomical plane a slice shows.

  medrail demo
  medrail demo --task classify --no-serve
"""
    parser = _add_verb(verbs, "demo", demo, "the whole way on real images, in minutes", text)
    parser.add_argument("--task", choices=("segment", "classify"), default="segment", help="default: segment")
    parser.add_argument("--workspace", metavar="DIR", help="folder to work in (default: medrail-demo/TASK)")
    parser.add_argument("--no-serve", action="store_true", help="stop before serving")
    parser.add_argument("--port", type=int, default=8000, help="of the page (default: 8000; 0: any free one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; stops before serving")


def init(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import shown
    from medrail.plan import init as write_project
    from medrail.plan import next_command

    with console.progress() as bars:
        plan, path = write_project(
            arguments.directory,
            arguments.data,
            force=arguments.force,
            task=arguments.task,
            progress=bars("Looking"),
        )
    console.line(f"Looked at {arguments.data}:")
    console.table(tuple(plan.facts))
    notes = {"Inferred": plan.inferred, "Unsure, please look": plan.unsure, "Other readings": plan.alternatives}
    for title, sentences in notes.items():
        if sentences:
            console.line(f"\n{title}:")
            console.bullets(sentences)
    console.line(f"\nWrote {shown(path)}")
    console.next_command(next_command(arguments.directory, plan))
    if console.as_json:
        console.json(
            {
                "config": str(path),
                "facts": dict(plan.facts),
                "inferred": plan.inferred,
                "unsure": plan.unsure,
                "alternatives": plan.alternatives,
            }
        )
    return OK


def check(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    path = Path(arguments.path)
    configured = path.suffix in (".yaml", ".yml") or (path / "medrail.yaml").is_file() or not path.exists()
    if configured:
        return _check(stages.open_project(path, arguments.set), f"medrail prepare {path}", console)
    if arguments.set:
        raise ConfigError("--set needs a configuration", where=str(path), remedy="`medrail init` writes one.")
    with stages.inferred_project(path) as project:
        console.line(f"{path} has no medrail.yaml; judged as `medrail init` would read it.")
        return _check(project, f"medrail init my-project --data {path}", console)


def _check(project: Project, next_command: str, console: Console) -> int:
    from medrail import stages

    with console.progress() as bars:
        result = stages.check(project, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        console.error("this data would give a wrong result, or none; see above what to do")
        return FAILED
    console.next_command(next_command)
    return OK


def prepare(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project = stages.open_project(arguments.path, arguments.set)
    with console.progress() as bars:
        result = stages.prepare_cases(project, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    console.next_command(f"medrail train {arguments.path}{_sets(arguments)}")
    return OK


def train(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project = stages.open_project(arguments.path, arguments.set)
    with console.progress() as bars:
        run, result = stages.train_run(project, arguments.run, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command(f"medrail evaluate {shown(run.folder)}")
    return OK


def evaluate(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project, run = stages.open_run(arguments.path, arguments.set)
    with console.progress() as bars:
        result = stages.evaluate_run(project, run, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    from medrail.console import shown

    console.next_command(f"medrail export {shown(run.folder)}")
    return OK


def export(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    project, run = stages.open_run(arguments.path, arguments.set)
    result = stages.export_run(project, run)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    from medrail.console import shown

    console.next_command(f"medrail serve {shown(Path(result.values['bundle']))}")
    return OK


def predict(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.bundle import load_bundle
    from medrail.console import shown
    from medrail.predict import DISCLAIMER, find_inputs, predict_files
    from medrail.workspace import find_bundle

    predictor = load_bundle(find_bundle(arguments.model))
    inputs = find_inputs(arguments.inputs)
    if arguments.roi and len(inputs) != 1:
        raise ConfigError(f"--roi with {len(inputs)} inputs", needed="one input, which the mask belongs to")
    out = Path(arguments.out)
    with console.progress() as bars:
        answers = predict_files(
            predictor,
            inputs,
            out,
            roi=Path(arguments.roi) if arguments.roi else None,
            overlays=not arguments.no_overlays,
            progress=bars("Predicting"),
        )
    failed = [answer for answer in answers if answer.reason]
    for answer in answers:
        console.line(f"{answer.input.path}: {answer.reason or answer.summary}")
    console.line(f"\n{len(answers) - len(failed)} of {len(answers)} predicted with {predictor.bundle_id}. {DISCLAIMER}")
    console.line(f"-> {shown(out / 'predictions.csv')}")
    if console.as_json:
        console.json(
            {
                "bundle_id": predictor.bundle_id,
                "succeeded": len(answers) - len(failed),
                "failed": [{"input": str(answer.input.path), "reason": answer.reason} for answer in failed],
                "out": str(out),
            }
        )
    return FAILED if failed else OK


def serve(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.config import ServeConfig, load
    from medrail.workspace import find_bundle

    bundle = find_bundle(arguments.model)
    project = Path(arguments.model)
    is_project = (project / "medrail.yaml").is_file()
    configured = load(project).serve if is_project else ServeConfig()
    given = {name: getattr(arguments, name) for name in ("host", "port", "threads", "max_upload_mb")}
    options = configured.model_copy(update={name: value for name, value in given.items() if value is not None})
    log_dir = Path(arguments.log_dir) if arguments.log_dir else project / "logs" if is_project else None
    return _serve(bundle, options, log_dir, console)


def _serve(bundle: Path, options: ServeConfig, log_dir: Path | None, console: Console) -> int:
    from medrail.console import shown
    from medrail.serve import DISCLAIMER, Settings
    from medrail.serve import serve as serve_bundle

    def on_ready(url: str) -> None:
        console.line(f"\nServing {bundle}. {DISCLAIMER}")
        console.line(f"  page         {url}")
        console.line(f"  description  {url}docs")
        console.line(f"  try          curl -F file=@IMAGE {url}v1/predict/image")
        if log_dir:
            console.line(f"  log          {shown(log_dir)}")
        console.line("Ctrl-C ends it.")

    settings = Settings(
        threads=options.threads,
        max_upload_mb=options.max_upload_mb,
        log_dir=log_dir,
        log_to_stderr=log_dir is None or not sys.stderr.isatty(),  # a person reads the page's address, not JSON
    )
    serve_bundle(bundle, options.host, options.port, settings, on_ready)
    return OK


def run(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages
    from medrail.console import shown

    project = stages.open_project(arguments.path, arguments.set)
    results = []

    def report(result: stages.StageResult) -> None:
        results.append(result)
        console.stage(result)

    with console.progress() as bars:
        finished, bundle = stages.run_all(project, report, bars)
    if console.as_json:
        by_stage = {result.stage: {**result.values, "up_to_date": result.up_to_date} for result in results}
        console.json({"run": str(finished.folder), "bundle": str(bundle), "stages": by_stage})
    console.next_command(f"medrail serve {shown(bundle)}")
    return FAILED if any(result.failed for result in results) else OK


def demo(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.demo import TASKS, run_demo

    workspace = Path(arguments.workspace or Path("medrail-demo") / arguments.task)
    with console.progress() as bars:
        result = run_demo(TASKS[arguments.task], workspace, console.stage, bars)
    console.line(f"\nDone in {result.values['seconds']:.0f} s. What it made is in {workspace}")
    if console.as_json:
        console.json(result.values)
    console.line("\nThe same for your own data:")
    console.line("  medrail init my-project --data PATH-TO-YOUR-IMAGES")
    console.line("  medrail run my-project")
    if arguments.no_serve or console.as_json:
        console.next_command(f"medrail serve {workspace}")
        return OK
    from medrail.config import ServeConfig

    console.line(f"\nSend the page this image: {result.files[0]}")
    return _serve(Path(result.values["bundle"]), ServeConfig(port=arguments.port), workspace / "logs", console)


def _sets(arguments: argparse.Namespace) -> str:
    return "".join(f" --set {entry}" for entry in arguments.set)


if __name__ == "__main__":
    sys.exit(main())
