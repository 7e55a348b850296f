"""How the memory of a GPU adds up, and the floors of a minute."""

from __future__ import annotations

import asyncio

import pytest

from gpuward.agent.model import Gpu, Process, Sample, SeriesKey
from gpuward.agent.samplers.memory_accounts import MemoryAccounts
from gpuward.agent.samplers.memory_floors import MemoryFloors
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0
GPU = "GPU-1"
H100 = Gpu(GPU, 0, "H100", "0")


def window(*, used=None, processes=None, count=None, gpu=GPU, degraded=()):
    """``processes``: NVML's GiB, the allocator's GiB, and how many tapped, by key."""
    samples = [
        Sample(SeriesKey("process_tap_degraded", gpu=gpu, process=key), NOW, 1.0)
        for key in degraded
    ]
    known = []
    if used is not None:
        samples.append(Sample(SeriesKey("gpu_memory_used_bytes", gpu=gpu), NOW, used * GIB))
    if count is not None:
        samples.append(Sample(SeriesKey("gpu_processes", gpu=gpu), NOW, count))
    for pid, (key, (held, reserved, tapped)) in enumerate((processes or {}).items()):
        for signal, value in (
            ("process_gpu_memory_bytes", held and held * GIB),
            ("process_memory_reserved_bytes", reserved and reserved * GIB),
            ("process_memory_tapped_processes", tapped),
        ):
            if value is not None:
                samples.append(Sample(SeriesKey(signal, gpu=gpu, process=key), NOW, value))
        known.append(Process(key, pid, 5, gpus=(gpu,), tapped=bool(tapped)))
    return Window.of(samples, now_s=NOW, gpus=[H100], processes=known)


def figures(found, *, sees_every_pid=True):
    """Return what the sampler says, by process and signal."""
    sampler = MemoryAccounts(lambda _: found, sees_every_pid=sees_every_pid)
    batch = asyncio.run(sampler.sample(NOW))
    return {(one.key.process, one.key.signal): one.value for one in batch.samples}


def test_seen_and_blind_processes():
    said = figures(
        window(used=70, count=2, processes={"vllm": (48, 46, 1), "triton": (16, None, None)})
    )

    assert said == {
        ("vllm", "process_tapped"): 1,
        ("vllm", "process_memory_virtual"): 0,
        ("vllm", "process_memory_overhead_bytes"): 2 * GIB,
        ("triton", "process_tapped"): 0,
        ("", "gpu_memory_tapped_ratio"): 0.75,
        ("", "gpu_memory_explained_ratio"): 48 / 70,
        ("", "gpu_memory_blind_bytes"): 16 * GIB,
        ("", "gpu_memory_degraded_bytes"): 0,
        ("", "gpu_memory_zombie_bytes"): 0,
        ("", "gpu_memory_unattributed_bytes"): 6 * GIB,
    }


@pytest.mark.parametrize(
    ("reserved", "virtual", "overhead"),
    [
        pytest.param(47, 0, GIB, id="held"),
        pytest.param(48 + 1 / 16, 0, 0, id="64 MiB more: readings apart"),
        pytest.param(48 + 1 / 15, 1, None, id="more: asleep"),
    ],
)
def test_memory_that_is_not_mapped(reserved, virtual, overhead):
    said = figures(window(used=48, count=1, processes={"vllm": (48, reserved, 1)}))

    assert virtual == said["vllm", "process_memory_virtual"]
    assert overhead == said.get(("vllm", "process_memory_overhead_bytes"))


def test_no_overhead_where_not_all_of_a_name_are_tapped():
    """NVML sums both workers, the tap saw one: the other's memory is no overhead."""
    found = window(used=48, count=2, processes={"vllm": (48, 24, 2)})

    assert ("vllm", "process_memory_overhead_bytes") not in figures(found)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"used": 9, "count": 0}, 9 * GIB, id="no process at all"),
        pytest.param({"used": 9}, None, id="processes were not listed"),
        pytest.param({"count": 0}, None, id="used is unknown"),
        pytest.param({"used": 9, "count": 1}, None, id="whose memory is not told"),
        pytest.param(
            {"used": 9, "count": 2, "processes": {"a": (4, None, None), "b": (None,) * 3}},
            None,
            id="one of two is not told",
        ),
        pytest.param(
            {"used": 3, "count": 1, "processes": {"a": (4, None, None)}}, 0, id="readings apart"
        ),
    ],
)
def test_what_nobody_holds(facts, expected):
    assert expected == figures(window(**facts)).get(("", "gpu_memory_unattributed_bytes"))


ZOMBIES = {"vllm": (4, 3, 1), "unidentified": (5, None, None)}


def test_what_the_dead_hold_is_nobodys():
    said = figures(window(used=10, count=2, processes=ZOMBIES))

    assert said["", "gpu_memory_zombie_bytes"] == 5 * GIB
    assert said["", "gpu_memory_unattributed_bytes"] == 6 * GIB
    assert said["", "gpu_memory_tapped_ratio"] == 1.0
    assert ("unidentified", "process_tapped") not in said


def test_in_a_pid_namespace_of_its_own_the_agent_calls_nobody_dead():
    """There it sees hardly any process, and those that it does not see hold their memory."""
    found = window(used=10, count=2, processes=ZOMBIES)
    said = figures(found, sees_every_pid=False)

    assert ("", "gpu_memory_zombie_bytes") not in said
    assert said["", "gpu_memory_unattributed_bytes"] == GIB
    assert said["unidentified", "process_tapped"] == 0


@pytest.mark.parametrize(
    ("processes", "zombies", "nobodys"),
    [
        pytest.param({"unidentified": (5, None, None)}, 5 * GIB, 9 * GIB, id="all are dead"),
        pytest.param({"unidentified": (None,) * 3}, None, 9 * GIB, id="nor is it told how much"),
        pytest.param(
            {"unidentified": (5, None, None), "a": (None,) * 3}, 5 * GIB, None, id="one may hold it"
        ),
    ],
)
def test_the_dead_alone(processes, zombies, nobodys):
    said = figures(window(used=9, count=len(processes), processes=processes))

    assert zombies == said.get(("", "gpu_memory_zombie_bytes"))
    assert nobodys == said.get(("", "gpu_memory_unattributed_bytes"))


def test_while_processes_are_not_listed_nobody_is_dead():
    assert ("", "gpu_memory_zombie_bytes") not in figures(window(used=9))


def test_an_idle_process_is_not_out_of_sight():
    """Its tap lives, and what it said last is still so."""
    said = figures(window(used=20, count=2, processes={"a": (4, 3, 1), "b": (12, None, 1)}))

    assert said["", "gpu_memory_tapped_ratio"] == 1.0
    assert said["", "gpu_memory_explained_ratio"] == 0.8
    assert said["b", "process_tapped"] == 0


def test_a_tap_that_must_not_ask():
    """It is neither seen nor blind."""
    found = window(used=20, count=2, processes={"a": (4, 3, 1), "b": (12, None, 1)}, degraded=["b"])
    said = figures(found)

    assert said["", "gpu_memory_degraded_bytes"] == 12 * GIB
    assert said["", "gpu_memory_blind_bytes"] == 0
    assert said["", "gpu_memory_tapped_ratio"] == 0.25
    assert said["b", "process_tapped"] == 0


def test_no_more_than_all_is_explained():
    """Processes have grown since the GPU was read."""
    said = figures(window(used=3, count=1, processes={"a": (4, 3, 1)}))

    assert said["", "gpu_memory_explained_ratio"] == 1.0


def floors(values, *, last_s=NOW, signal="process_memory_requested_bytes", apart_s=1.0):
    key = SeriesKey(signal, gpu=GPU, process="vllm")
    samples = [
        Sample(key, last_s - apart_s * back, value) for back, value in enumerate(reversed(values))
    ]
    found = Window.of(samples, now_s=NOW)
    batch = asyncio.run(MemoryFloors(lambda _: found).sample(NOW))
    return {one.key.signal: one.value for one in batch.samples}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([9.0] * 30 + [4.0] + [9.0] * 29, 4.0, id="the least"),
        pytest.param([1.0] + [9.0] * 61, 9.0, id="over a minute ago is not of this minute"),
        pytest.param([9.0] * 30, 9.0, id="half a minute is enough"),
        pytest.param([9.0] * 29, None, id="less is not"),
    ],
)
def test_the_floor_of_a_minute(values, expected):
    assert expected == floors(values).get("process_memory_requested_floor_bytes")


def test_a_process_that_is_gone_has_no_floor():
    assert {} == floors([9.0] * 40, last_s=NOW - 10.1)


def test_overhead_comes_every_five_seconds():
    said = floors([3.0, 2.0] * 3, signal="process_memory_overhead_bytes", apart_s=5.0)

    assert {"process_memory_overhead_floor_bytes": 2.0} == said


@pytest.mark.parametrize(
    ("used_then", "unattributed"),
    [pytest.param(10, 0, id="all of it listed"), pytest.param(12, 2, id="not all of it")],
)
def test_used_is_compared_as_of_the_list(used_then, unattributed):
    """Processes were listed 4 s ago; what a model being loaded took since is not nobody's."""
    vllm = Process("vllm", 7, 5, gpus=(GPU,))
    found = Window.of(
        [
            Sample(SeriesKey("gpu_memory_used_bytes", gpu=GPU), NOW - 4.0, used_then * GIB),
            Sample(SeriesKey("gpu_processes", gpu=GPU), NOW - 4.0, 1),
            Sample(
                SeriesKey("process_gpu_memory_bytes", gpu=GPU, process="vllm"), NOW - 4.0, 10 * GIB
            ),
            Sample(SeriesKey("gpu_memory_used_bytes", gpu=GPU), NOW, 30 * GIB),
        ],
        now_s=NOW,
        gpus=[H100],
        processes=[vllm],
    )

    assert figures(found)["", "gpu_memory_unattributed_bytes"] == unattributed * GIB
