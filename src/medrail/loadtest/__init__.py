"""A service under load: how many users it serves, how fast, and when it gives up. No torch in the process.

In: the URL of a running service, a scenario, perhaps files to send.
Out: numbers with intervals for each step, and the sentence a thesis needs: "N users at p95 < 1 s"; JSON, CSV, a page.
The one function: ``load_test("http://127.0.0.1:8000", Plan())``. locust does the sending, in a process of its own,
because it patches Python's sockets for the whole process it runs in.
"""

from medrail.loadtest.outcome import Outcome
from medrail.loadtest.run import Plan, load_test
from medrail.loadtest.scenario import SCENARIOS

__all__ = ["SCENARIOS", "Outcome", "Plan", "load_test"]
