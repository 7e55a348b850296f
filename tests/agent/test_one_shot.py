"""What happened once, as a finding: an out-of-memory error with its cause and what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.model import Action, Event, Process, Sample, SeriesKey
from gpuward.agent.one_shot import one_shot
from gpuward.agent.window import Window

GIB = 2**30
PROCESS = Process("vllm:llama", 77, 5, gpus=("GPU-1",), tapped=True)


def finding_of(**values):
    event = Event(
        "process.memory.oom",
        990.0,
        "tap:1",
        gpu="GPU-1",
        process="vllm:llama",
        text="A request found no memory.",
        values=values,
    )
    return one_shot(event, Window.of(now_s=1_000.0, processes=[PROCESS]), "i-1").finding


PIECES = ("process.memory.fragmentation||GPU-1|vllm:llama|",)


@pytest.mark.parametrize(
    ("cache_gib", "neighbours_gib", "cause", "action", "causes"),
    [
        pytest.param(
            6, 0, "fragmentation", "restart_application", PIECES, id="the bytes were there"
        ),
        pytest.param(5, 6, "neighbour", "check_application", (), id="others could give them"),
        pytest.param(5, 5, "capacity", "scale_up", (), id="they were nowhere"),
    ],
)
def test_an_out_of_memory_error_carries_its_verdict(
    cache_gib, neighbours_gib, cause, action, causes
):
    """8 GiB were asked for, 2 were free; the own cache was flushed before the request failed.

    A restart is advised for pieces alone: it wins nothing that is in use or that others hold.
    """
    finding = finding_of(
        requested_bytes=8 * GIB,
        device_free_bytes=2 * GIB,
        cache_free_bytes=cache_gib * GIB,
        neighbours_releasable_bytes=neighbours_gib * GIB,
    )
    facts = {fact.name: fact for fact in finding.evidence}

    assert cause == facts["out_of_memory_cause"].text
    assert (action, causes) == (finding.action, finding.causes)
    assert (8 * GIB, "bytes") == (facts["requested_bytes"].value, facts["requested_bytes"].unit)
    assert neighbours_gib * GIB == facts["neighbours_releasable_bytes"].value


def test_an_error_of_unknown_size_has_no_verdict():
    finding = finding_of()

    assert finding.action is None
    assert ["event_text"] == [fact.name for fact in finding.evidence]


def helped(*, series=(), engine="", **values):
    """Return the action and what is said to help an error on a GPU of 80 GiB."""
    process = replace(PROCESS, engine=engine)
    event = Event(
        "process.memory.oom", 990.0, "tap:1", gpu="GPU-1", process=PROCESS.key, values=values
    )
    known = {
        "process_memory_reserved_bytes": 20 * GIB,
        "process_memory_stranded_bytes": 0,
        "process_memory_active_bytes": 14 * GIB,
        **dict(series),
    }
    samples = [
        Sample(SeriesKey(signal, gpu="GPU-1", process=PROCESS.key), 1_000.0, value)
        for signal, value in known.items()
    ]
    samples.append(Sample(SeriesKey("gpu_memory_total_bytes", gpu="GPU-1"), 1_000.0, 80 * GIB))
    window = Window.of(samples, now_s=1_000.0, processes=[process])
    finding = one_shot(event, window, "i-1").finding
    found = {
        one.name: one
        for one in finding.evidence
        if one.name.startswith(("remedy_", "gpu_memory_utilization"))
    }
    return finding.action, found


IN_PIECES = {"requested_bytes": 7 * GIB, "device_free_bytes": 2 * GIB, "cache_free_bytes": 6 * GIB}


def test_pieces_are_won_back_by_a_restart():
    """What was free when it failed counts, whatever is stranded now."""
    action, found = helped(**IN_PIECES)

    assert action is Action.RESTART_APPLICATION
    assert found["remedy_restart_bytes"].value == 6 * GIB
    assert "remedy_expandable_segments_bytes" in found


@pytest.mark.parametrize(
    ("private", "expected"),
    [
        pytest.param(5 * GIB, Action.RESTART_APPLICATION, id="some of it"),
        pytest.param(5 * GIB + 1, Action.CHECK_APPLICATION, id="hardly any"),
    ],
)
def test_no_restart_for_what_graphs_take_again(private, expected):
    action, _ = helped(series={"process_memory_private_pool_bytes": private}.items(), **IN_PIECES)

    assert action is expected


def test_no_restart_for_what_neighbours_hold():
    action, found = helped(
        requested_bytes=7 * GIB,
        device_free_bytes=2 * GIB,
        cache_free_bytes=0,
        neighbours_releasable_bytes=5 * GIB,
    )

    assert action is Action.CHECK_APPLICATION
    assert ["remedy_neighbours_empty_cache_bytes"] == list(found)
    assert found["remedy_neighbours_empty_cache_bytes"].value == 5 * GIB


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        pytest.param(
            "vllm", ["remedy_more_memory_bytes", "gpu_memory_utilization_change"], id="vLLM"
        ),
        pytest.param("", ["remedy_more_memory_bytes"], id="no engine that takes a share"),
    ],
)
def test_what_is_missing_is_told_where_it_is_nowhere(engine, names):
    """7 GiB were asked for, 2 + 1 could be had: 4 are missing, 0.06 of the GPU."""
    action, found = helped(
        engine=engine,
        requested_bytes=7 * GIB,
        device_free_bytes=2 * GIB,
        cache_free_bytes=GIB,
        neighbours_releasable_bytes=GIB,
    )

    assert action is Action.SCALE_UP
    assert names == list(found)
    assert found["remedy_more_memory_bytes"].value == 4 * GIB
    if engine:
        assert found["gpu_memory_utilization_change"].value == -0.06
