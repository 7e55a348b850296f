"""Torch's allocator on the card: the replica's twin, what it gives back, what asking it costs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gpuward.agent.fragmentation import AllocatorState
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.allocator_replay import Replay
from gpuward.tap.memory_walk import Walk, summarise

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

MIB = 1 << 20
EXPANDABLE = "expandable_segments:True"


def _load(name):
    # Tests are files, not a package; the comparison with torch is that of the simulated runtime.
    path = Path(__file__).parents[1] / "torch" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"torch_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


harness = _load("test_replica")
# What a card does as well; streams there are busy for as long as they are told.
OPERATIONS = ("malloc", "free", "empty_cache")
STEP = harness.STEP.filter(lambda step: step[0] in OPERATIONS).map(lambda step: (*step[:3], 0))
# Little, so that short sequences run out of it.
MEMORY_BYTES = 192 * MIB


def content(snapshot):
    """Return what lies in each segment: where segments lie is the driver's to say."""
    return sorted(
        (
            segment["segment_type"],
            segment["is_expandable"],
            [
                (
                    block["address"] - segment["address"],
                    block["size"],
                    block["state"],
                    block["requested_size"] if block["state"] != "inactive" else 0,
                )
                for block in segment["blocks"]
            ],
        )
        for segment in snapshot
    )


@pytest.mark.parametrize(
    "configuration",
    ["", EXPANDABLE, "max_split_size_mb:64"],
    ids=["default", "expandable segments", "max split"],
)
def test_replica_agrees_with_the_allocator_of_the_card(card, described, configuration):
    """After every operation, also after running out of memory: counters; with each empty_cache()
    what was given back, and each block just before.
    """
    total = described["total_bytes"]
    fraction = (MEMORY_BYTES + MIB) / total
    torch = card.start("torch/programs/replay.py", PYTORCH_ALLOC_CONF=configuration)
    options = AllocatorConfig.parse(configuration)
    allocator = CachingAllocator(FixedDevice(total), options)
    allocator.set_memory_fraction(fraction)
    replica = Replay(allocator)
    torch.say([["set_memory_fraction", fraction]])
    torch.read()

    @settings(
        max_examples=10 if card.is_quick else 200,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # To make a disagreement small would take minutes of the card.
        phases=[Phase.generate],
    )
    # Of two blocks of one size the one with the lower address is taken, and addresses are the
    # driver's: sizes are all different, also once they are rounded.
    @given(st.lists(STEP, min_size=20, max_size=100, unique_by=lambda step: -(-step[1] // 512)))
    def agree(steps):
        operations = harness.Sequence.of(steps, (0,), drop_pools_in_use=False)
        torch.say(operations)
        real, replayed = torch.read(), json.loads(json.dumps(replica.play(operations)))
        for place, operation in enumerate(operations):
            answer, *counters = real["steps"][place]
            other, *expected = replayed["steps"][place]
            assert (operation, counters) == (operation, expected)
            if operation[0] == "empty_cache":
                assert answer["returned"] == other["returned"]
                assert content(answer["snapshot"]) == content(other["snapshot"])

    agree()
    assert allocator.memory_stats()["num_ooms"] > 0


def fragment(program):
    for index in range(40):
        program.ask("malloc", str(index), (index * 7919 % 97 + 1) * MIB // 3)
    for index in range(0, 40, 2):
        program.ask("free", str(index))
    for index in range(60):
        program.ask("malloc", f"small {index}", 300_000)
    for index in range(55):
        program.ask("free", f"small {index}")


@pytest.mark.parametrize("settings", ["", EXPANDABLE], ids=["default", "expandable segments"])
def test_what_is_called_releasable_is_what_empty_cache_returns(card, record, settings):
    """To the byte, from a walk, and without expandable segments from counters alone; the driver
    has that much more, too.
    """
    program = card.start("torch/programs/serve.py", PYTORCH_ALLOC_CONF=settings)
    fragment(program)
    before, segments = program.ask("stats"), program.ask("snapshot")
    driver_free = program.ask("free_bytes")
    program.ask("empty_cache")
    after = program.ask("stats")
    driver_won = program.ask("free_bytes") - driver_free

    def now(stats, family):
        return stats[family]["all"]["current"]

    won = now(before, "reserved_bytes") - now(after, "reserved_bytes")
    walked = summarise(Walk(segments, 0, 0, 0), 0).summary
    counted = AllocatorState(
        now(before, "reserved_bytes"),
        now(before, "active_bytes"),
        now(before, "inactive_split_bytes"),
    )
    figures = {"won": won, "driver": driver_won, "walked": walked.releasable_bytes}
    record("releasable", figures, "what empty_cache() gave back", part=settings or "default")
    assert won == walked.releasable_bytes > 0
    assert settings or won == counted.releasable
    assert driver_won == won


def test_what_asking_costs(card, tap, record):
    """CPU seconds of a tick, of a walk and of its summary; nothing here is judged."""
    effort = 0.05 if card.is_quick else 0.5
    directory = tap["GPUWARD_TAP_DIR"]
    path = f"{tap['PYTHONPATH']}"
    found = card.run(
        "bench/tap_torch_costs.py",
        directory,
        effort,
        PYTHONPATH=path,
        # The program starts the tap itself, when it is ready to measure it.
        TORCH_DEVICE_BACKEND_AUTOLOAD="0",
    )
    record("costs", found, "CPU seconds, a list of rounds: tick, its parts, walks and summaries")

    assert {"tick", "walk 1000", "summary 1000", "walk 10000", "walk 100000"} <= found.keys()
    assert all(0 <= figure for figures in found.values() for figure in figures)


def test_who_waits_while_the_allocator_does(card, record):
    """Whether statistics hold the GIL under the lock on this torch; nothing here is judged."""
    found = card.run("gpu/programs/stall.py", 1 if card.is_quick else 20)
    record("stall", found, "longest waits in seconds while memory goes back to a busy GPU")

    assert found.keys() == {"without polling", "with polling"}
    assert found["without polling"].keys() == {"pause_s", "malloc_s", "empty_cache_s"}
