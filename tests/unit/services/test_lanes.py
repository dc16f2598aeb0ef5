"""Lanes: what ends, what fails, and what never comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tokenctl.services.lanes import Ended, Lane, Step

ENOUGH_S = 60.0
SOON_S = 0.05


def lane(*works: Callable[[], int], close: Callable[[], None] = lambda: None) -> Lane[int]:
    return Lane([Step(f"step {n}", work) for n, work in enumerate(works)], close)


def fail() -> int:
    raise RuntimeError("no")


def test_steps_come_in_order_and_the_lane_is_closed() -> None:
    closed = threading.Event()
    ended = list(lane(lambda: 1, lambda: 2, close=closed.set).ended(ENOUGH_S, None))
    assert [(one.name, one.value, one.error) for one in ended] == [("step 0", 1, None), ("step 1", 2, None)]
    assert closed.is_set()


def test_a_failure_ends_the_lane_and_closes_it() -> None:
    closed, reached = threading.Event(), threading.Event()

    def unwanted() -> int:
        reached.set()
        return 1

    ended = list(lane(fail, unwanted, close=closed.set).ended(ENOUGH_S, None))
    assert [(one.name, type(one.error)) for one in ended] == [("step 0", RuntimeError)]
    assert closed.is_set()
    assert not reached.is_set()


def test_a_step_that_hangs_is_given_up_and_does_not_keep_the_process() -> None:
    let_go, closed = threading.Event(), threading.Event()
    hanging = lane(lambda: 1, lambda: int(let_go.wait(ENOUGH_S)), lambda: 3, close=closed.set)
    ended = list(hanging.ended(SOON_S, None))
    assert [(one.name, one.value, one.hangs) for one in ended] == [("step 0", 1, False), ("step 1", None, True)]
    assert not closed.is_set()  # what it uses is not pulled away from under it
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "lane step 0")
    let_go.set()
    assert closed.wait(ENOUGH_S)


def test_nobody_waits_longer_than_everybody_may() -> None:
    let_go = threading.Event()
    [ended] = lane(lambda: int(let_go.wait(ENOUGH_S))).ended(ENOUGH_S, time.monotonic() + SOON_S)
    let_go.set()
    assert ended.hangs


def test_what_was_done_in_time_counts_however_late_one_looks() -> None:
    done = threading.Event()
    ready = lane(lambda: 1, close=done.set)
    assert done.wait(ENOUGH_S)
    assert [one.value for one in ready.ended(0.0, time.monotonic() - 1)] == [1]


def test_a_step_may_answer_nothing_much() -> None:
    assert not Ended("x", 0.0, value=0).hangs
