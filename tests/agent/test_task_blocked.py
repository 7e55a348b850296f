"""Tasks that the kernel finds blocked inside the driver."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.task_blocked import detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import Event, FindingClass, Process
from gpuward.agent.window import Window

VLLM = Process(key="vllm.service", pid=77, start_ticks=1, unit="vllm.service")


def blocked(at_s, pid=77):
    text = "A task was blocked."
    values = {"blocked_seconds": 120.0}
    return Event("driver.task_blocked", at_s, f"{at_s}", pid=pid, text=text, values=values)


def seen(*events):
    return list(detect(Window.of(now_s=1_000.0, processes=[VLLM], events=events)))


def test_evidence():
    """It says how many tasks, for how long and whose: the wait began before the kernel told."""
    (finding,) = seen(blocked(990.0), blocked(991.0, pid=78), blocked(992.0))
    evidence = {fact.name: fact.text or fact.value for fact in finding.evidence}

    assert class_of(finding) is FindingClass.STORE
    assert finding.summary == "The kernel found 2 task(s) blocked inside the driver."
    assert finding.since_s == 870.0
    assert evidence == {
        "blocked_tasks": 2.0,
        "blocked_seconds": 120.0,
        "blocked_task": "vllm.service",
    }


@pytest.mark.parametrize(
    ("age_s", "is_open"),
    [pytest.param(300.0, True, id="five minutes"), pytest.param(300.1, False, id="longer")],
)
def test_how_long_it_stays(age_s, is_open):
    """The kernel repeats it every two minutes."""
    assert bool(seen(blocked(1_000.0 - age_s))) == is_open
