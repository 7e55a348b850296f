"""All detectors over one window after another say what each would say of a window of its own.

What they share, and what is remembered from one second to the next, may save work; it must not show
in a single digit.  The node of these tests is made up at random, of values at which detectors have
something to say: memory in pieces, headroom running out, retries, neighbours that grow, leaks.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuward.agent.detectors import DETECTORS
from gpuward.agent.model import Batch, Driver, Event, Gpu, Process, Sample, SeriesKey
from gpuward.agent.window import Readings

GIB = 2**30
GPUS = tuple(Gpu(f"GPU-{index}", index, "H100", str(index)) for index in range(2))
PROCESSES = tuple(
    Process(
        f"server-{number}",
        pid=number,
        start_ticks=100 * number,
        gpus=(GPUS[number % 2].uuid,),
        engine="vllm",
        service="chat",
        tapped=number < 3,
    )
    for number in range(4)
)
OF_PROCESS = {
    "process_memory_reserved_bytes": (10.0 * GIB, 11.0 * GIB, 30.0 * GIB),
    "process_memory_stranded_bytes": (0.0, 0.3 * GIB, 1.5 * GIB, 4.0 * GIB),
    "process_memory_releasable_bytes": (0.0, 1.0 * GIB),
    "process_memory_headroom_bytes": (0.1 * GIB, 1.0 * GIB, 20.0 * GIB),
    "process_memory_headroom_ratio": (5.0, 20.0, 25.0, 29.0, 900.0),
    "process_memory_mean_large_request_bytes": (0.05 * GIB,),
    "process_memory_expandable_segments": (0.0, 1.0),
    "process_gpu_memory_bytes": (9.0 * GIB, 12.0 * GIB, 40.0 * GIB),
}
OF_GPU = {
    "gpu_memory_used_bytes": (10.0 * GIB, 78.0 * GIB, 79.0 * GIB),
    "gpu_memory_free_bytes": (1.0 * GIB, 2.0 * GIB, 60.0 * GIB),
    "gpu_memory_total_bytes": (80.0 * GIB,),
    "gpu_memory_unattributed_bytes": (0.0, 0.9 * GIB, 2.0 * GIB),
    "gpu_memory_tapped_ratio": (0.2, 0.78, 1.0),
    "gpu_processes": (0.0, 2.0),
}
COUNTERS = ("process_allocation_retries_total", "process_out_of_memory_total")
# Detectors that ask for what others ask for, or for what is remembered from second to second.
SHARING = (
    "detector.gpu.memory.coverage_fell",
    "detector.process.memory.fragmentation",
    "detector.process.memory.headroom_low",
    "detector.process.memory.leak_suspected",
    "detector.process.memory.neighbour_pressure",
    "detector.process.memory.alloc_retries",
    "detector.gpu.memory.unattributed",
    "detector.gpu.xid",
)
FLOORS = ("process_memory_requested_floor_bytes", "process_memory_headroom_floor_bytes")


class Story:
    """What happens on a node, second by second."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.counts = {}
        self.minutes = 0
        self.leaks = self.chance.choice((0.0, 0.01, 0.05)) * GIB
        self.trouble = self.chance.choice((0.05, 0.9))

    def batch(self, now_s):
        """Return a part of all series, for samplers miss turns."""
        chance = self.chance
        samples = [
            Sample(SeriesKey(signal, gpu=gpu.uuid), now_s, chance.choice(values))
            for gpu in GPUS
            for signal, values in OF_GPU.items()
            if chance.random() < 0.7
        ]
        for process in PROCESSES:
            samples += self._of(process, now_s)
        return Batch(
            samples=tuple(samples),
            events=tuple(self._events(now_s)),
            gpus=GPUS,
            processes=tuple(p for p in PROCESSES if chance.random() < 0.95),
            driver=Driver(up=True, waiting_s=chance.choice((0.0, 0.0, 5.0, 70.0))),
        )

    def floors(self, now_s):
        """Return an hour's floors, which come in one batch as no node's do, to be quick."""
        return tuple(
            Sample(
                SeriesKey(signal, gpu=process.gpus[0], process=process.key),
                now_s - 60.0 * back,
                20.0 * GIB + sign * self.leaks * (50 - back) + self.chance.uniform(0, 0.02) * GIB,
            )
            for process in PROCESSES
            for signal, sign in zip(FLOORS, (1, -1), strict=True)
            for back in range(50, 0, -1)
        )

    def _of(self, process, now_s):
        chance = self.chance
        where = {"gpu": process.gpus[0], "process": process.key}
        for signal, values in OF_PROCESS.items():
            if chance.random() < 0.8:
                yield Sample(SeriesKey(signal, **where), now_s, chance.choice(values))
        for signal in COUNTERS:
            key = SeriesKey(signal, **where)
            # Mostly nothing happens, and now and then a process begins anew.
            step = chance.choice((1.0, 2.0)) if chance.random() < self.trouble else 0.0
            self.counts[key] = 0.0 if chance.random() < 0.02 else self.counts.get(key, 0.0) + step
            yield Sample(key, now_s, self.counts[key])

    def _events(self, now_s):
        process = self.chance.choice(PROCESSES)
        if self.chance.random() < 0.1:
            yield Event("gpu.xid", now_s, f"{now_s}", code=31, gpu=process.gpus[0], pid=process.pid)
        if self.chance.random() < 0.1:
            values = {
                "requested_bytes": 1.0 * GIB,
                "cache_free_bytes": self.chance.choice((0.0, 2.0 * GIB)),
            }
            where = {"gpu": process.gpus[0], "process": process.key}
            kind = "process.memory.oom"
            yield Event(kind, now_s, f"oom {now_s}", pid=process.pid, values=values, **where)


def findings(detector, window):
    return tuple(detector.detect(window))


def alone(batches, now_s):
    """Return what each detector says of readings that nobody else has looked at."""
    said = []
    for detector in DETECTORS:
        readings = Readings()
        for at_s, source, batch in batches:
            readings.apply(source, batch, at_s)
        said.append(findings(detector, readings.window(now_s)))
    return said


def told(seed, steps_s):
    """Yield what all say together, second by second, and what they say alone."""
    story, together, batches = Story(seed), Readings(), []
    now_s = 10_000.0
    batches.append((now_s, "floors", Batch(samples=story.floors(now_s))))
    together.apply("floors", batches[0][2], now_s)
    for step_s in steps_s:
        now_s += step_s
        batches.append((now_s, "all", story.batch(now_s)))
        together.apply("all", batches[-1][2], now_s)
        window = together.window(now_s + 0.5)
        yield [findings(detector, window) for detector in DETECTORS], alone(batches, now_s + 0.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from((1.0, 5.0, 20.0, 60.0)), max_size=14))
def test_together_they_say_what_each_says_alone(seed, steps_s):
    for together, separate in told(seed, steps_s):
        assert together == separate


@pytest.fixture(scope="module")
def outcomes():
    """What each detector says of some of these nodes, who have run for five minutes."""
    said = {detector.component: set() for detector in DETECTORS}
    for seed in range(12):
        story, readings = Story(seed), Readings()
        readings.apply("floors", Batch(samples=story.floors(10_000.0)), 10_000.0)
        for now_s in (10_000.0 + 5.0 * step for step in range(60)):
            readings.apply("all", story.batch(now_s), now_s)
            for detector in DETECTORS:
                window = readings.window(now_s)
                said[detector.component] |= {f.outcome.value for f in detector.detect(window)}
    return said


@pytest.mark.parametrize("component", SHARING)
def test_the_made_up_nodes_are_worth_judging(outcomes, component):
    """Each that shares work finds one of them bad: else the test above would show nothing of it."""
    assert "bad" in outcomes[component]
