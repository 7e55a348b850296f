"""The driver does not answer: slow, stalled, hung."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.driver_unresponsive import KIND, detect
from gpuward.agent.model import Action, Driver, Event, Outcome, Result
from gpuward.agent.window import NOT_LOOKED, Window

BAD, DOUBTFUL = Outcome.BAD, Outcome.DOUBTFUL
WARN, FAIL = Result.WARN, Result.FAIL


@pytest.mark.parametrize(
    ("waiting_s", "state", "expected"),
    [
        pytest.param(0.0, "", [], id="it answers"),
        pytest.param(1.9, "", [], id="a moment"),
        pytest.param(2.0, "", [(DOUBTFUL, WARN)], id="slow opens nothing"),
        pytest.param(9.9, "D", [(DOUBTFUL, WARN)], id="slow, even asleep in the kernel"),
        pytest.param(10.0, "", [(BAD, WARN)], id="stalled at 10 s: a ticket"),
        pytest.param(10.0, "S", [(BAD, WARN)], id="an ordinary sleep is no proof"),
        pytest.param(10.0, "D", [(BAD, FAIL)], id="uninterruptible sleep is: a page"),
        pytest.param(59.9, "", [(BAD, WARN)], id="a GSP timeout of 45 s is over by now"),
        pytest.param(60.0, "", [(BAD, FAIL)], id="hung at 60 s: a page"),
        pytest.param(9_999.0, "", [(BAD, FAIL)], id="for hours"),
    ],
)
def test_detect(waiting_s, state, expected):
    """2, 10 and 60 s are the limits; D state proves a hang from 10 s on."""
    window = Window.of(
        now_s=10_000.0, driver=Driver(up=True, waiting_s=waiting_s, blocked_state=state)
    )

    assert [(f.outcome, f.result) for f in detect(window)] == expected


@pytest.mark.parametrize(
    ("waiting_s", "confirmed_by", "action"),
    [
        pytest.param(60.0, "", None, id="one process hangs: drain"),
        pytest.param(60.0, "a second process", Action.REBOOT_NODE, id="so does another"),
        pytest.param(59.0, "a second process", None, id="it may still answer"),
    ],
)
def test_reboot_is_advised_on_two_witnesses(waiting_s, confirmed_by, action):
    """A reboot stops every engine of the node; what is advised else is the kind's, to drain."""
    driver = Driver(up=True, waiting_s=waiting_s, confirmed_by=confirmed_by)
    (finding,) = detect(Window.of(now_s=1_000.0, driver=driver))

    assert finding.action is action
    assert KIND.action is Action.DRAIN_NODE


def test_evidence_says_which_call_hangs_where():
    driver = Driver(
        up=True,
        version="580.95.05",
        waiting_s=12.5,
        waiting_gpu="GPU-7",
        waiting_call="nvmlDeviceGetPowerUsage",
        blocked_state="D",
        wait_channel="rwsem_down_write_slowpath",
    )

    (finding,) = detect(Window.of(now_s=1_000.0, driver=driver))

    assert finding.since_s == 987.5
    assert {(e.name, e.value, e.text) for e in finding.evidence} == {
        ("driver_call_wait_seconds", 12.5, ""),
        ("driver_call", 0.0, "nvmlDeviceGetPowerUsage"),
        ("gpu", 0.0, "GPU-7"),
        ("driver_version", 0.0, "580.95.05"),
        ("thread_state", 0.0, "D"),
        ("wait_channel", 0.0, "rwsem_down_write_slowpath"),
    }


def test_it_stays_one_finding_when_another_gpu_waits_longest():
    keys = {
        finding.dedup_key
        for gpu in ("GPU-1", "GPU-2", "")
        for finding in detect(
            Window.of(now_s=100.0, driver=Driver(up=True, waiting_s=30.0, waiting_gpu=gpu))
        )
    }

    assert keys == {"driver.unresponsive||||"}


def test_nobody_looked_is_unknown():
    """When the sampler is dead the finding must not clear."""
    window = Window.of(now_s=100.0, driver=NOT_LOOKED)

    assert [finding.outcome for finding in detect(window)] == [Outcome.UNKNOWN]


def test_a_missing_driver_is_not_a_hung_one():
    window = Window.of(now_s=100.0, driver=Driver(up=False, reason="library not found"))

    assert list(detect(window)) == []


@pytest.mark.parametrize(
    ("age_s", "is_evidence"),
    [pytest.param(300.0, True, id="five minutes ago"), pytest.param(300.1, False, id="before")],
)
def test_what_the_kernel_itself_found_is_evidence(age_s, is_evidence):
    """It looks for blocked tasks every two minutes, and says whether the driver is in the stack."""
    told = Event("driver.task_blocked", 1_000.0 - age_s, "kmsg:1", pid=7, text="A task is blocked.")
    driver = Driver(up=True, waiting_s=30.0)
    (finding,) = detect(Window.of(now_s=1_000.0, driver=driver, events=[told]))

    texts = {fact.text for fact in finding.evidence if fact.name == "kernel_found_blocked_task"}
    assert texts == ({"A task is blocked."} if is_evidence else set())
