"""Pressure: the share of a turn in which a task waited, from the kernel's own counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.samplers.pressure import PressureSampler, some_waited_s

# Of a busy Linux 6.1.
CPU = "some avg10=27.17 avg60=20.18 avg300=7.82 total=8602690684\nfull avg10=0.00 total=0\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(CPU, 8602.690684, id="a real one"),
        pytest.param("full total=9\nsome total=1500000\n", 1.5, id="whatever the order"),
        pytest.param("full total=9\n", None, id="the other line only"),
        pytest.param("some avg10=1.00\n", None, id="no total"),
        pytest.param("some total=-1\n", None, id="negative"),
        pytest.param("some total=x\n", None, id="no number"),
        pytest.param("\n\n", None, id="empty lines"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_text(text, expected):
    assert some_waited_s(text) == expected


@pytest.fixture
def files(tmp_path):
    def write(**totals):
        for resource, total in totals.items():
            (tmp_path / resource).write_text(f"some avg10=99.00 total={total}\n")

    write.folder = tmp_path
    return write


async def told(sampler, now_s):
    return {s.key.signal: s.value for s in (await sampler.sample(now_s)).samples}


async def test_rate_of_a_turn(files):
    """Two of five seconds are 0.4, whatever the averages say; a first turn has none."""
    sampler = PressureSampler(files.folder)
    files(cpu=1_000_000, memory=0, io=7)
    first = await told(sampler, 100.0)
    files(cpu=3_000_000, memory=0, io=5_000_007)
    second = await told(sampler, 105.0)

    assert first == {}
    assert second == {
        "node_cpu_pressure_ratio": pytest.approx(0.4),
        "node_memory_pressure_ratio": 0.0,
        "node_io_pressure_ratio": 1.0,
    }


async def test_a_rate_is_no_more_than_all_the_time(files):
    sampler = PressureSampler(files.folder)
    files(cpu=0)
    await sampler.sample(100.0)
    files(cpu=5_000_100)

    assert await told(sampler, 105.0) == {"node_cpu_pressure_ratio": 1.0}


async def test_a_counter_that_fell_says_nothing(files):
    """A container that was moved to another kernel, say: the next turn has a rate again."""
    sampler = PressureSampler(files.folder)
    files(cpu=9_000_000)
    await sampler.sample(100.0)
    files(cpu=1_000_000)
    fallen = await told(sampler, 105.0)
    files(cpu=1_500_000)

    assert fallen == {}
    assert await told(sampler, 110.0) == {"node_cpu_pressure_ratio": pytest.approx(0.1)}


async def test_a_gap_is_not_bridged(files):
    """What came back after a turn without it is not the rate of both turns."""
    sampler = PressureSampler(files.folder)
    files(cpu=0)
    await sampler.sample(100.0)
    (files.folder / "cpu").unlink()
    await sampler.sample(105.0)
    files(cpu=4_000_000)

    assert await told(sampler, 110.0) == {}


async def test_a_kernel_without_pressure_has_none(tmp_path):
    sampler = PressureSampler(tmp_path / "pressure")
    await sampler.sample(100.0)

    assert await told(sampler, 105.0) == {}


@pytest.mark.skipif(not Path("/proc/pressure/cpu").exists(), reason="a kernel without PSI")
async def test_this_kernel():
    """Every file of the running kernel is understood."""
    sampler = PressureSampler(Path("/proc/pressure"))
    await sampler.sample(100.0)

    assert set(await told(sampler, 105.0)) == {
        "node_cpu_pressure_ratio",
        "node_memory_pressure_ratio",
        "node_io_pressure_ratio",
    }
