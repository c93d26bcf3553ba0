"""The whole way on two real heads that medrail ships: the same stages, with the same commands, as for one's own data.

In: a task of ``TASKS`` and a folder to work in. Out: a trained, evaluated, exported model and a prediction, and a
``StageResult`` whose values are the keys of ``medrail demo --json``.
The one function: ``run_demo(TASKS["segment"], folder)``.
"""

from medrail.demo.run import TASKS, DemoTask, run_demo

__all__ = ["TASKS", "DemoTask", "run_demo"]
