"""The command line's verbs: import the stage inside the verb, call one function, print, exit code.

Exit codes: 0 ok, 1 the work failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.arguments import build_parser
from medrail.cli_audit import audit
from medrail.cli_bundle import bundle
from medrail.cli_data import check, convert, deidentify, inspect
from medrail.cli_key import key
from medrail.cli_load import loadtest
from medrail.cli_runs import compare, evaluate, export, leaky, reproduce, slim, train, tune
from medrail.errors import ConfigError, MedrailError

if TYPE_CHECKING:
    from medrail.config import PacsConfig, ServeConfig
    from medrail.console import Console

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``medrail`` command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    from medrail.console import Console

    console = Console(as_json=getattr(arguments, "json", False))
    try:
        return VERBS[arguments.verb](arguments, console)
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
    extra = "serve" if name in serve else "loadtest" if name in {"locust", "psutil"} else "train,serve"
    return f"the package {name!r} is not installed. Install it with: pip install 'medrail[{extra}]'"


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
            minutes=arguments.minutes,
            progress=bars("Looking"),
        )
    console.line(f"Looked at {arguments.data}:")
    console.table(tuple(plan.facts))
    for title, sentences in (("Inferred", plan.inferred), ("Unsure, please look", plan.unsure)):
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


def prepare(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages

    # What the manifest says is not looked through for garbage three times more when Python ends.
    atexit.register(gc.freeze)
    scheduler = [f"prepare.scheduler={arguments.scheduler}"] if arguments.scheduler else []
    project = stages.open_project(arguments.path, [*arguments.set, *scheduler], accept_leak=arguments.accept_leak)
    with console.progress() as bars:
        result = stages.prepare_cases(project, bars)
    console.stage(result)
    if console.as_json:
        console.json(result.values)
    if result.failed:
        return FAILED
    console.next_command(leaky("medrail train", arguments), arguments.path, sets=arguments.set)
    return OK


def predict(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.bundle import load_bundle
    from medrail.console import shown
    from medrail.dicom_out import read_codes
    from medrail.predict import DISCLAIMER, find_inputs, predict_files
    from medrail.workspace import find_bundle

    out = Path(arguments.out)
    codes = read_codes(arguments.codes) if arguments.codes else None
    predictor = load_bundle(find_bundle(arguments.model), engine=arguments.engine)
    inputs = find_inputs(arguments.inputs, arguments.series, out=out)
    if arguments.roi and len(inputs) != 1:
        raise ConfigError(f"--roi with {len(inputs)} inputs", needed="one input, which the mask belongs to")
    with console.progress() as bars:
        answers = predict_files(
            predictor,
            inputs,
            out,
            roi=Path(arguments.roi) if arguments.roi else None,
            overlays=not arguments.no_overlays,
            dicom=not arguments.no_dicom,
            codes=codes,
            progress=bars("Predicting"),
        )
    failed = [answer for answer in answers if answer.reason]
    for answer in answers:
        console.line(f"{answer.input}: {answer.reason or answer.summary}")
    notes = Counter(note for answer in answers for note in answer.notes)
    for note, count in notes.items():
        console.line(f"{count} of {len(answers)}: {note}")
    kept = sum(answer.kept for answer in answers)
    unlike = sum(answer.unlike_training for answer in answers)
    console.line(
        f"\n{len(answers) - len(failed)} of {len(answers)} predicted with {predictor.bundle_id}"
        + (f", {unlike} of them unlike the training data" if unlike else "")
        + (f", {kept} of them by an earlier call" if kept else "")
        + f". {DISCLAIMER}"
    )
    console.line(f"-> {shown(out / 'predictions.csv')}")
    if console.as_json:
        console.json(
            {
                "bundle_id": predictor.bundle_id,
                "engine": str(predictor.taken),
                "succeeded": len(answers) - len(failed),
                "failed": [{"input": str(answer.input), "reason": answer.reason} for answer in failed],
                "unlike_training": [str(answer.input) for answer in answers if answer.unlike_training],
                "kept": kept,
                "notes": [{"input": str(answer.input), "note": note} for answer in answers for note in answer.notes],
                "out": str(out),
            }
        )
    return FAILED if failed else OK


def serve(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.config import SERVE_FILES, ServeConfig, load, serve_settings
    from medrail.serve.watch import is_models_folder
    from medrail.workspace import find_bundle

    project = Path(arguments.model)
    is_project = (project / "medrail.yaml").is_file()
    bundle = project if not is_project and is_models_folder(project) else find_bundle(project)
    configured = serve_settings(load(project).serve if is_project else ServeConfig(), arguments.set)
    settable = ("host", "port", "threads", "engine", "max_upload_mb", "open")
    given = {name: getattr(arguments, name) for name in settable}
    files = {name: getattr(configured, name) and str(project / getattr(configured, name)) for name in SERVE_FILES}
    typed = {name: getattr(arguments, name) for name in ("key_file", "tls_cert", "tls_key")}
    chosen = {name: value for name, value in ((files if is_project else {}) | given).items() if value is not None}
    options = configured.model_copy(update=chosen | {name: value for name, value in typed.items() if value})
    pacs = _pacs(options.pacs, project if is_project else Path(), arguments.pacs)
    options = options.model_copy(update={"pacs": pacs})
    log_dir = Path(arguments.log_dir) if arguments.log_dir else project / "logs" if is_project else None
    return _serve(bundle, options, log_dir, console)


def _pacs(configured: PacsConfig, folder: Path, url: str | None) -> PacsConfig:
    """With the address of the command line; its files are relative to the project, as all of a medrail.yaml's."""
    files = {name: getattr(configured, name) for name in ("credentials_file", "ca_file", "client_certificate")}
    found = {name: str(folder / file) for name, file in files.items() if file}
    return configured.model_copy(update=found | ({"url": url} if url else {}))


def _serve(
    bundle: Path, options: ServeConfig, log_dir: Path | None, console: Console, *, open_page: bool = False
) -> int:
    from medrail.config import SERVE_FILES
    from medrail.console import shown
    from medrail.serve import DISCLAIMER, Settings
    from medrail.serve import serve as serve_bundle
    from medrail.serve.keys import default_file

    def on_ready(url: str) -> None:
        console.line(f"\nServing {bundle}. {DISCLAIMER}")
        console.line(f"  page         {url}")
        console.line(f"  description  {url}docs")
        console.line(f"  try          curl -F file=@IMAGE {url}v1/predict/image")
        if options.pacs.url:
            console.line(f"  PACS         {url}v1/pacs")
        if log_dir:
            console.line(f"  log          {shown(log_dir)}")
        console.line("Ctrl-C ends it.")
        if open_page and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(url)  # without a browser it answers False, and the address stands above

    same = {name: value for name, value in options.model_dump().items() if name in Settings.model_fields}
    settings = Settings(
        **{name: value for name, value in same.items() if name not in SERVE_FILES},
        key_file=options.key_file or default_file(),
        **{name: getattr(options, name) or None for name in SERVE_FILES if name != "key_file"},
        log_dir=log_dir,
        log_to_stderr=log_dir is None or not sys.stderr.isatty(),  # a person reads the page's address, not JSON
    )
    serve_bundle(bundle, options.host, options.port, settings, on_ready)
    return OK


def run(arguments: argparse.Namespace, console: Console) -> int:
    from medrail import stages
    from medrail.console import shown

    project = stages.open_project(arguments.path, arguments.set, accept_leak=arguments.accept_leak)
    results: list[stages.StageResult] = []

    def report(result: stages.StageResult) -> None:
        results.append(result)
        console.stage(result)

    finished: dict[str, str | None] = {"run": None, "bundle": None}
    try:
        with console.progress() as bars:
            trained, bundle = stages.run_all(project, report, bars)
        finished = {"run": str(trained.folder), "bundle": str(bundle)}
    finally:
        if console.as_json:
            by_stage = {result.stage: {**result.values, "up_to_date": result.up_to_date} for result in results}
            console.json({**finished, "stages": by_stage})
    incomplete = [result for result in results if result.failed]
    for result in incomplete:
        console.error(f"finished, but {result.stage} left cases out: {result.summary}; they are named above")
    console.next_command("medrail serve", shown(bundle))
    return FAILED if incomplete else OK


def demo(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import typed
    from medrail.demo import TASKS, run_demo

    workspace = Path(arguments.workspace or Path("medrail-demo") / arguments.task)
    with console.progress() as bars:
        result = run_demo(TASKS[arguments.task], workspace, console.stage, bars)
    console.line(f"\nDone in {result.values['seconds']:.0f} s. What it made is in {workspace}")
    if console.as_json:
        console.json(result.values)
    console.line("\nThe same for your own data:")
    for command in ("medrail init my-project --data PATH-TO-YOUR-IMAGES", "medrail run my-project"):
        console.line(f"  {typed(command)}")
    if arguments.no_serve or console.as_json:
        console.next_command("medrail serve", workspace)
        return OK
    from medrail.config import ServeConfig

    console.line(f"\nSend the page this image: {result.files[0]}")
    options = ServeConfig(port=arguments.port)
    return _serve(Path(result.values["bundle"]), options, workspace / "logs", console, open_page=True)


VERBS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "init": init,
    "inspect": inspect,
    "convert": convert,
    "check": check,
    "deidentify": deidentify,
    "prepare": prepare,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "slim": slim,
    "export": export,
    "compare": compare,
    "reproduce": reproduce,
    "bundle": bundle,
    "predict": predict,
    "serve": serve,
    "key": key,
    "audit": audit,
    "loadtest": loadtest,
    "run": run,
    "demo": demo,
}


if __name__ == "__main__":
    sys.exit(main())
