"""The whole way of a map, from the allocator (its replica) over tap and agent to the client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.memory_map_answer import decode
from gpuward.memory_map import wire
from gpuward.memory_map.model import totals
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.tap.map_layout import MapGpu, pack_map
from gpuward.tap.memory_walk import Walk, map_of
from gpuward.v1 import agent_pb2

MIB = 2**20
NONCE = bytes(range(16))
GPU = bytes(range(1, 17))
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


def mapped(allocator):
    """Return the segments that a client of the agent gets."""
    walk = Walk(allocator.snapshot(), 1, 1, 1)
    answer = pack_map(map_of(walk, NONCE, [MapGpu(GPU, 0)]))
    messages = wire.messages(decode(answer, NONCE, UUID).segments)
    return wire.segments(agent_pb2.GetMemoryMapResponse(segments=messages))


STEPS = st.lists(
    st.tuples(
        st.sampled_from([300, 900_000, 3 * MIB, 12 * MIB, 50 * MIB]),
        st.integers(0, 2),
        st.integers(0, 20),
    ),
    max_size=60,
)


@pytest.mark.parametrize("settings", ["", "expandable_segments:True"])
@given(steps=STEPS)
def test_a_map_adds_up_to_the_counters_and_says_what_can_be_given_back(settings, steps):
    allocator = CachingAllocator(FixedDevice(8 * 2**30), AllocatorConfig.parse(settings))
    live = []
    for size, stream, freed in steps:
        live.append(allocator.malloc(size, stream=stream))
        if freed < len(live):
            allocator.free(live.pop(freed))
    sums = totals(mapped(allocator))
    stats = allocator.memory_stats()
    held = {
        family: stats[f"{family}_bytes"]["all"]["current"]
        for family in ("reserved", "allocated", "active", "requested")
    }

    assert held == {
        "reserved": sums.reserved,
        "allocated": sums.allocated,
        "active": sums.allocated + sums.pending,
        "requested": sums.requested,
    }
    assert sums.reserved == sums.allocated + sums.pending + sums.releasable + sums.stranded
    assert sums.releasable == allocator.empty_cache()
