"""The stages in order: configuration -> cases -> prepared data -> Run -> Evaluation -> Bundle.

``run_all(project)`` does them all; each stage compares fingerprints and skips what is up to date, so that a changed
setting redoes only what depends on it. Each stage can also be called alone, and each returns a ``StageResult`` that a
person can read. Heavy libraries are imported inside the stage that needs them.
"""

from medrail.stages.benchmarking import benchmark_run, benchmark_table
from medrail.stages.checking import check, fix, stop_on, using, write_cases
from medrail.stages.comparing import Wanted, compare_runs
from medrail.stages.evaluating import evaluate_run, leaked_cases, network
from medrail.stages.evaluating_group import Asked, evaluate_group
from medrail.stages.exporting import export_run, keeping_both
from medrail.stages.exporting_formats import export_formats
from medrail.stages.exporting_group import export_group
from medrail.stages.external import evaluate_external
from medrail.stages.grouping import train_group
from medrail.stages.preparing import prepare_cases, usable_cases
from medrail.stages.project import MakeProgress, Project, StageResult, inferred_project, open_project, open_run
from medrail.stages.reproducing import reproduce_run
from medrail.stages.slimming import slim_run, unslimmed
from medrail.stages.training import train_run
from medrail.stages.tuning import ranking, tune_project
from medrail.stages.whole import run_all

__all__ = [
    "Asked",
    "MakeProgress",
    "Project",
    "StageResult",
    "Wanted",
    "benchmark_run",
    "benchmark_table",
    "check",
    "compare_runs",
    "evaluate_external",
    "evaluate_group",
    "evaluate_run",
    "export_formats",
    "export_group",
    "export_run",
    "fix",
    "inferred_project",
    "keeping_both",
    "leaked_cases",
    "network",
    "open_project",
    "open_run",
    "prepare_cases",
    "ranking",
    "reproduce_run",
    "run_all",
    "slim_run",
    "stop_on",
    "train_group",
    "train_run",
    "tune_project",
    "unslimmed",
    "usable_cases",
    "using",
    "write_cases",
]
