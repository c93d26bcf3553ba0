"""What `medrail init` does: data -> a project that runs as it is.

In: a folder, a CSV or an npz of raw images, and the machine. Out: a ``Plan`` (a complete Config, what was measured,
inferred, and is unsure), and with a folder a commented medrail.yaml. At most 24 images are read.
The one function is ``init(directory, data_path)``; ``plan(data_path)`` is the same without writing.
"""

from medrail.plan.drawings import DRAWINGS
from medrail.plan.fingerprint import Fingerprint
from medrail.plan.layout import Layout
from medrail.plan.look import LOOKERS, look
from medrail.plan.machine import Machine, this_machine
from medrail.plan.planner import plan_config
from medrail.plan.project import init, next_command, project_config
from medrail.plan.proposal import Plan, plan
from medrail.plan.writer import config_text

__all__ = [
    "DRAWINGS",
    "LOOKERS",
    "Fingerprint",
    "Layout",
    "Machine",
    "Plan",
    "config_text",
    "init",
    "look",
    "next_command",
    "plan",
    "plan_config",
    "project_config",
    "this_machine",
]
