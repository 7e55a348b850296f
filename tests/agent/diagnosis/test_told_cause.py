"""What is told of a cause: one sentence, evidence for and against, answers in order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.detectors.latency_cause import detect
from gpuward.agent.hysteresis import State, Verdict, fold
from gpuward.agent.maintenance import Maintenance
from gpuward.agent.model import CauseDomain, Driver, Subject

SLOW = {
    "replica_inter_token_recent_seconds": 0.017,
    "replica_inter_token_shift_ratio": 0.36,
    "replica_inter_token_evidence_ratio": 2.0,
}
# More than five that wait for a GPU with room are an answer to the first question too.
QUEUE = {"replica_requests_waiting": 5, "replica_requests_running": 16}
HOT = {"gpu_clock_event_reasons": 0x20, "gpu_sm_clock_hertz": 1.2e9}


def told(window):
    (finding,) = detect(window)
    return finding


def texts(finding):
    return {fact.name: fact.text for fact in finding.evidence}


def test_a_person_understands_the_summary_at_night(node):
    assert told(node(SLOW | HOT)).summary == (
        "chat at h:8000 is slow: heat holds the clocks of a GPU down (GPU 0)."
    )


@pytest.mark.parametrize(
    ("changes", "beginning"),
    [
        pytest.param(SLOW | HOT, "chat at h:8000 is slow: ", id="slow"),
        pytest.param(HOT, "chat at h:8000 is at risk: ", id="not yet"),
        pytest.param(
            HOT | {"replica_tokens_total": 5}, "chat at h:8000 fails: ", id="nothing comes out"
        ),
        pytest.param(
            {"node_coordinator_silence_seconds": 90},
            "chat at h:8000 is out of sight: ",
            id="nothing is wrong with it",
        ),
        pytest.param(SLOW, "chat at h:8000 is slow, and why is undetermined: ", id="nobody knows"),
    ],
)
def test_the_summary_says_what_is_the_matter(node, changes, beginning):
    assert told(node(changes)).summary.startswith(beginning)


def test_a_verdict_belongs_to_the_rotation_of_its_cause(node):
    hot, queued = told(node(SLOW | HOT)), told(node(QUEUE))

    assert (hot.domain, hot.subject.gpu) == (CauseDomain.GPU, "GPU-1")
    assert (queued.domain, queued.action.name) == (CauseDomain.CAPACITY, "SCALE_UP")


def test_the_verdict_comes_first_then_the_runner_up(node):
    finding = told(node(SLOW | HOT | QUEUE))

    assert [fact.name for fact in finding.evidence[:3]] == ["verdict", "runner_up", "advice"]
    assert finding.evidence[0].text == "thermal"


def test_what_contradicts_is_always_shown(node):
    """Memory that keeps correcting errors is the cause, although tokens are as fast as ever."""
    facts = texts(told(node(HOT | {"gpu_sm_clock_hertz": 1.755e9})))

    assert facts["verdict"] == "thermal"
    assert facts["clock_low"].startswith("against: not so: the clock")
    assert facts["heat_slowdown"].startswith("for: heat")


def test_evidence_has_its_value_its_limit_its_source_and_its_time(node):
    (fact,) = [f for f in told(node(SLOW | HOT)).evidence if f.name == "clock_low"]

    assert (fact.value, fact.unit) == (1.2e9, "hertz")
    assert fact.threshold == pytest.approx(0.95 * 1.755e9)
    assert (fact.source, fact.at_s) == ("nvml", 1_000.0)


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        pytest.param(SLOW | HOT, ["yes", "no", "no", "no", "no"], id="the GPU"),
        pytest.param(QUEUE, ["no", "yes", "no", "no", "no"], id="the queue"),
        pytest.param(
            QUEUE | {"process_memory_reserved_bytes": None},
            ["unknown", "yes", "no", "no", "unknown"],
            id="without a tap",
        ),
        pytest.param(
            SLOW | {"upstream_latency_seconds_total": [20, 20, 20, 20, 60, 120]},
            ["no", "no", "no", "yes", "no"],
            id="the upstream",
        ),
        pytest.param(
            SLOW | {"replica_prompt_tokens_total": (500_000, 3_000.0)},
            ["no", "no", "yes", "no", "no"],
            id="the requests",
        ),
    ],
)
def test_the_runbook_is_answered_in_order(node, changes, answers):
    """What nobody looked at is unknown, and never no."""
    rows = [f for f in told(node(changes)).evidence if f.name.startswith("question_")]

    assert [row.name for row in rows] == [f"question_{number}" for number in range(1, 6)]
    assert [row.text.partition(":")[0] for row in rows] == answers


def test_an_upstream_is_named(node):
    slow = {"upstream_latency_seconds_total": [20, 20, 20, 20, 60, 120]}

    assert texts(told(node(slow)))["upstream"] == "vector_db"


def test_the_same_window_gives_the_same_verdict(node):
    changes = SLOW | HOT | QUEUE

    assert told(node(changes)) == told(node(changes))


def test_a_verdict_that_changes_is_the_same_finding(node):
    """One finding per replica: what was undetermined becomes heat on a GPU, under one key."""
    state, raised = State("i"), set()
    for second, changes in enumerate([SLOW] * 20 + [SLOW | HOT] * 20):
        said = Verdict("detector", tuple(detect(node(changes))))
        state, _ = fold(state, [said], 1_000.0 + second)
        raised |= {opened.finding_id for opened in state.open_findings}

    assert len(raised) == 1
    assert state.open_findings[0].finding.evidence[0].text == "thermal"


def test_planned_work_has_no_verdict(node):
    planned = Driver(up=True, maintenance=Maintenance(0.0, 2_000.0, "driver upgrade"))

    assert list(detect(node(SLOW | HOT, driver=planned))) == []


def test_each_replica_has_a_verdict_of_its_own(node, server):
    """Two replicas on two GPUs: what is wrong with one is not said of the other."""
    other = replace(server, key="vllm-2", pid=9, gpus=("GPU-2",), endpoint="h:8001")
    found = list(detect(node(SLOW | HOT, processes=(server, other))))

    assert [finding.subject for finding in found] == [
        Subject(gpu="GPU-1", service="chat", endpoint="h:8000")
    ]


def test_without_the_replica_of_a_process_the_service_is_judged(node, server):
    nameless = replace(server, service="search", endpoint="")
    changes = dict.fromkeys(
        ("replica_requests_total", "replica_page_failures_total", "replica_inter_tokens_total")
    )
    finding = told(node(HOT | changes, processes=(nameless,)))

    assert finding.summary.startswith("search is at risk: heat")
    assert finding.dedup_key == "service.latency.cause||||search"
