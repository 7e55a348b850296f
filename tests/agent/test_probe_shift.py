"""What probes are used to measure: learned by state, kept over restarts, and how far it is off."""

from __future__ import annotations

import random

import pytest

from gpuward.agent.detection.burst_shift import BurstShift
from gpuward.agent.model import Driver, Sample, SeriesKey
from gpuward.agent.samplers.probe_shift import ProbeShift
from gpuward.agent.window import Window

EVENT = "gpu_probe_event_shortest_seconds"
COPY = "gpu_probe_host_to_device_bytes_per_second"
SM_CLOCK, MOST_CLOCK = "gpu_sm_clock_hertz", "gpu_sm_clock_max_hertz"
UTILIZATION = "gpu_utilization_ratio"
BUSY = {SM_CLOCK: 1.98e9, MOST_CLOCK: 1.98e9, UTILIZATION: 0.9}


class Node:
    """A GPU whose probes measure what a test says, a burst each ten seconds."""

    def __init__(self, path):
        self.now_s = 1_000.0
        self.state = BUSY
        self.version = "580.1"
        self.chance = random.Random(5)
        self.path = path
        self.sampler = ProbeShift(path, lambda now_s: self.window)

    async def bursts(self, count, **figures):
        """Return what the last burst's sample says, by signal."""
        told = {}
        for _ in range(count):
            self.now_s += 10.0
            noisy = {name: value * self.chance.gauss(1, 0.01) for name, value in figures.items()}
            samples = [
                Sample(SeriesKey(name, gpu="GPU-1"), self.now_s, value)
                for name, value in (noisy | self.state).items()
            ]
            driver = Driver(up=True, version=self.version)
            self.window = Window.of(samples, now_s=self.now_s, driver=driver)
            batch = await self.sampler.sample(self.now_s)
            told = {s.key.signal: s.value for s in batch.samples}
        return told


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "probes.json")


async def test_nothing_is_said_before_it_is_known(node):
    """Thirty bursts are learned from; then each says how far it is off."""
    first = await node.bursts(30, **{EVENT: 4e-6})
    then = await node.bursts(1, **{EVENT: 4e-6})

    assert first == {}
    assert set(then) == {"gpu_probe_event_shift_ratio", "gpu_probe_event_evidence_ratio"}
    assert abs(then["gpu_probe_event_shift_ratio"]) < 0.03
    assert then["gpu_probe_event_evidence_ratio"] < 0.5


@pytest.mark.parametrize(
    ("signal", "usual", "slow", "figure"),
    [
        pytest.param(EVENT, 4e-6, 4.4e-6, "event", id="a time that rises"),
        pytest.param("gpu_probe_clock_hertz", 1.98e9, 1.8e9, "clock", id="a clock that falls"),
        pytest.param(COPY, 50e9, 45e9, "host_to_device", id="a link that is slower"),
        pytest.param(
            "gpu_probe_device_to_host_bytes_per_second", 50e9, 45e9, "device_to_host", id="and back"
        ),
        pytest.param(
            "gpu_probe_device_copy_bytes_per_second", 2.6e12, 2.36e12, "device_copy", id="memory"
        ),
    ],
)
async def test_slower_by_a_tenth(node, signal, usual, slow, figure):
    """Three bursts tell; a quicker card is no trouble."""
    await node.bursts(60, **{signal: usual})
    told = await node.bursts(3, **{signal: slow})
    quick = await node.bursts(20, **{signal: usual * usual / slow})

    assert told[f"gpu_probe_{figure}_evidence_ratio"] >= 1.0
    assert 0.04 < told[f"gpu_probe_{figure}_shift_ratio"] < 0.12
    assert quick[f"gpu_probe_{figure}_evidence_ratio"] == 0.0


async def test_it_is_over_when_it_is_over(node):
    await node.bursts(60, **{EVENT: 4e-6})
    slow = await node.bursts(360, **{EVENT: 4.4e-6})
    over = await node.bursts(20, **{EVENT: 4e-6})

    assert slow["gpu_probe_event_evidence_ratio"] >= 1.0
    assert slow["gpu_probe_event_shift_ratio"] == pytest.approx(0.1, abs=0.02)
    assert over["gpu_probe_event_evidence_ratio"] < 0.5


@pytest.mark.parametrize(
    ("change", "known"),
    [
        pytest.param({}, True, id="as before"),
        pytest.param({"state": BUSY | {SM_CLOCK: 1.89e9}}, True, id="nearly the clock"),
        pytest.param({"state": BUSY | {SM_CLOCK: 1.88e9}}, False, id="a step lower"),
        pytest.param({"state": BUSY | {UTILIZATION: 0.4}}, False, id="idle"),
        pytest.param({"version": "590.1"}, False, id="another driver"),
    ],
)
async def test_each_state_has_its_own(node, change, known):
    await node.bursts(60, **{EVENT: 4e-6})
    for name, value in change.items():
        setattr(node, name, value)
    told = await node.bursts(3, **{EVENT: 8e-6})

    assert (told != {}) is known


async def test_a_burst_counts_once(node):
    """Its sample stays in the window for minutes; what it says is said at once and not again."""
    await node.bursts(31, **{EVENT: 4e-6})
    again = await node.sampler.sample(node.now_s + 5.0)

    assert again.samples == ()


async def test_it_outlives_the_agent(node, written):
    """Written at the end and every five minutes."""
    async with node.sampler:
        await node.bursts(60, **{EVENT: 4e-6})
    written()
    node.sampler = ProbeShift(node.path, lambda now_s: node.window)
    told = await node.bursts(3, **{EVENT: 6e-6})

    assert told["gpu_probe_event_evidence_ratio"] >= 1.0


async def test_it_survives_a_kill(node, written):
    """Five minutes of learning are lost at most."""
    await node.bursts(65, **{EVENT: 4e-6})
    written()
    node.sampler = ProbeShift(node.path, lambda now_s: node.window)

    assert await node.bursts(3, **{EVENT: 6e-6}) != {}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": {"points": "many"}}', b"\xff"])
async def test_a_damaged_file_is_begun_anew(node, content):
    node.path.write_bytes(content)
    node.sampler = ProbeShift(node.path, lambda now_s: node.window)

    assert await node.bursts(1, **{EVENT: 4e-6}) == {}


async def test_a_full_disk_is_no_end(node):
    node.path.mkdir()

    assert await node.bursts(31, **{EVENT: 4e-6}) != {}


def bursts(known, chance, shift, count, spread=0.01):
    return [known.judge(chance.gauss(shift, spread), at * 10.0) for at in range(count)]


def test_chance_alone_raises_nothing():
    """A day of bursts of twenty series."""
    chance = random.Random(3)
    judged = [each for _ in range(20) for each in bursts(BurstShift(), chance, 0.0, 8_640) if each]

    assert len(judged) == 20 * (8_640 - 30)
    assert max(each.evidence for each in judged) < 1.0


def test_three_bursts_far_off_are_enough_and_two_are_not():
    known, chance = BurstShift(), random.Random(4)
    bursts(known, chance, 0.0, 200)
    twice = [known.judge(0.05, 0.0), known.judge(0.05, 0.0)]

    assert max(each.evidence for each in twice) < 1.0
    assert known.judge(0.05, 0.0).evidence >= 1.0


def test_a_fault_does_not_become_usual():
    """Ten hours of it, and it is still one."""
    known, chance = BurstShift(), random.Random(6)
    bursts(known, chance, 0.0, 200)

    assert bursts(known, chance, 0.05, 3_600)[-1].evidence >= 1.0
