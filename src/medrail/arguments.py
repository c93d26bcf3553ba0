"""The words of the command line: verbs, arguments, and the help that explains them."""

from __future__ import annotations

import argparse
from typing import Any

from medrail import __version__

_EPILOG = """\
from raw images to a served model:
  medrail demo                              see the whole way on real images first
  medrail inspect scans/                    what is there, and what is wrong with it
  medrail init my-project --data scans/     look at the data, write my-project/medrail.yaml
  medrail check my-project                  judge the data before trusting it
  medrail run my-project                    check, prepare, train, evaluate, export
  medrail compare RUN RUN                   two runs on the same cases, tested
  medrail slim RUN                          faster and smaller, shown to be no worse
  medrail predict my-project scan.nii.gz    answers as files
  medrail serve my-project                  answers over HTTP, with a page at /
  medrail loadtest URL                      how many users it serves, and how fast

`medrail VERB --help` explains each verb. Not a medical device: for research and education only.
"""


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
    _add_inspect(verbs)
    _add_convert(verbs)
    checking = _add_stage(verbs, "check", "judge the data: what is missing, mislabelled, duplicated or leaking", _CHECK)
    checking.add_argument("-o", "--out", metavar="DIR", help="folder for what it writes; default: the project's")
    checking.add_argument(
        "--fix", action="store_true", help="write a corrected case table; never touches the originals"
    )
    preparing = _add_stage(
        verbs, "prepare", "raw images -> model-ready arrays; bad cases never stop the others", _PREPARE
    )
    preparing.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do the work, as tcp://10.0.0.5:8786"
    )
    _add_deidentify(verbs)
    training = _add_stage(verbs, "train", "prepared cases -> a run with its passport; resumes after a kill", _TRAIN)
    training.add_argument(
        "--minutes", metavar="N", type=float, help="train for so long: the epochs are chosen to fit (train.minutes)"
    )
    training.add_argument("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (train.device)")
    training.add_argument("--run", metavar="NAME", help="name of the run's folder below runs/ (default: counted on)")
    several = training.add_mutually_exclusive_group()
    several.add_argument("--seeds", metavar="N", type=_several, help="a group of N runs: train.seed and the next ones")
    several.add_argument("--folds", metavar="K", type=_several, help="a group of K runs: each case in the test once")
    tuning = _add_stage(
        verbs, "tune", "look for better settings, a training each; never looks at the test split", _TUNE
    )
    tuning.add_argument("--trials", metavar="N", help="trainings of the study in all (default: tune.trials)")
    tuning.add_argument("--minutes", metavar="M", help="begin none that would go on for longer (default: tune.minutes)")
    evaluating = _add_stage(
        verbs, "evaluate", "the trained network on patients it never saw, with intervals", _EVALUATE
    )
    evaluating.add_argument(
        "--data", metavar="OTHER", help="other data: a project, a medrail.yaml, or images; reports the drop"
    )
    slimming = _add_stage(
        verbs, "slim", "a faster, smaller run that is shown to be no worse on the same patients, or nothing", _SLIM
    )
    slimming.add_argument(
        "--ratio", metavar="R", type=_share, action="append", default=[], help="share to prune; repeatable"
    )
    slimming.add_argument("--metric", metavar="NAME", help="what must not get worse (default: auc, or dice)")
    slimming.add_argument("--margin", metavar="X", help="largest loss that counts as no worse (default: 0.01)")
    slimming.add_argument(
        "--target-latency-ms", metavar="T", help="take the best one that answers within T instead of the fastest"
    )
    exporting = _add_stage(verbs, "export", "a run -> a bundle: network, preprocessing, numbers, hashes", _EXPORT)
    exporting.add_argument(
        "--to",
        metavar="FORMAT",
        action="append",
        default=[],
        help="instead of a bundle: onnx, torchscript, openvino, triton; repeatable, or with commas between",
    )
    exporting.add_argument(
        "--benchmark", action="store_true", help="instead: time it in every format, engine and precision there is"
    )
    exporting.add_argument(
        "--replace", action="store_true", help="put it in the place of another run's bundle of the same version"
    )
    _add_compare(verbs)
    _add_reproduce(verbs)
    _add_bundle(verbs)
    _add_predict(verbs)
    _add_serve(verbs)
    _add_key(verbs)
    _add_audit(verbs)
    _add_loadtest(verbs)
    running = _add_stage(verbs, "run", "check, prepare, train, evaluate, export; skips what is up to date", _RUN)
    for parser_of_verb in (preparing, training, tuning, evaluating, slimming, exporting, running):
        parser_of_verb.add_argument("--accept-leak", action="store_true", help=_ACCEPT_LEAK)
    _add_demo(verbs)
    return parser


_CHECK = """\
PATH is a project folder, a medrail.yaml, or a folder of images without one (then the layout is inferred).
Writes check.json, check.html (one page with pictures) and, unless it stops, cases.csv. Exit code 1 on what would
make a result wrong.
Of a folder without medrail.yaml nothing is written, unless -o says where; --fix needs it then. -o lies outside the
data. Splits that such a folder gives are judged as they are; --set changes what is inferred, as split.by=patient.

--fix writes cases-fixed.csv (copies left out, near copies and patients kept together, splits drawn anew),
cases-left-out.csv with the reasons, and fix.md; then it judges the corrected table.

  medrail check my-project
  medrail check scans/ -o report/
  medrail check my-project --fix
"""
_PREPARE = """\
Runs `prepare.steps` of the configuration on every case, in parallel, with as many processes as cores and memory allow.
Cases that are up to date are skipped; those that fail are named in failures.csv, and the others go on. A case that runs
out of memory is tried again alone, one that hangs is given up after prepare.timeout_s. It may be interrupted or killed
at any time: what is done is kept, and the same command goes on.

  medrail prepare my-project
  medrail prepare my-project --set prepare.workers=1
  medrail prepare my-project --set prepare.store=npy          # plain .npy files for training code of your own
  medrail prepare my-project --scheduler tcp://10.0.0.5:8786  # on a cluster that sees the same folders
"""
_TRAIN = """\
Trains on the prepared cases of the train split, chooses the best epoch on the val split, never looks at the test split.
A run that was interrupted goes on; a finished one with the same configuration and data is kept.

  medrail train my-project
  medrail train my-project --set train.lr=1e-3 --set train.epochs=5
  medrail train my-project --seeds 5    # five runs in a group: what is luck of the seed?
  medrail train my-project --folds 5    # five runs in a group: every case is tested once
  medrail train my-project --minutes 10               # the first steps are measured, and the epochs chosen to fit
  medrail train my-project --device cuda:1            # auto takes the GPU with most free memory
  medrail train my-project --set train.devices=2      # two GPUs share each batch; or torchrun, for several machines

networks (model.name): tiny_cnn for small pictures and quick looks; resnet18 a strong default for classification;
resnet50 with much data; densenet121 the chest X-ray classic; efficientnet_b0 small to deploy; vit to compare with
a transformer; unet the default for segmentation; segresnet for 3-D and larger data; dynunet the nnU-Net architecture;
resenc_unet a deep residual encoder, slowest and strongest. dynunet and resenc_unet are trained with deep supervision.
"""
_TUNE = """\
Each trial is a training on the prepared cases, with settings drawn from `tune.space` (empty: a default one), and judged
on the val split; hopeless ones are ended early. The first trial is the configuration as it stands. What it finds lies
in tune/STUDY/: best.yaml, trials.csv, pictures, and a run a trial.

It may be interrupted or killed at any time: the same command goes on. Start it twice, and both work on one study;
`tune.storage` puts the study on a PostgreSQL server for several machines (its URL in MEDRAIL_TUNE_STORAGE, so that no
password stands in a file).

  medrail tune my-project
  medrail tune my-project --trials 50 --minutes 60
  medrail tune my-project --set tune.second=latency_ms
"""
_EVALUATE = """\
PATH is a run's folder, a project (its newest run), or a group's folder (train --seeds, --folds): then each member is
evaluated, and all together. What is evaluated is the exported network with the bundle's own preprocessing, on raw
files: exactly what will be served. Its cases are those of the split that the run was trained with (its cases.csv);
what was added to the data since is left out. Before, temperature, thresholds and what is unlike the training data are
fitted on the validation cases. evaluation/index.html of the run shows everything.

  medrail evaluate my-project
  medrail evaluate my-project/runs/model-001 --set evaluate.split=val
  medrail evaluate my-project/runs/model-seeds-001
  medrail evaluate my-project --data other-hospital/    # external test: written to the run's external/NAME/
"""
_SLIM = """\
PATH is a run's folder, or a project (its newest run). Candidates are made: channels pruned and fine-tuned, bf16 and
int8 where this machine computes in them, ONNX Runtime and OpenVINO where they are installed. Each answers the
validation cases and is timed end to end, in turns with the run as it was evaluated. Accepted is what is measured faster
and passes a test of non-inferiority by patient: a loss of the metric by the margin or more is ruled out at 5 %. The
fastest of these is asked of the test cases, once; if they agree, it becomes the run RUN-slim, else nothing changes
(exit code 1). What is found lies in the run's slim/: index.html, slim.json. What is finished is not done again.

  medrail slim my-project
  medrail slim my-project/runs/model-001 --ratio 0 --ratio 0.5 --metric auc --margin 0.02
  medrail slim my-project --target-latency-ms 20 --set slim.epochs=20
"""
_EXPORT = """\
PATH is a run's folder, a project (its newest run), or a group's folder: then the bundle holds the ensemble of its
members: of seeds calibrated and judged by itself, of folds with the members' numbers. The ONNX network must answer
as the trained one on real cases and have been evaluated with the present settings and data, or there is no bundle.
It lies in bundles/NAME/VERSION (name, export.version). A bundle of another run that lies there is kept, and the export
refused, unless --replace says that it may go.

--to writes the network for other programs, each with its facts.json, to exports/NAME/VERSION/ (triton/NAME/ for
Triton); each must answer as what was evaluated on real cases, or there is no file. --benchmark prints one table: time
with intervals, and what becomes of the answers on validation cases.

  medrail export my-project
  medrail export my-project --set export.version=2
  medrail export my-project --to onnx,torchscript,openvino,triton
  medrail export my-project --benchmark
"""
_RUN = """\
Every stage compares fingerprints of its configuration and data, and is skipped when nothing it depends on has changed.

  medrail run my-project
  medrail run my-project --set model.width=32
"""


_ACCEPT_LEAK = "go on although patients or images stand in training and in the test; every result says so"


def _add_verb(verbs: Any, name: str, summary: str, text: str, verb: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(verb=verb or name)
    return parser


def _add_stage(verbs: Any, name: str, summary: str, text: str) -> argparse.ArgumentParser:
    parser = _add_verb(verbs, name, summary, text)
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
    parser = _add_verb(verbs, "init", "look at the data and write a commented medrail.yaml", text)
    parser.add_argument("directory", metavar="DIR", help="project folder to make")
    parser.add_argument("--data", metavar="PATH", required=True, help="folder, CSV or npz of raw images; never changed")
    parser.add_argument("--task", choices=("classification", "segmentation"), help="default: told from the data")
    parser.add_argument("--minutes", metavar="N", type=float, help="plan for so much training; default: at most 30")
    parser.add_argument("--force", action="store_true", help="overwrite an existing medrail.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


# As medrail.cases.deidentify.KEEP, which is not imported here: help is quick.
_KEEP = (
    "dates",
    "shifted-dates",
    "uids",
    "patient-characteristics",
    "device",
    "institution",
    "descriptions",
    "safe-private",
)


def _add_deidentify(verbs: Any) -> None:
    text = """\
IN is a file or a folder of DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF or BMP. OUT is a new folder; the originals
are never changed. DICOM PS3.15 Basic Profile: names, dates, texts and private attributes go, UIDs are mapped. Each copy
is searched for the original's identifiers before it is written; exit code 1 if one fails, and then it is not written.
Faces in head scans and text drawn into the pixels are not found: see docs/how-to/deidentify.md.

  medrail deidentify scans/ -o clean/ --linkage secret/linkage.csv
  medrail deidentify scans/ -o clean/ --keep shifted-dates --keep patient-characteristics --blank 0,0,640,40
"""
    parser = _add_verb(verbs, "deidentify", "copies of images without who they are of", text)
    parser.add_argument("source", metavar="IN", help="file or folder of originals")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="new folder for the copies")
    parser.add_argument(
        "--keep", metavar="WHAT", choices=_KEEP, action="append", default=[], help=f"repeatable: {', '.join(_KEEP)}"
    )
    parser.add_argument(
        "--blank", metavar="X,Y,W,H", action="append", default=[], help="rectangle of pixels to blank; repeatable"
    )
    parser.add_argument("--rules", metavar="FILE", help="YAML: rectangles by modality, manufacturer, model, size")
    parser.add_argument("--linkage", metavar="FILE", help="CSV of old and new names, with the secret; outside of OUT")
    parser.add_argument("--dry-run", action="store_true", help="do everything but write")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_inspect(verbs: Any) -> None:
    text = """\
PATH is an image, a folder tree, a zip or a DICOMDIR; names and extensions do not matter. Each DICOM series and each
other image gets a verdict: ok; accepted (read, with defects that were accepted or repaired, because --on-defect says
so); refused. Every defect is named, with its evidence. Nothing is written, and nothing that identifies a patient is
shown. Exit code 1 when anything that claims to be an image is refused.

  medrail inspect scans/
  medrail inspect study.zip --on-defect resample
  medrail inspect /media/cd/DICOMDIR --headers-only
"""
    parser = _add_verb(verbs, "inspect", "what a file, folder or zip holds, and what is wrong with it", text)
    parser.add_argument("path", metavar="PATH", help="image, folder, zip or DICOMDIR; never changed")
    _add_on_defect(parser)
    parser.add_argument("--headers-only", action="store_true", help="do not decode pixels: quick, finds less")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_convert(verbs: Any) -> None:
    text = """\
Writes what medrail reads: real values (CT in HU), axes and spacing in RAS+ mm. Any other program can then compare. A
picture gets no orientation, and pixels of the size that its slide or DICOM header says, else of 1 mm. Colours become
the fourth axis.

  medrail convert series-folder/ -o ct.nii.gz
  medrail convert study.zip -o ct.nii.gz --series series-1a2b3c4d
"""
    parser = _add_verb(verbs, "convert", "one image as NIfTI: what medrail makes of it", text)
    parser.add_argument("path", metavar="PATH", help="image, folder, zip or DICOMDIR; never changed")
    parser.add_argument("-o", "--out", metavar="OUT.nii.gz", required=True, help="file to write")
    parser.add_argument("--series", metavar="ID", default="", help="which one, as `medrail inspect` calls it")
    _add_on_defect(parser)
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _add_on_defect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-defect",
        choices=("refuse", "resample", "accept"),
        default="refuse",
        help="what to do with a series that has a defect: default refuse; resample onto an even grid; accept as it is",
    )


def _add_compare(verbs: Any) -> None:
    text = """\
RUN is the folder of an evaluated run, of a group of seeds, or a project (its newest run); also of different projects.
The first is the reference. The runs must have been evaluated on the same cases: same ids, same images, same references.
Tests are paired and by patient: DeLong for AUC, McNemar for accuracy, permutation for the rest; all p-values are
corrected together (Holm). Writes compare.md, compare.csv, compare.json and pictures.

  medrail compare my-project/runs/model-001 my-project/runs/model-002
  medrail compare runs/model-001 runs/model-002 runs/model-003 --metric auc --reference runs/model-003
  medrail compare my-project --published auc=0.944,n=624,positives=390 --published accuracy=0.854,n=624
"""
    parser = _add_verb(verbs, "compare", "runs on the same cases: differences with intervals and tests", text)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="folder of a run, its external/NAME, a group, or project"
    )
    parser.add_argument("-o", "--out", metavar="DIR", help="folder to write; default: comparisons/NAME of the project")
    parser.add_argument("--reference", metavar="RUN", help="what the others are held against; default: the first")
    parser.add_argument(
        "--metric", metavar="NAME", action="append", default=[], help="what to test; repeatable; default: by task"
    )
    parser.add_argument(
        "--published",
        metavar="METRIC=VALUE,n=N",
        action="append",
        default=[],
        help="a published number, as auc=0.944,n=624; also positives=, low= and high=, sd=; repeatable",
    )
    parser.add_argument(
        "--common", action="store_true", help="where the test cases differ, compare on those in common, and say so"
    )
    parser.add_argument("--seed", type=int, default=0, help="of resamples and permutations (default: 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_reproduce(verbs: Any) -> None:
    text = """\
RUN is a run's folder, or a project (its newest run). Says first what is different now from what the run's passport and
record name: seed, configuration, data, code, environment. If it is the same experiment, the training is repeated with
the recorded thread count, precision and device. PASS: the same weights and the same numbers of every epoch, bit for
bit; or, where the machine, the device or a package is another one, validation metrics and answers within the tolerance.
FAIL (exit code 1) names what differs. The run itself is not touched.

  medrail reproduce my-project
  medrail reproduce my-project/runs/model-001 --json
"""
    parser = _add_verb(verbs, "reproduce", "train a run once more from its passport: PASS or FAIL, and why", text)
    parser.add_argument("path", metavar="RUN", nargs="?", default=".", help="default: the newest run of this folder")
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=_share,
        default=0.02,
        help="largest difference of a metric and of the answers in another environment (default: 0.02)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the second run, in runs/.reproduce-NAME")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_predict(verbs: Any) -> None:
    text = """\
MODEL is a bundle's folder, or a project (its newest bundle). INPUT is a file, or a folder: every image below it, and
each DICOM series as one image. Writes predictions.csv, a row as soon as it is known, masks on the raw grid (NIfTI) and
overlays (PNG); of classifiers that have it, also the evidence for the class decided for (NAME_evidence.png). Of DICOM
also a segmentation (NAME_seg.dcm) and a structured report (NAME_sr.dcm), which hold who the patient is.
A broken input is named and the others go on (exit code 1). The same command does only what is missing or has changed.

  medrail predict my-project scan.nii.gz -o answers/
  medrail predict bundles/model/1 dicom-folder/ -o answers/
"""
    parser = _add_verb(verbs, "predict", "answers for files and folders, as files", text)
    parser.add_argument("model", metavar="MODEL", help="bundle, or project folder")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image files or folders")
    parser.add_argument(
        "-o", "--out", metavar="OUT", default="predictions", help="folder to write; default: predictions"
    )
    parser.add_argument("--series", metavar="ID", default="", help="only this one of one INPUT, as inspect calls it")
    parser.add_argument("--no-dicom", action="store_true", help="of DICOM inputs no segmentation and report in DICOM")
    parser.add_argument("--codes", metavar="CSV", help="SNOMED CT codes of the classes, for these two")
    parser.add_argument("--roi", metavar="MASK", help="region of interest, for models that crop to one; with one INPUT")
    parser.add_argument("--no-overlays", action="store_true", help="do not draw PNGs")
    _add_engine(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


ENGINES = ("auto", "onnxruntime", "onnxruntime-cuda", "openvino")


def _add_engine(parser: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """``default`` None: what the configuration says."""
    text = "what runs the network (default: auto, what `medrail slim` chose, else the quickest that proves its answers)"
    parser.add_argument("--engine", choices=ENGINES, default=default, help=text)


def _add_serve(verbs: Any) -> None:
    text = """\
MODEL is a bundle's folder, a project (its newest bundle), or a folder of bundles NAME/VERSION, which is watched: a new
version takes over as soon as it has proved its answers. The page is at /, the interface's description at /docs,
the route at POST /v1/predict/image. Never imports torch. On another host than this machine's own it wants keys
(`medrail key add`), or --open. See docs/how-to/secure-the-service.md.

  medrail serve my-project
  medrail serve my-project --set serve.port=8001 --set serve.engine=onnxruntime
  medrail serve my-project --pacs http://127.0.0.1:8042/dicom-web
  curl -F file=@scan.nii.gz http://127.0.0.1:8000/v1/predict/image
"""
    parser = _add_verb(verbs, "serve", "answers over HTTP, with a page for a person", text)
    parser.add_argument("model", metavar="MODEL", help="bundle, project, or folder of bundles")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of serve.*; repeatable"
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=_port, help="default: 8000; 0: any free one")
    parser.add_argument("--threads", type=_threads, help="threads of one inference (default: as measured)")
    _add_engine(parser, None)
    parser.add_argument("--max-upload-mb", type=_megabytes, help="largest upload (default: 512)")
    parser.add_argument(
        "--log-dir", metavar="DIR", help="folder of the log, a JSON line a request; default: logs/ of the project"
    )
    parser.add_argument(
        "--open", action="store_true", default=None, help="other machines may ask without a key (serve.open)"
    )
    parser.add_argument("--keys", metavar="FILE", dest="key_file", help=_KEYS)
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM: HTTPS instead of HTTP")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, PEM, without a password")
    parser.add_argument(
        "--pacs",
        metavar="URL",
        help="DICOMweb root of a PACS, to list, pull and store: adds the routes /v1/pacs (needs medrail[dicom-out])",
    )


_KEYS = "file of keys (default: $MEDRAIL_KEYS, or medrail/keys.json of this user's configuration)"


def _add_key(verbs: Any) -> None:
    text = """\
Without keys the service answers this machine only. A key is shown once, when it is made; the file holds its hash. Send
it as `Authorization: Bearer KEY` or `X-API-Key: KEY`. A running service knows of a new or revoked key at once.

  medrail key add "Ward 3"
  medrail key add radiology --scope pacs
  medrail key add operator --scope admin
  medrail key list
  medrail key revoke 1f2e3d4c
"""
    parser = _add_verb(verbs, "key", "add, list or revoke the keys of the service", text)
    within = parser.add_subparsers(title="what to do", metavar="WHAT", dest="subverb", required=True)
    adding = _add_verb(
        within, "add", "make a key and print it, once", "  medrail key add operator --scope admin\n", "key"
    )
    adding.add_argument("name", metavar="NAME", help="for people: a person, a program, a ward")
    adding.add_argument(
        "--scope",
        choices=("predict", "pacs", "admin"),
        default="predict",
        help="predict: ask models (default); pacs: also list, answer and store what lies in the PACS; "
        "admin: both, and change what is served",
    )
    listing = _add_verb(within, "list", "all keys, without their secrets", "  medrail key list\n", "key")
    revoking = _add_verb(within, "revoke", "end a key", "  medrail key revoke 1f2e3d4c\n", "key")
    revoking.add_argument("key", metavar="ID", help="as `medrail key list` shows it, or the key's name")
    for inner in (adding, listing, revoking):
        inner.add_argument("--keys", metavar="FILE", help=_KEYS)
        inner.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_audit(verbs: Any) -> None:
    text = """\
`medrail serve` writes an audit log, a line a request, without names: docs/reference/audit.md says what is in it.

  medrail audit summary my-project/logs
  medrail audit summary my-project/logs --since 2026-11-01 --until 2026-11-30 -o report/
"""
    parser = _add_verb(verbs, "audit", "what a service was asked, how quickly it answered, and what", text)
    within = parser.add_subparsers(title="what to do", metavar="WHAT", dest="subverb", required=True)
    text = """\
PATH is a log folder, a project, or files of an audit log; rotated and compressed (.gz) ones are read, too. Lines that
cannot be read are counted and passed over. Counts by day, route, model, status and key, times by stage, answers by
class, refusals by kind. -o writes audit.html, a page with pictures, and audit.json.

  medrail audit summary my-project/logs
  medrail audit summary audit.jsonl audit.jsonl.1.gz --since 2026-11-27T08:00 --json
"""
    inner = _add_verb(within, "summary", "the log as tables and pictures", text, verb="audit")
    inner.add_argument("paths", metavar="PATH", nargs="+", help="log folder, project, or files of an audit log")
    inner.add_argument("-o", "--out", metavar="DIR", help="folder for audit.html and audit.json")
    inner.add_argument("--since", metavar="TIME", default="", help="2026-11-27 or 2026-11-27T14:30, in UTC")
    inner.add_argument("--until", metavar="TIME", default="", help="likewise; a day is meant with all of it")
    inner.add_argument("--json", action="store_true", help="one JSON object on stdout, the tables on stderr")


# As medrail.loadtest.SCENARIOS, which is not imported here: help is quick.
_SCENARIOS = ("images", "volumes", "mixed", "bad", "ramp")


def _add_loadtest(verbs: Any) -> None:
    text = """\
URL is a running service. Sends images, measures, and says how many users are served within a limit, with intervals.

Scenarios: images (1 to 8 users), volumes, mixed (also volumes, lists, and files that must be refused), bad (only what
must be refused), ramp (1, 2, 4, ... users until the service is full, then Poisson arrivals at 50 to 110 % of that).
A user sends, waits for the answer and sends again (closed loop). With --every, or --rate, arrivals are a Poisson
process that waits for nobody (open loop), and latency counts from the planned time of sending.
Writes loadtest.json, loadtest.csv and index.html. Exit code 1 if the service stopped answering. Load is sent to the URL
for minutes: only to a service that is yours.

  medrail loadtest http://127.0.0.1:8000
  medrail loadtest http://127.0.0.1:8000 --scenario ramp --input scans/
  medrail loadtest http://127.0.0.1:8000 --users 50,100,200 --every 10
  medrail loadtest https://lab.example --key-file key.txt --rate 5,10,20 --seconds 30
"""
    parser = _add_verb(verbs, "loadtest", "put a running service under load: how many users, how fast", text)
    parser.add_argument("url", metavar="URL", help="of a running service, as http://127.0.0.1:8000")
    parser.add_argument("--scenario", choices=_SCENARIOS, default="images", help="default: images")
    parser.add_argument(
        "--input", metavar="PATH", nargs="+", default=[], help="files or folders to send (default: invented images)"
    )
    parser.add_argument("--users", metavar="N,N", type=_counts, help="users of each step (default: by scenario)")
    parser.add_argument("--rate", metavar="R,R", type=_rates, help="instead: arrivals a second of each step")
    parser.add_argument(
        "--every", metavar="S", type=_seconds, help="with --users: each sends one in S seconds on average"
    )
    parser.add_argument("--think", metavar="S", type=_seconds, default=0.0, help="mean pause of a user after an answer")
    parser.add_argument("--seconds", metavar="S", type=_seconds, default=10.0, help="of each step (default: 10)")
    parser.add_argument(
        "--limit-ms", metavar="T", type=_seconds, default=1000.0, help="p95 must be below it (default: 1000)"
    )
    parser.add_argument(
        "--max-errors", metavar="X", type=_share, default=0.01, help="share of errors that is borne (default: 0.01)"
    )
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=30.0, help="of one request (default: 30)")
    parser.add_argument("--model", metavar="NAME", default="", help="NAME or NAME/VERSION (default: the service's)")
    parser.add_argument(
        "--pid", metavar="N", type=_count, help="the server's process here (default: who listens there)"
    )
    parser.add_argument("--key-file", metavar="FILE", help="file with the API key (default: MEDRAIL_API_KEY)")
    parser.add_argument("--ca-file", metavar="PEM", help="certificates to trust, for https")
    parser.add_argument("--insecure", action="store_true", help="trust any certificate")
    parser.add_argument("-o", "--out", metavar="DIR", default="loadtest", help="folder to write (default: loadtest)")
    parser.add_argument("--seed", type=int, default=0, help="of arrivals and invented images (default: 0)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


# As medrail.adopt.LAYOUTS and SCALES, which are not imported here: help is quick.
_LAYOUTS = ("NCHW", "NHWC", "NCDHW", "NDHWC")
_SCALES = ("0..255", "0..1", "-1..1", "imagenet", "caffe", "zscore")


def _add_bundle(verbs: Any) -> None:
    text = """\
`medrail export` makes bundles of trained runs; `import` makes one of a network that was trained elsewhere.

  medrail bundle import model.onnx --classes benign,malignant --layout NHWC --scale 0..1 --try image.png
  medrail bundle verify bundles/model/1
  medrail bundle show bundles/model/1
"""
    parser = _add_verb(verbs, "bundle", "import a network trained elsewhere; verify or show a bundle", text)
    within = parser.add_subparsers(title="what to do", metavar="WHAT", dest="subverb", required=True)
    _add_bundle_import(within)
    for name, summary in (
        ("verify", "check every file of a bundle against its SHA-256, and open the network"),
        ("show", "the bundle's card: what it does, how well, where it comes from"),
    ):
        inner = _add_verb(within, name, summary, f"  medrail bundle {name} bundles/model/1\n", verb="bundle")
        inner.add_argument("bundle", metavar="BUNDLE", help="bundle, or project folder (its newest bundle)")
        inner.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_bundle_import(within: Any) -> None:
    text = """\
MODEL is an ONNX file (Keras: tf2onnx; PyTorch: torch.onnx.export). What its maker knows and the file does not say must
be said: the classes in the order of the outputs, the layout, the scale of its numbers. A wrong scale makes wrong
answers and no error: try an image whose answer you know. The bundle is then served as any other; its card says that it
was not evaluated here. The file is opened in a process with limits of time and memory first.

  medrail bundle import model.onnx --classes benign,malignant --layout NHWC --scale 0..1 --try image.png
  medrail bundle import vgg.onnx --classes @labels.txt --layout NHWC --scale caffe --name brain -o my-project/bundles
  medrail bundle import unet.onnx --classes background,lesion --layout NCHW --steps steps.yaml --unit HU
"""
    parser = _add_verb(within, "import", "a network that was trained elsewhere -> a bundle", text, verb="bundle")
    parser.add_argument("model", metavar="MODEL", help="ONNX file, with its weights inside")
    parser.add_argument("--classes", metavar="A,B", required=True, help="names, or @FILE with one a line")
    parser.add_argument("--layout", choices=_LAYOUTS, required=True, help="PyTorch: NCHW; Keras: NHWC")
    parser.add_argument(
        "--scale",
        metavar="SCALE",
        choices=_SCALES,
        help=f"on what numbers it was trained: {', '.join(_SCALES)} (caffe: as Keras' VGG and ResNet, blue first)",
    )
    parser.add_argument("--steps", metavar="FILE", help="instead: all preprocessing, a YAML list as prepare.steps")
    parser.add_argument("--size", metavar="H,W", type=_sizes, help="where the file leaves it free; D,H,W of volumes")
    parser.add_argument("--channels", metavar="C", type=_count, help="where the file leaves them free")
    parser.add_argument("--color", choices=("rgb", "bgr", "grey"), help="of its colours (default: rgb; caffe: bgr)")
    parser.add_argument("--keep-aspect", action="store_true", help="pad to its size; default: stretch")
    parser.add_argument("--multi-label", action="store_true", help="an image may have none, one or several classes")
    parser.add_argument(
        "--answers",
        choices=("auto", "logits", "probabilities"),
        default="auto",
        help="what its last layer gives (default: auto, by the layer, else by its numbers)",
    )
    parser.add_argument("--output", metavar="NAME", default="", help="which output, where it has several")
    parser.add_argument(
        "--unit",
        choices=("uint8", "uint16", "HU", "SUV", "arbitrary"),
        default="uint8",
        help="of the raw images (default: uint8)",
    )
    parser.add_argument("-o", "--out", metavar="DIR", default="bundles", help="for NAME/VERSION (default: bundles)")
    parser.add_argument("--name", metavar="NAME", default="", help="default: the file's")
    parser.add_argument("--version", metavar="VERSION", default="1", help="default: 1")
    parser.add_argument("--about", metavar="TEXT", default="", help="for the card: trained on whom, by whom, licence")
    parser.add_argument(
        "--try", metavar="IMAGE", dest="try_", action="append", default=[], help="print its answer; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, progress on stderr")


def _add_demo(verbs: Any) -> None:
    text = """\
Trains on one real head (Colin27) and tests on another (MNI152), both shipped with medrail, with the same commands you
will use for your own data. segment: outline the brain in T1 MRI. classify: which anatomical plane a slice shows.

  medrail demo
  medrail demo --task classify --no-serve
"""
    parser = _add_verb(verbs, "demo", "the whole way on real images, in minutes", text)
    parser.add_argument("--task", choices=("segment", "classify"), default="segment", help="default: segment")
    parser.add_argument("--workspace", metavar="DIR", help="folder to work in (default: medrail-demo/TASK)")
    parser.add_argument("--no-serve", action="store_true", help="stop before serving")
    parser.add_argument("--port", type=_port, default=8000, help="of the page (default: 8000; 0: any free one)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout; stops before serving")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")
    return int(text)


def _several(text: str) -> int:
    if not text.isdecimal() or not 2 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs: 2 to 100")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: H,W or D,H,W")
    return tuple(int(part) for part in parts)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no count: 1 or more")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part.strip()) for part in text.split(","))


def _rates(text: str) -> tuple[float, ...]:
    return tuple(_seconds(part) for part in text.split(","))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return share


def _threads(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads: 0 (all cores) or more")
    return int(text)


def _megabytes(text: str) -> float:
    try:
        size_mb = float(text)
    except ValueError:
        size_mb = 0.0
    if not 0 < size_mb < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no size in MB: a number above 0")
    return size_mb
