"""The arithmetic against the replica of torch's allocator: promised bytes are bytes given back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.fragmentation import AllocatorState, headroom_safe
from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

MIB = 2**20
DEVICE = 400 * MIB
# A size to allocate, or which of the live blocks to free.
STEPS = st.lists(
    st.one_of(
        st.sampled_from([512, 300_000, MIB, 3 * MIB, 9 * MIB, 12 * MIB, 33 * MIB, 70 * MIB]),
        st.integers(-50, -1),
    ),
    max_size=60,
)


def state_of(allocator, *, expandable=False):
    stats = allocator.memory_stats()
    families = ("reserved_bytes", "active_bytes", "inactive_split_bytes")
    now = [stats[family]["all"]["current"] for family in families]
    pools = stats["reserved_bytes_by_private_pools"].values()
    private = sum(pool["all"]["current"] for pool in pools)
    return AllocatorState(*now, expandable=expandable, private_reserved=private)


def run(allocator, steps, live=None):
    """Allocate and free as told; a request that fails is left out."""
    live = [] if live is None else live
    for step in steps:
        if step < 0 and live:
            allocator.free(live.pop(step % len(live)))
        elif step > 0:
            try:
                live.append(allocator.malloc(step))
            except OutOfMemory:
                continue


@given(STEPS)
def test_releasable_is_what_emptying_the_cache_gives_back(steps):
    """Exactly, without expandable segments; what is left of the free memory was stranded."""
    allocator = CachingAllocator(FixedDevice(DEVICE))
    run(allocator, steps)
    before = state_of(allocator)
    allocator.empty_cache()
    after = state_of(allocator)

    assert before.releasable == before.reserved - after.reserved
    assert before.stranded == after.free


@given(STEPS, STEPS, STEPS)
def test_with_private_pools_never_more_is_promised_than_comes_back(before, graph, after):
    """Of a pool that a graph keeps, counters do not tell what is free, and nothing comes back."""
    allocator = CachingAllocator(FixedDevice(DEVICE))
    live = []
    run(allocator, before, live)
    allocator.private_pools.enter((0, 1))
    run(allocator, graph, live)
    allocator.private_pools.leave((0, 1))
    run(allocator, after, live)
    promised = state_of(allocator).releasable

    assert promised <= allocator.empty_cache()


@given(STEPS, st.integers(2, 300))
def test_a_request_within_the_headroom_succeeds(steps, size_mib):
    """Up to what the allocator rounds a request to: 2 MiB, and 20 MiB for those below ten."""
    device = FixedDevice(DEVICE)
    allocator = CachingAllocator(device)
    run(allocator, steps)
    headroom = headroom_safe(state_of(allocator), device.free_bytes)
    needed = max(20, size_mib + size_mib % 2) * MIB

    if needed <= headroom:
        allocator.malloc(size_mib * MIB)


@given(STEPS)
def test_with_expandable_segments_little_is_promised(steps):
    """The counters cannot say how much a flush gives back: never more than free less 5 %."""
    allocator = CachingAllocator(
        FixedDevice(DEVICE), AllocatorConfig.parse("expandable_segments:True")
    )
    run(allocator, steps)
    before = state_of(allocator, expandable=True)

    assert before.releasable <= max(0, before.free - before.reserved // 20)
