"""All requests fail or hang: what own requests and counters say, both sides of each limit."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.service_outage import KIND, detect
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass, Gpu, Outcome, Process, Result, Sample, SeriesKey
from gpuward.agent.window import Window

NOW_S = 1_000.0
BAD, UNKNOWN, DOUBTFUL = Outcome.BAD, Outcome.UNKNOWN, Outcome.DOUBTFUL
STEADY_10 = [10.0 * second for second in range(301)]


def probes(address, answers, *, gateway=False, unreachable=0, late=0, last_s=995.0):
    """Own requests, oldest first: 1 was answered; so many last found nobody, or were late."""
    about = {"service": "chat", "endpoint": address}
    yield Sample(SeriesKey("endpoint_gateway", **about), NOW_S - 1, float(gateway))
    found_nobody = timed_out = 0
    for place, answer in enumerate(answers):
        at_s = last_s - 15.0 * (len(answers) - 1 - place)
        found_nobody += place >= len(answers) - unreachable
        timed_out += place >= len(answers) - late
        yield Sample(SeriesKey("endpoint_up", **about), at_s, float(answer))
        yield Sample(
            SeriesKey("endpoint_probes_unreachable_total", **about), at_s, float(found_nobody)
        )
        yield Sample(SeriesKey("endpoint_probes_timed_out_total", **about), at_s, float(timed_out))


def counters(until_s=NOW_S, **values):
    """Signals of the service, a value a second; a number never changed."""
    for signal, series in values.items():
        steady = series if isinstance(series, list) else [series] * 301
        for place, value in enumerate(steady):
            at_s = until_s - len(steady) + 1 + place
            yield Sample(SeriesKey(signal, service="chat"), at_s, float(value))


def requests(values, failed=0.0, **more):
    return counters(service_requests_total=values, service_requests_failed_total=failed, **more)


def found(*sources):
    window = Window.of([sample for each in sources for sample in each], now_s=NOW_S)
    return [(finding.outcome, finding) for finding in detect(window)]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([probes("a:1", [1, 0, 0])], [BAD], id="two in a row fail"),
        pytest.param([probes("a:1", [1, 1, 0])], [DOUBTFUL], id="one fails"),
        pytest.param([probes("a:1", [0, 0, 1])], [], id="answered again"),
        pytest.param([probes("a:1", [0, 0], last_s=NOW_S - 180)], [BAD], id="just fresh"),
        pytest.param([probes("a:1", [0, 0], last_s=NOW_S - 181)], [UNKNOWN], id="not asked lately"),
        pytest.param([probes("a:1", [])], [UNKNOWN], id="never asked"),
        pytest.param(
            [probes("a:1", [0, 0]), probes("a:2", [1, 1])], [], id="another replica answers"
        ),
        pytest.param(
            [probes("a:1", [0, 0]), probes("a:2", [])], [DOUBTFUL], id="another is not known"
        ),
        pytest.param([probes("a:1", [0, 0]), probes("a:2", [0, 0])], [BAD], id="no replica"),
        pytest.param(
            [probes("a:1", [1, 1]), probes("g", [0, 0], gateway=True)],
            [BAD],
            id="replicas answer, but users come through the gateway",
        ),
        pytest.param(
            [probes("a:1", [0, 0]), probes("g", [1, 1], gateway=True)],
            [],
            id="replicas of another node answer the gateway",
        ),
    ],
)
def test_own_requests(sources, expected):
    assert expected == [outcome for outcome, _ in found(*sources)]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([requests(STEADY_10)], [], id="requests end well"),
        pytest.param(
            [requests([0.0] * 291 + list(range(1, 11)), [0.0] * 291 + list(range(1, 11)))],
            [BAD],
            id="ten of ten fail",
        ),
        pytest.param(
            [requests([0.0] * 292 + list(range(1, 10)), [0.0] * 292 + list(range(1, 10)))],
            [DOUBTFUL],
            id="nine are too few",
        ),
        pytest.param(
            [requests([0.0] * 281 + list(range(1, 21)), [0.0] * 281 + list(range(1, 20)) + [19.0])],
            [BAD],
            id="19 of 20 fail",
        ),
        pytest.param(
            [requests([0.0] * 281 + list(range(1, 21)), [0.0] * 283 + list(range(1, 19)))],
            [],
            id="18 of 20 fail",
        ),
        pytest.param(
            [
                requests(STEADY_10[:271] + [2_700.0] * 30, service_requests_running=9.0),
                probes("a:1", [1, 1], last_s=NOW_S - 19),
            ],
            [],
            id="none ends, but an own request was just answered",
        ),
        pytest.param(
            [
                requests(STEADY_10[:271] + [2_700.0] * 30, service_requests_running=9.0),
                probes("a:1", [1, 1], last_s=NOW_S - 21),
            ],
            [BAD],
            id="none ends, and the answer is older than that",
        ),
        pytest.param(
            [requests(STEADY_10), probes("a:1", [0, 0])],
            [],
            id="users' requests end well, so the engine is only slow for us",
        ),
        pytest.param(
            [requests(STEADY_10), probes("g", [0, 0], gateway=True)],
            [BAD],
            id="the gateway fails, whatever ends in the engine",
        ),
        pytest.param([requests([])], [], id="nothing is known of it"),
        pytest.param([requests(0.0)], [DOUBTFUL], id="nobody asks"),
    ],
)
def test_counters(sources, expected):
    assert expected == [outcome for outcome, _ in found(*sources)]


@pytest.mark.parametrize(
    ("values", "more", "expected"),
    [
        pytest.param(
            STEADY_10[:271] + [2_700.0] * 30,
            {"service_requests_running": 9.0},
            [BAD],
            id="still for half a minute",
        ),
        pytest.param(
            STEADY_10[:272] + [2_710.0] * 29,
            {"service_requests_running": 9.0},
            [DOUBTFUL],
            id="a second less",
        ),
        pytest.param(
            STEADY_10[:271] + [2_700.0] * 30,
            {"service_requests_running": 0.0, "service_requests_waiting": 1.0},
            [BAD],
            id="one waits",
        ),
        pytest.param(
            STEADY_10[:271] + [2_700.0] * 30,
            {"service_requests_running": [9.0] * 300 + [0.0]},
            [DOUBTFUL],
            id="nobody is there any more",
        ),
        pytest.param(
            STEADY_10[:271] + [2_700.0] * 30,
            {"service_requests_running": 9.0, "service_tokens_total": STEADY_10},
            [DOUBTFUL],
            id="tokens come",
        ),
        pytest.param(
            [value / 100 for value in STEADY_10[:271]] + [27.0] * 30,
            {"service_requests_running": 1.0},
            [DOUBTFUL],
            id="few came before",
        ),
    ],
)
def test_a_service_that_stands_still(values, more, expected):
    assert expected == [outcome for outcome, _ in found(requests(values, **more))]


def ingress(ended, failed):
    """So many requests in the last ten seconds, as the ingress counts them."""
    for signal, count in (
        ("ingress_requests_total", ended),
        ("ingress_requests_failed_total", failed),
    ):
        key = SeriesKey(signal, service="chat", endpoint="i")
        yield Sample(key, NOW_S - 10, 0.0)
        yield Sample(key, NOW_S, float(count))


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([ingress(100, 100)], [BAD], id="all fail"),
        pytest.param([ingress(100, 94)], [], id="some do not"),
        pytest.param([ingress(9, 9)], [DOUBTFUL], id="too few to tell"),
        pytest.param([ingress(100, 100), requests(0.0)], [BAD], id="no engine ever saw them"),
        pytest.param(
            [ingress(100, 100), probes("a:1", [1, 1], last_s=NOW_S - 19)],
            [],
            id="an own request was just answered",
        ),
    ],
)
def test_ingress(sources, expected):
    assert expected == [outcome for outcome, _ in found(*sources)]


SLOW = {"service_tokens_total": STEADY_10}
LATE = list(probes("a:1", [1, 0, 0], late=2))


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([LATE, requests(0.0, **SLOW)], [DOUBTFUL], id="tokens come, so it is slow"),
        pytest.param([LATE, requests(0.0, service_tokens_total=9.0)], [BAD], id="no token comes"),
        pytest.param([LATE, requests(0.0)], [BAD], id="nobody counts tokens"),
        pytest.param(
            [probes("a:1", [1, 0, 0], late=1), requests(0.0, **SLOW)],
            [BAD],
            id="one failed at once",
        ),
        pytest.param(
            [LATE, probes("g", [1, 0, 0], gateway=True, late=2), requests(0.0, **SLOW)],
            [DOUBTFUL],
            id="slow behind the gateway",
        ),
        pytest.param(
            [
                probes("a:1", [1, 1]),
                probes("g", [1, 0, 0], gateway=True, late=2),
                requests(0.0, **SLOW),
            ],
            [BAD],
            id="the gateway alone hangs",
        ),
        pytest.param(
            [probes("g", [1, 0, 0], gateway=True, late=2), requests(0.0, **SLOW)],
            [BAD],
            id="it hangs, and no replica was asked",
        ),
    ],
)
def test_slow_is_not_out(sources, expected):
    """An engine of few places, each taken for minutes, answers nobody in ten seconds."""
    assert expected == [outcome for outcome, _ in found(*map(list, sources))]


@pytest.mark.parametrize(
    ("failures", "unreachable", "loudness"),
    [
        pytest.param(15, 15, FindingClass.TICKET, id="perhaps it is restarted"),
        pytest.param(16, 16, FindingClass.TICKET, id="still"),
        pytest.param(17, 17, FindingClass.PAGE, id="nobody restarts for four minutes"),
        pytest.param(2, 0, FindingClass.PAGE, id="somebody listens"),
        pytest.param(3, 2, FindingClass.PAGE, id="not only that nobody listens"),
    ],
)
def test_nobody_listens(failures, unreachable, loudness):
    """An engine that is started anew is no page; one that hangs is."""
    ((_, finding),) = found(probes("a:1", [1, *[0] * failures], unreachable=unreachable))

    assert loudness is class_of(finding)
    assert KIND.raise_after_s == 10.0


def test_it_says_what_it_rests_on():
    ((_, finding),) = found(probes("a:1", [1, 0, 0]), requests(0.0))

    assert finding.summary == "chat is out: a:1: requests fail."
    assert finding.since_s == 980.0
    facts = {fact.name: fact for fact in finding.evidence}
    assert facts["failed_own_requests"].value == 2
    assert facts["failed_own_requests"].text == "a:1: requests fail"
    assert facts["requests_ended"].value == 0


CARD = Gpu("GPU-1", 0, "H100", "1B")
FAIL, WARN = Result.FAIL, Result.WARN


def page(address, silent_s=None, *, ready=False, listens=False):
    """An engine by its page: it shows it, or has not been heard for so long."""
    about = {"service": "chat", "endpoint": address}
    told = {"replica_ready": float(ready), "replica_page_failures_total": 9.0}
    if silent_s is not None:
        told |= {"replica_silent_seconds": silent_s, "replica_listens": float(listens)}
    return [Sample(SeriesKey(signal, **about), NOW_S, value) for signal, value in told.items()]


def by_pages(*sources, processes=()):
    samples = [sample for each in sources for sample in each]
    window = Window.of(samples, now_s=NOW_S, gpus=(CARD,), processes=processes)
    return [(finding.outcome, finding.result) for finding in detect(window)]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        pytest.param([page("a:1", 239.0)], (UNKNOWN, Result.OK), id="it may be restarted"),
        pytest.param([page("a:1", 240.0)], (BAD, WARN), id="nobody is there: a ticket"),
        pytest.param([page("a:1", 899.0)], (BAD, WARN), id="still a ticket"),
        pytest.param([page("a:1", 901.0)], (BAD, FAIL), id="a page"),
        pytest.param([page("a:1", 899.0, listens=True)], (UNKNOWN, Result.OK), id="it may load"),
        pytest.param([page("a:1", 901.0, listens=True)], (BAD, WARN), id="it hangs: a ticket"),
        pytest.param([page("a:1", 300.0), page("a:2", ready=True)], None, id="another is well"),
        pytest.param(
            [page("a:1", 300.0), page("a:2")], (DOUBTFUL, Result.OK), id="another is loading"
        ),
        pytest.param([page("a:1", 300.0), page("a:2", 300.0)], (BAD, WARN), id="none is there"),
        pytest.param(
            [page("a:1", 300.0), probes("g", [1, 1], gateway=True)],
            None,
            id="users are served elsewhere",
        ),
        pytest.param(
            [page("a:1", 300.0), probes("a:1", [1, 1])], None, id="it answers, its page is wrong"
        ),
        pytest.param(
            [page("a:1", 300.0), probes("a:1", [])], (BAD, WARN), id="own requests tell nothing"
        ),
        pytest.param(
            [
                page("a:1", ready=True),
                requests([0.0] * 291 + list(range(1, 11)), [0.0] * 291 + list(range(1, 11))),
            ],
            (BAD, FAIL),
            id="a page that is well hides no errors",
        ),
    ],
)
def test_engines_that_are_missed(sources, expected):
    """Where nobody sends requests, a service whose engines are all silent too long is out."""
    assert by_pages(*sources) == ([expected] if expected else [])


def test_an_engine_that_loads_is_not_missed():
    loading = Process("vllm", 7, 1, ("GPU-1",))

    assert by_pages(page("a:1", 899.0), processes=(loading,)) == [(UNKNOWN, Result.OK)]
    assert by_pages(page("a:1", 900.0), processes=(loading,)) == [(BAD, WARN)]
