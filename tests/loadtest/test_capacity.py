"""The sentence: what it calls served, and what it leaves open."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medrail.loadtest.capacity import Wanted, capacity
from medrail.loadtest.measure import Measured

WANTED = Wanted(1_000)


def test_the_capacity_is_the_largest_step_below_the_first_that_failed(make_step):
    steps = [make_step(8, 400, 30), make_step(1, 50), make_step(16, 900, 40), make_step(32, 1_800, 100)]
    found = capacity(steps, WANTED, "Here.")
    assert (found.users, found.at_least, found.undecided) == (16, False, 0)
    assert found.sentence.startswith("16 users at a time at p95 < 1 s: p95 900 ms [95 % interval 860 to 940], n = 1000")
    assert "With 32 users at a time it was no more: p95 1800 ms" in found.sentence
    assert found.sentence.endswith("Here.")


def test_where_nothing_failed_it_is_at_least_that(make_step):
    found = capacity([make_step(1, 50), make_step(2, 60)], WANTED, "")
    assert (found.users, found.at_least) == (2, True)
    assert found.sentence.startswith("At least 2 users")


def test_an_interval_over_the_limit_is_undecided(make_step):
    found = capacity([make_step(1, 50), make_step(2, 990, 20)], WANTED, "")
    assert (found.users, found.at_least, found.undecided) == (1, True, 2)
    assert "With 2 users at a time it was not decided" in found.sentence


def test_too_few_requests_with_fewer_users_are_no_doubt_of_more(make_step):
    few = {"latency_ms": {name: Measured(50.0, 40.0, None, 20) for name in ("p50", "p95", "p99")}}
    found = capacity([make_step(1, 50, **few), make_step(2, 60)], WANTED, "")
    assert found.users == 2


def test_nobody_is_served_above_a_step_that_failed(make_step):
    found = capacity([make_step(1, 2_000), make_step(2, 60)], WANTED, "")
    assert (found.users, found.at_least) == (0, False)
    assert found.sentence.startswith("p95 < 1 s was not reached with 1 user at a time (p95 2000 ms")


def test_quick_errors_are_not_served(make_step):
    wrong = {"errors": 50, "error_share": Measured(0.05, 0.03, 0.07, 1000)}
    assert WANTED.served(make_step(4, 10, **wrong)) is False
    assert Wanted(1_000, 0.1).served(make_step(4, 10, **wrong)) is True
    assert WANTED.served(make_step(4, None, errors=1000, error_share=Measured(1.0, 0.99, 1.0, 1000))) is False


def test_open_loops_speak_of_arrivals(make_step):
    found = capacity([make_step(100, 300, planned_rps=10.0)], WANTED, "")
    assert "10 requests/s in Poisson arrivals (100 users who send independently)" in found.sentence
    assert capacity([], WANTED, "") is None


DRAWN = st.tuples(st.integers(1, 64), st.floats(1, 3_000), st.floats(0, 500))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DRAWN, min_size=1, unique_by=lambda one: one[0]))
def test_whatever_the_steps_no_failed_one_lies_at_or_below_the_capacity(make_step, drawn):
    steps = [make_step(users, p95, half) for users, p95, half in drawn]
    found = capacity(steps, WANTED, "")
    assert all(WANTED.served(step) is not False for step in steps if step.users <= found.users)
    assert found.users == 0 or any(step.users == found.users and step.p95.high < 1_000 for step in steps)
