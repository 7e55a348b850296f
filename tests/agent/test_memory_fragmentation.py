"""When fragmentation is a finding: both sides of each limit, nothing for mere lack of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.detectors.memory_fragmentation import detect
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Action, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0
GPU = "GPU-0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a001"
KEY = "vllm:llama"
PROCESS = Process(KEY, 77, 5, gpus=(GPU,), engine="vllm", tapped=True)


def series(signal, *values, last_s=NOW):
    """Return one sample a second, the last at ``last_s``."""
    key = SeriesKey(signal, gpu=GPU, process=KEY)
    first_s = last_s - len(values) + 1
    return [Sample(key, first_s + second, value) for second, value in enumerate(values)]


def oom(*, requested, device_free, cache_free, ago_s=10.0, gpu=GPU, process=KEY):
    return Event(
        "process.memory.oom",
        NOW - ago_s,
        f"tap:{ago_s}",
        gpu=gpu,
        process=process,
        text="A request found no memory.",
        values={
            "requested_bytes": requested,
            "device_free_bytes": device_free,
            "cache_free_bytes": cache_free,
        },
    )


def window(
    *,
    reserved=40 * GIB,
    stranded=0.0,
    headroom=None,
    mean=None,
    ratios=None,
    retries=(0,),
    ooms=(0,),
    events=(),
    driver_used=None,
    processes=(PROCESS,),
    last_s=NOW,
    more=(),
):
    samples = [
        *more,
        *series("process_memory_reserved_bytes", reserved, last_s=last_s),
        *series("process_memory_stranded_bytes", stranded, last_s=last_s),
        *series("process_allocation_retries_total", *retries, last_s=last_s),
        *series("process_out_of_memory_total", *ooms, last_s=last_s),
    ]
    if headroom is not None:
        samples += series("process_memory_headroom_bytes", headroom, last_s=last_s)
    if mean is not None:
        samples += series("process_memory_mean_large_request_bytes", mean, last_s=last_s)
        ratios = [headroom / mean] * 3 if ratios is None else ratios
        samples += series("process_memory_headroom_ratio", *ratios, last_s=last_s)
    if driver_used is not None:
        samples += series("process_gpu_memory_bytes", driver_used, last_s=last_s)
    gpus = [Gpu(GPU, 0, "H100", "0000:01:00.0", serial="165")]
    return Window.of(samples, now_s=max(NOW, last_s), gpus=gpus, processes=processes, events=events)


def said(**facts):
    return [(finding.outcome.value, finding.result.value) for finding in detect(window(**facts))]


STORED = [("bad", "ok")]
WARN = [("bad", "warn")]
FAIL = [("bad", "fail")]
DOUBTFUL = [("doubtful", "warn")]
UNKNOWN = [("unknown", "fail")]


@pytest.mark.parametrize(
    ("reserved_gib", "stranded_gib", "expected"),
    [
        pytest.param(40, 0, [], id="none"),
        pytest.param(40, 3.19, [], id="below 8 %"),
        pytest.param(40, 3.21, DOUBTFUL, id="above 8 %: keeps, does not raise"),
        pytest.param(40, 3.99, DOUBTFUL, id="below 10 %"),
        pytest.param(40, 4, WARN, id="10 %"),
        pytest.param(40, 9.99, WARN, id="below 25 %"),
        pytest.param(40, 10, FAIL, id="25 %"),
        pytest.param(2, 0.79, [], id="40 % of little is little"),
        pytest.param(2, 0.81, DOUBTFUL, id="almost a GiB"),
        pytest.param(3, 0.999, DOUBTFUL, id="a GiB less a little"),
        pytest.param(3, 1, FAIL, id="a GiB"),
        pytest.param(8, 1, WARN, id="a GiB of eight"),
    ],
)
def test_share_of_stranded_memory(reserved_gib, stranded_gib, expected):
    """Ten percent warns, a quarter fails, from one GiB on; a fifth less keeps what is open."""
    assert expected == said(reserved=reserved_gib * GIB, stranded=stranded_gib * GIB)


@pytest.mark.parametrize(
    ("headroom", "mean", "stranded_gib", "expected"),
    [
        # 2.4 GiB of 40 are 6 %: too little for a finding of its own, enough to explain one.
        pytest.param(30, 1, 2.4, [], id="room for thirty requests"),
        pytest.param(29.9, 1, 2.4, DOUBTFUL, id="for less than thirty"),
        pytest.param(24, 1, 2.4, DOUBTFUL, id="for twenty-four"),
        pytest.param(23.9, 1, 2.4, STORED, id="for less, and one piece would do"),
        pytest.param(10, 1, 2.4, [], id="for ten, and one piece would not make it twenty-four"),
        pytest.param(17, 1, 2.4, DOUBTFUL, id="for seventeen, and one piece would almost do"),
        pytest.param(8, 1, 16, STORED, id="for eight"),
        pytest.param(7.9, 1, 2.4, FAIL, id="for less than eight, and one piece would do"),
        pytest.param(5.5, 1, 2.4, DOUBTFUL, id="for five, and one piece would almost make eight"),
        pytest.param(3.9, 1, 2.4, [], id="for three, and one piece would not"),
        pytest.param(0, 0.1, 2.4, FAIL, id="for none, but twenty-four are lost in pieces"),
    ],
)
def test_headroom_is_low_because_memory_is_in_pieces(headroom, mean, stranded_gib, expected):
    facts = {"reserved": 400 * GIB if stranded_gib == 16 else 40 * GIB}

    assert expected == said(
        stranded=stranded_gib * GIB, headroom=headroom * GIB, mean=mean * GIB, **facts
    )


@pytest.mark.parametrize(
    ("reserved_gib", "stranded_gib", "expected"),
    [
        pytest.param(4, 0.19, [], id="below 200 MiB explains nothing"),
        pytest.param(4, 0.24, DOUBTFUL, id="below 256 MiB"),
        pytest.param(4, 0.25, FAIL, id="256 MiB"),
        pytest.param(40, 0.79, [], id="2 % is normal for a server"),
        pytest.param(40, 0.99, DOUBTFUL, id="almost a GiB is doubtful whatever its share"),
        pytest.param(40, 1, FAIL, id="a GiB counts whatever its share"),
        pytest.param(18, 0.89, DOUBTFUL, id="below 5 %"),
        pytest.param(18, 0.91, FAIL, id="above 5 %"),
    ],
)
def test_how_much_explains_that_nothing_fits(reserved_gib, stranded_gib, expected):
    """Headroom for one request of 10 MiB; in one piece there would be room for twenty."""
    assert expected == said(
        reserved=reserved_gib * GIB,
        stranded=stranded_gib * GIB,
        headroom=GIB / 100,
        mean=GIB / 100,
    )


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        pytest.param([20, 20], [], id="two samples"),
        pytest.param([20, 20, 20], STORED, id="three"),
        pytest.param([20, 31, 20], [], id="one of the three was good"),
        pytest.param([31, 20, 20, 20], STORED, id="the fourth last does not count"),
        pytest.param([50, 50, 7], STORED, id="critical at once, and not for long"),
        pytest.param([7] * 3, FAIL, id="critical as long as is known"),
    ],
)
def test_low_headroom_must_last(ratios, expected):
    facts = {"headroom": 20 * GIB, "mean": GIB, "stranded": 30 * GIB, "reserved": 400 * GIB}

    assert expected == said(ratios=ratios, **facts)


def falls(mib_a_minute, minutes=40):
    """A floor of the headroom a minute, which falls to 2 GiB."""
    key = SeriesKey("process_memory_headroom_floor_bytes", gpu=GPU, process=KEY)
    return [
        Sample(key, NOW + 9_000 - 60.0 * ago, 2 * GIB + ago * mib_a_minute * MIB)
        for ago in reversed(range(minutes))
    ]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({}, STORED, id="room for ten, and it stays"),
        pytest.param({"floors": falls(100)}, FAIL, id="gone in twenty minutes"),
        pytest.param({"floors": falls(0)}, STORED, id="never fell"),
        pytest.param({"floors": falls(30)}, STORED, id="gone in more than was looked back"),
        pytest.param({"floors": falls(100), "ratios": [30, 10, 10]}, STORED, id="room just now"),
        pytest.param({"ratios": [7.9] * 3}, FAIL, id="hardly any room"),
        pytest.param({"ratios": [8, 7.9, 7.9]}, STORED, id="hardly more"),
        pytest.param({"ratios": [7.9] * 241}, FAIL, id="hardly any for four minutes"),
        pytest.param({"ratios": [8, *[7.9] * 241]}, FAIL, id="a little more, longer ago"),
        pytest.param({"retries": (1, 9)}, STORED, id="flushes, for once"),
        pytest.param({"retries": range(250)}, FAIL, id="flushes every minute"),
        pytest.param({"retries": [*[0] * 81, *range(180)]}, STORED, id="for three minutes only"),
        pytest.param({"retries": [*range(200), *[200] * 61]}, STORED, id="not any more"),
    ],
)
def test_what_costs_nobody_anything_is_no_ticket(facts, expected):
    """A third of the cache lies in pieces: a failure where it hurts, else stored and no ticket."""
    last = {"last_s": NOW + 9_000}
    floors = facts.pop("floors", ()) if (facts := dict(facts)) else ()
    found = window(
        reserved=30 * GIB,
        stranded=10 * GIB,
        headroom=2 * GIB,
        mean=GIB / 5,
        **last | {"ratios": [10] * 3} | facts,
        more=floors,
    )

    assert expected == [(one.outcome.value, one.result.value) for one in detect(found)]


@pytest.mark.parametrize(
    ("retries", "ooms", "stranded_gib", "expected"),
    [
        pytest.param((3, 3), (0, 0), 2.4, [], id="none new"),
        pytest.param((3, 4), (0, 0), 2.4, FAIL, id="a flush that helped"),
        pytest.param((3, 4), (0, 1), 2.4, [], id="a flush in vain is for the error to explain"),
        pytest.param((3, 4), (0, 0), 0.1, [], id="a flush with nothing stranded"),
        pytest.param((9, 0, 0), (0, 0, 0), 2.4, [], id="counter reset"),
        pytest.param((3, 4, *[4] * 60), (0,), 2.4, [], id="a minute ago"),
    ],
)
def test_flushes_of_the_cache(retries, ooms, stranded_gib, expected):
    assert expected == said(retries=retries, ooms=ooms, stranded=stranded_gib * GIB)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(
            oom(requested=100, device_free=40, cache_free=60), FAIL, id="the bytes were there"
        ),
        pytest.param(
            oom(requested=100, device_free=40, cache_free=59), [], id="they were not: capacity"
        ),
        pytest.param(
            oom(requested=100, device_free=40, cache_free=60, ago_s=60), FAIL, id="a minute ago"
        ),
        pytest.param(
            oom(requested=100, device_free=40, cache_free=60, ago_s=61), [], id="longer ago"
        ),
        pytest.param(
            oom(requested=100, device_free=40, cache_free=60, process="other"), [], id="another's"
        ),
        pytest.param(
            oom(requested=100, device_free=40, cache_free=60, gpu="GPU-1"), [], id="another GPU"
        ),
    ],
)
def test_an_out_of_memory_error(event, expected):
    assert expected == said(events=[event], stranded=60)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"driver_used": 40 * GIB}, FAIL, id="held"),
        pytest.param({"driver_used": 40 * GIB - 64 * 2**20}, FAIL, id="readings apart"),
        pytest.param({"driver_used": 39 * GIB}, UNKNOWN, id="asleep: counters lie"),
        pytest.param({"last_s": NOW - 10}, FAIL, id="ten seconds old"),
        pytest.param({"last_s": NOW - 10.1}, UNKNOWN, id="stale"),
        pytest.param({"processes": ()}, [], id="process gone"),
        pytest.param(
            {"processes": (Process(KEY, 77, 5, gpus=(GPU,)),)}, [], id="process without a tap"
        ),
    ],
)
def test_what_can_be_judged(facts, expected):
    assert expected == said(stranded=20 * GIB, **facts)


def test_a_full_gpu_is_not_fragmentation():
    """Everything is in use, nothing fits, requests fail: capacity, another kind's business."""
    assert (
        said(
            stranded=0.5 * GIB,
            headroom=0,
            mean=GIB,
            retries=(0, 1, 2),
            ooms=(0, 1, 2),
            events=[oom(requested=2 * GIB, device_free=0, cache_free=0.5 * GIB)],
        )
        == []
    )


def test_a_large_cache_is_not_fragmentation():
    """Most of it is reserved and not in use, but in whole segments: the gap alone says nothing."""
    assert said(reserved=70 * GIB, stranded=0, headroom=60 * GIB, mean=GIB) == []


def test_the_finding_names_process_gpu_and_figures():
    (finding,) = detect(
        window(
            reserved=20 * GIB,
            stranded=6 * GIB,
            headroom=2 * GIB,
            mean=GIB,
            retries=(1, 3),
            events=[oom(requested=5 * GIB, device_free=GIB, cache_free=6 * GIB)],
        )
    )

    about = finding.subject
    assert (finding.kind, about.process, about.pid, about.gpu, about.gpu_serial, about.engine) == (
        "process.memory.fragmentation",
        KEY,
        77,
        GPU,
        "165",
        "vllm",
    )
    assert [(fact.name, fact.value, fact.unit, fact.threshold) for fact in finding.evidence] == [
        ("process_memory_stranded_bytes", 6 * GIB, "bytes", GIB),
        ("process_memory_stranded_ratio", 0.3, "ratio", 0.10),
        ("process_memory_reserved_bytes", 20 * GIB, "bytes", None),
        ("process_memory_headroom_bytes", 2 * GIB, "bytes", None),
        ("process_memory_headroom_ratio", 2.0, "ratio", 24.0),
        ("process_memory_mean_large_request_bytes", GIB, "bytes", None),
        ("process_allocation_retries", 2.0, "1", 0.0),
        ("process.memory.oom", 5 * GIB, "bytes", None),
        ("remedy_restart_bytes", 6 * GIB, "bytes", None),
        ("remedy_expandable_segments_bytes", 6 * GIB, "bytes", None),
        ("remedy_max_split_size_bytes", 6 * GIB, "bytes", None),
        ("remedy_roundup_bytes", 6 * GIB, "bytes", None),
        ("remedy_more_memory_bytes", 22 * GIB, "bytes", None),
        ("remedies_in_kv_blocks", 0.0, "", None),
    ]
    assert finding.action is Action.RESTART_APPLICATION
    assert finding.summary == (
        "Process vllm:llama has 6.00 GiB of GPU memory stranded in a cache of 20.00 GiB; "
        "headroom 2.00 GiB."
    )


def test_no_restart_where_it_would_win_nothing():
    """The bytes were in pieces when the request failed; now hardly any are stranded."""
    (finding,) = detect(
        window(stranded=MIB, events=[oom(requested=100, device_free=40, cache_free=60)])
    )

    assert finding.action is Action.CHECK_APPLICATION
    assert not [fact for fact in finding.evidence if fact.name.startswith("remedy")]


def test_names_the_service():
    """Whoever is paged knows the service by name, the process hardly ever."""
    serving = replace(PROCESS, service="chat")

    (finding,) = detect(window(stranded=20 * GIB, processes=(serving,)))

    assert finding.subject.service == "chat"
    assert finding.summary.startswith("Process vllm:llama of chat has 20.00 GiB of GPU memory")


def test_kinds_are_listed():
    assert {"process.memory.fragmentation", "process.memory.oom"} <= KINDS.keys()


BADNESS = {
    (): 0,
    ("doubtful", "warn"): 1,
    ("bad", "ok"): 2,
    ("bad", "warn"): 3,
    ("bad", "fail"): 4,
}


@given(
    reserved=st.floats(0, 100 * GIB),
    share=st.floats(0, 1),
    more=st.floats(0, 1),
    headroom=st.floats(0, 50 * GIB),
    mean=st.floats(2**20, 4 * GIB),
    retries=st.integers(0, 2),
)
def test_more_stranded_memory_never_hides_a_finding(
    *, reserved, share, more, headroom, mean, retries
):
    facts = {"reserved": reserved, "headroom": headroom, "mean": mean, "retries": (0, retries)}
    stranded = share * reserved
    worse = stranded + more * (reserved - stranded)

    before = said(stranded=stranded, **facts)
    after = said(stranded=worse, **facts)
    assert BADNESS[before[0] if before else ()] <= BADNESS[after[0] if after else ()]
