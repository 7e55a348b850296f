"""A replica whose tokens come slower than its load explains."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.latency_inter_token import detect
from gpuward.agent.model import Gpu, Outcome, Process, Result, Sample, SeriesKey
from gpuward.agent.window import Window

REPLICA = {"service": "chat", "endpoint": "127.0.0.1:8000"}
SHIFT, EVIDENCE = "replica_inter_token_shift_ratio", "replica_inter_token_evidence_ratio"
SLOW = {
    "replica_inter_tokens_total": 1e6,
    "replica_inter_token_recent_seconds": 0.0115,
    "replica_inter_token_expected_seconds": 0.01,
    "replica_inter_token_shift_age_seconds": 60.0,
    SHIFT: 0.15,
    EVIDENCE: 1.2,
}


def window(values, *, processes=(), gpus=()):
    samples = [Sample(SeriesKey(s, **REPLICA), 1_000.0, v) for s, v in values.items()]
    return Window.of(samples, now_s=1_000.0, processes=processes, gpus=gpus)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        pytest.param({}, Outcome.BAD, id="slow beyond doubt"),
        pytest.param({EVIDENCE: 1.0}, Outcome.BAD, id="just enough evidence"),
        pytest.param({EVIDENCE: 0.99}, Outcome.DOUBTFUL, id="not quite enough"),
        pytest.param({EVIDENCE: 0.5}, Outcome.DOUBTFUL, id="half of it keeps a finding"),
        pytest.param({EVIDENCE: 0.49}, None, id="less than half of it"),
        pytest.param({SHIFT: 0.03}, Outcome.BAD, id="as small as is worth a ticket"),
        pytest.param({SHIFT: 0.029}, Outcome.DOUBTFUL, id="certain, and too small for one"),
        pytest.param({EVIDENCE: 0.0}, None, id="learning"),
        pytest.param({EVIDENCE: None}, Outcome.UNKNOWN, id="too few tokens to tell"),
        pytest.param({"replica_inter_tokens_total": None}, None, id="it counts no tokens"),
    ],
)
def test_detect(values, outcome):
    """Evidence and size must both be enough; half of the evidence keeps what is open."""
    known = {signal: value for signal, value in (SLOW | values).items() if value is not None}

    assert [f.outcome for f in detect(window(known))] == ([outcome] if outcome else [])


@pytest.mark.parametrize(
    ("silent_s", "outcome"),
    [
        pytest.param(2.0, Outcome.BAD, id="two pages missed are chance"),
        pytest.param(3.0, Outcome.UNKNOWN, id="three are suspect"),
        pytest.param(15.0, Outcome.UNKNOWN, id="as long as anything is remembered"),
    ],
)
def test_a_silent_page_proves_nothing(silent_s, outcome):
    """What was said last is no word on now: a finding stays as it is."""
    samples = [Sample(SeriesKey(s, **REPLICA), 1_000.0, v) for s, v in SLOW.items()]
    samples[0] = samples[0]._replace(at_s=1_000.0 - silent_s)
    (finding,) = detect(Window.of(samples, now_s=1_000.0))

    assert outcome is finding.outcome


def test_it_says_what_it_saw_and_since_when():
    (finding,) = detect(window(SLOW))

    assert finding.result is Result.WARN
    assert finding.since_s == 940.0
    assert finding.summary == (
        "Tokens of chat at 127.0.0.1:8000 come 15% slower than usual at this load:"
        " 11.5 ms, not 10.0 ms."
    )
    assert {e.name: (e.value, e.threshold) for e in finding.evidence} == {
        "inter_token": (0.0115, None),
        "inter_token_expected": (0.01, None),
        "inter_token_shift": (0.15, 0.03),
        "inter_token_evidence": (1.2, 1.0),
        "requests": (0.0, None),
    }


@pytest.mark.parametrize(
    ("serving", "gpu"),
    [
        pytest.param([("a", ("GPU-1",), "127.0.0.1:8000")], "GPU-1", id="one process"),
        pytest.param([("a", ("GPU-1",), "127.0.0.1:8001")], "", id="of the other replica"),
        pytest.param([("a", ("GPU-1", "GPU-2"), "127.0.0.1:8000")], "", id="on two GPUs"),
        pytest.param(
            [("a", ("GPU-1",), "127.0.0.1:8000"), ("b", ("GPU-2",), "127.0.0.1:8000")],
            "",
            id="two ranks",
        ),
    ],
)
def test_the_gpu_is_named_where_there_is_one(serving, gpu):
    """Service and address always; the key of the finding does not depend on who is found out."""
    processes = [
        Process(key, place, 1, gpus, service="chat", endpoint=endpoint)
        for place, (key, gpus, endpoint) in enumerate(serving, 100)
    ]
    card = Gpu("GPU-1", 0, "H100", "1B:00.0")
    (finding,) = detect(window(SLOW, processes=processes, gpus=(card,)))
    about = finding.subject

    assert (about.service, about.endpoint, about.gpu) == ("chat", "127.0.0.1:8000", gpu)
    assert bool(about.process) == bool(gpu)
