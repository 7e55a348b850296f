"""One endpoint that does not answer, and what it is that requests meet there."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_endpoint_failing import detect
from gpuward.agent.model import Gpu, Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

BAD, UNKNOWN, DOUBTFUL = Outcome.BAD, Outcome.UNKNOWN, Outcome.DOUBTFUL
COUNTERS = ("endpoint_probes_unreachable_total", "endpoint_probes_timed_out_total")


def window(answers, *, address="a:1", gateway=False, unreachable=(), timed_out=(), status=None):
    """A request each 15 s, the last one 5 s ago; counters as they were after each."""
    about = {"service": "chat", "endpoint": address}
    samples = [Sample(SeriesKey("endpoint_gateway", **about), 999.0, float(gateway))]
    for signal, values in (
        ("endpoint_up", answers),
        *zip(COUNTERS, (unreachable, timed_out), strict=True),
    ):
        samples += [
            Sample(SeriesKey(signal, **about), 995.0 - 15 * (len(values) - 1 - place), float(value))
            for place, value in enumerate(values)
        ]
    if status is not None:
        samples.append(Sample(SeriesKey("endpoint_status", **about), status[0], status[1]))
    return Window.of(samples, now_s=1_000.0)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param([1, 1], [], id="answers"),
        pytest.param([1, 0], [DOUBTFUL], id="once not"),
        pytest.param([1, 0, 0], [BAD], id="twice not"),
        pytest.param([0, 0, 1], [], id="again"),
        pytest.param([0], [DOUBTFUL], id="the first of all"),
        pytest.param([], [UNKNOWN], id="not asked"),
    ],
)
def test_detect(answers, expected):
    assert expected == [finding.outcome for finding in detect(window(answers))]


@pytest.mark.parametrize(
    ("about", "words"),
    [
        pytest.param({"unreachable": (4, 5, 6)}, "nobody listens there", id="refused"),
        pytest.param({"unreachable": (4, 4, 5)}, "requests fail", id="refused once"),
        pytest.param({"timed_out": (0, 1, 2)}, "requests are not answered in time", id="hangs"),
        pytest.param({"timed_out": (7, 7, 7)}, "requests fail", id="hung before"),
    ],
)
def test_words(about, words):
    (finding,) = detect(window([1, 0, 0], **about))

    assert finding.summary == f"Replica a:1 of chat: {words}."


def test_all_that_is_kept_has_failed():
    """How the first of them was counted is not known any more."""
    (finding,) = detect(window([0, 0, 0], timed_out=(8, 9, 10)))

    assert finding.summary.endswith("not answered in time.")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param((995.0, 503.0), [503.0], id="what it answered"),
        pytest.param((965.0, 200.0), [], id="of a request before the failure"),
        pytest.param(None, [], id="no answer at all"),
    ],
)
def test_status(status, expected):
    (finding,) = detect(window([1, 0, 0], status=status))

    assert expected == [fact.value for fact in finding.evidence if fact.name == "http_status"]


def test_it_follows_from_the_outage():
    (finding,) = detect(window([1, 0, 0], address="g", gateway=True))

    assert finding.summary.startswith("Gateway g of chat")
    assert finding.causes == ("service.outage||||chat",)
    assert finding.dedup_key == "service.endpoint.failing||||chat|g"


@pytest.mark.parametrize("is_asked", [False, True])
def test_an_engine_that_is_missed(is_asked):
    """It is told of once, whether requests of our own are sent there or not."""
    about = {"service": "chat", "endpoint": "a:1"}
    told = {"replica_ready": 0.0, "replica_silent_seconds": 300.0, "replica_listens": 0.0}
    if is_asked:
        told["endpoint_gateway"] = 0.0
    samples = [Sample(SeriesKey(signal, **about), 1_000.0, value) for signal, value in told.items()]
    found = detect(Window.of(samples, now_s=1_000.0, gpus=(Gpu("GPU-1", 0, "H100", "1B"),)))

    assert [(f.outcome, f.subject.endpoint, f.since_s, f.summary) for f in found] == [
        (
            BAD,
            "a:1",
            700.0,
            "Replica a:1 of chat: nobody listens there, and no process could be starting.",
        )
    ]
