"""The replica of torch's caching allocator: published figures, rules, and what must always hold."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

MIB = 1 << 20
PAGE = {"small": 2 * MIB, "large": 20 * MIB}


def make(total_mib: int, options: str = "") -> tuple[CachingAllocator, FixedDevice]:
    device = FixedDevice(total_mib * MIB)
    return CachingAllocator(device, AllocatorConfig.parse(options)), device


def level(allocator: CachingAllocator, name: str) -> int:
    current: int = allocator.memory_stats()[name]["all"]["current"]
    return current


def grow_193400(options: str, cycles: int = 101) -> list[tuple[int, int]]:
    """Allocated and reserved MiB at every 20th cycle of the reproducer of pytorch PR #193400.

    A cycle allocates 91 MiB and 45.5 MiB, then 2 MiB that stay, then frees the first two; 64 MiB
    live throughout, which the pull request leaves unsaid but its first column shows.
    """
    allocator, _ = make(16 * 1024, options)
    allocator.malloc(64 * MIB)
    table = []
    for cycle in range(cycles):
        large, medium = allocator.malloc(91 * MIB), allocator.malloc(45 * MIB + MIB // 2)
        allocator.malloc(2 * MIB)
        allocator.free(large)
        allocator.free(medium)
        if cycle % 20 == 0:
            table.append(
                (
                    level(allocator, "allocated_bytes") // MIB,
                    level(allocator, "reserved_bytes") // MIB,
                )
            )
    return table


def test_reserved_memory_grows_as_measured_on_a_gpu():
    """The table of pytorch PR #193400, measured on a 16 GiB card, to the MiB."""
    expected = [(66, 220), (106, 2980), (146, 5760), (186, 8520), (226, 11300), (266, 14060)]

    assert expected == grow_193400("max_split_size_mb:128,expandable_segments:True")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("", id="defaults"),
        pytest.param("expandable_segments:True", id="expandable segments alone"),
        pytest.param("max_split_size_mb:128", id="max_split_size alone"),
    ],
)
def test_each_option_alone_does_not_grow(options):
    """The same pull request: either option on its own, and the defaults, stay under 500 MiB."""
    assert max(reserved for _, reserved in grow_193400(options)) < 500


@pytest.mark.parametrize(
    ("options", "asked", "block", "reserved"),
    [
        pytest.param("", 1, 512, 2 * MIB, id="one byte"),
        pytest.param("", 513, 1024, 2 * MIB, id="rounded up to 512"),
        pytest.param("", MIB, MIB, 2 * MIB, id="largest of the small pool"),
        pytest.param("", MIB + 1, MIB + 512, 20 * MIB, id="smallest of the large pool"),
        pytest.param("", 10 * MIB - 512, 10 * MIB - 512, 20 * MIB, id="below a segment of its own"),
        pytest.param("", 10 * MIB, 10 * MIB, 10 * MIB, id="a segment of its own"),
        pytest.param("", 11 * MIB, 12 * MIB, 12 * MIB, id="remainder of 1 MiB is not split off"),
        pytest.param("roundup_power2_divisions:4", 1200, 1536, 2 * MIB, id="below 512 x divisions"),
        pytest.param("roundup_power2_divisions:4", 2100, 2560, 2 * MIB, id="next quarter of 2 KiB"),
        pytest.param("roundup_power2_divisions:8", 4 * MIB, 4 * MIB, 20 * MIB, id="power of two"),
        pytest.param("expandable_segments:True", 21 * MIB, 21 * MIB, 40 * MIB, id="two pages"),
    ],
)
def test_size_of_block_and_segment(options, asked, block, reserved):
    """How much a request of ``asked`` bytes takes, in the block and from the device."""
    allocator, device = make(1024, options)

    assert (block, reserved) == (allocator.malloc(asked).size, device.used_bytes)


def test_best_fit_at_the_lowest_address():
    """Of two holes the smaller that fits is used; of equal ones the one at the lower address."""
    allocator, _ = make(1024)
    blocks = [allocator.malloc(size * MIB) for size in (3, 2, 3, 2, 4, 2)]
    for hole in (blocks[0], blocks[2], blocks[4]):
        allocator.free(hole)

    assert blocks[0].address == allocator.malloc(3 * MIB).address
    assert blocks[2].address == allocator.malloc(3 * MIB).address


def test_free_lists_belong_to_one_stream():
    """A hole of another stream serves nobody here, however well it fits."""
    allocator, device = make(1024)
    allocator.free(allocator.malloc(30 * MIB, stream=1))

    allocator.malloc(30 * MIB, stream=2)

    assert 60 * MIB == device.used_bytes


def test_fragmentation_fails_a_request_that_would_fit():
    """Half of the memory is free, every second block of it pinned: the request fails, for good."""
    allocator, device = make(100)
    blocks = [allocator.malloc(5 * MIB) for _ in range(20)]
    for block in blocks[::2]:
        allocator.free(block)
    seen = []
    allocator.attach_out_of_memory_observer(lambda *arguments: seen.append(arguments))

    with pytest.raises(OutOfMemory, match=r"Tried to allocate 10\.00 MiB\. GPU 0 has a total"):
        allocator.malloc(10 * MIB)

    stats = allocator.memory_stats()
    assert [(0, 10 * MIB, 100 * MIB, 0)] == seen
    assert (1, 1) == (stats["num_ooms"], stats["num_alloc_retries"])
    assert 50 * MIB == stats["inactive_split_bytes"]["all"]["current"]
    assert 0 == device.free_bytes


def test_expandable_segments_serve_what_defaults_cannot():
    """Pages inside the holes are unmapped and mapped again side by side."""
    allocator, _ = make(400, "expandable_segments:True")
    blocks = [allocator.malloc(40 * MIB) for _ in range(10)]
    for block in blocks[::2]:
        allocator.free(block)

    assert 200 * MIB == allocator.malloc(200 * MIB).size


def test_a_retry_flushes_the_cache_and_is_counted():
    """Cached segments go back to the device when it has nothing left."""
    allocator, device = make(100)
    allocator.free(allocator.malloc(60 * MIB))
    allocator.malloc(80 * MIB)

    stats = allocator.memory_stats()
    assert (1, 0) == (stats["num_alloc_retries"], stats["num_ooms"])
    assert (2, 1) == (stats["num_device_alloc"], stats["num_device_free"])
    assert 80 * MIB == device.used_bytes


def test_free_twice_is_refused():
    allocator, _ = make(100)
    block = allocator.malloc(MIB)
    allocator.free(block)

    with pytest.raises(ValueError, match="is not allocated here"):
        allocator.free(block)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("backend:cudaMallocAsync", "backend: not known", id="unknown option"),
        pytest.param("expandable_segments", "want name:value", id="no value"),
        pytest.param("expandable_segments:yes", "want True or False", id="not a boolean"),
        pytest.param("roundup_power2_divisions:3", "not a power of two", id="three divisions"),
        pytest.param("max_split_size_mb:19", "at least 20", id="splits below a segment"),
    ],
)
def test_bad_options(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        AllocatorConfig.parse(text)


# What always holds.

OPTIONS = st.sampled_from(
    [
        "",
        "expandable_segments:True",
        "roundup_power2_divisions:8",
        "max_split_size_mb:64",
        "max_split_size_mb:64,expandable_segments:True",
    ]
)
SIZES = st.one_of(
    st.integers(1, 4096),
    st.integers(1, MIB),
    st.integers(MIB, 10 * MIB),
    st.integers(10 * MIB, 150 * MIB),
)
# A positive number allocates that much, a negative one frees a live block, None flushes.
STEPS = st.lists(st.one_of(SIZES, st.integers(-(1 << 30), -1), st.none()), min_size=1, max_size=60)


def play(allocator: CachingAllocator, steps: list[int | None]) -> None:
    live = []
    for step in steps:
        if step is None:
            allocator.empty_cache()
        elif step < 0 and live:
            allocator.free(live.pop(step % len(live)))
        elif step > 0:
            try:
                live.append(allocator.malloc(step, stream=step % 2))
            except OutOfMemory:
                continue


@given(OPTIONS, STEPS)
@settings(max_examples=150, deadline=None)
def test_counters_equal_the_blocks(options, steps):
    """Every level in the statistics is what one gets by counting blocks; segments have no gaps."""
    allocator, device = make(512, options)
    play(allocator, steps)
    segments = allocator.snapshot()
    stats = allocator.memory_stats()

    assert device.used_bytes == stats["reserved_bytes"]["all"]["current"]
    for pool in ("small", "large"):
        expected = recount([segment for segment in segments if segment["segment_type"] == pool])
        assert expected == {name: stats[name][f"{pool}_pool"]["current"] for name in expected}
    for segment in segments:
        ends = [segment["address"]]
        for block in segment["blocks"]:
            assert ends[-1] == block["address"]
            ends.append(block["address"] + block["size"])
        assert segment["address"] + segment["total_size"] == ends[-1]
    for array in (value for value in stats.values() if isinstance(value, dict) and "all" in value):
        for stat in array.values():
            assert stat["current"] == stat["allocated"] - stat["freed"]
            assert stat["current"] <= stat["peak"]


@given(OPTIONS, STEPS)
@settings(max_examples=150, deadline=None)
def test_free_neighbours_are_one_block(options, steps):
    """No two free blocks lie side by side, save where unmapping cut a page out between them."""
    allocator, _ = make(512, options)
    play(allocator, steps)

    for segment in allocator.snapshot():
        states = [block["state"] for block in segment["blocks"]]
        assert ("inactive", "inactive") not in set(pairwise(states))


@given(OPTIONS, STEPS)
@settings(max_examples=150, deadline=None)
def test_empty_cache_returns_what_is_releasable(options, steps):
    """Whole free segments, or whole free pages of expandable ones: that, and nothing else."""
    allocator, device = make(512, options)
    play(allocator, steps)
    stats = allocator.memory_stats()
    by_blocks = sum(releasable(segment) for segment in allocator.snapshot())
    by_counters = (
        stats["reserved_bytes"]["all"]["current"]
        - stats["active_bytes"]["all"]["current"]
        - stats["inactive_split_bytes"]["all"]["current"]
    )
    before = device.free_bytes

    returned = allocator.empty_cache()

    assert by_blocks == returned == device.free_bytes - before
    if "expandable" not in options:
        assert by_counters == returned


def recount(segments: list[dict[str, Any]]) -> dict[str, int]:
    active = [b for s in segments for b in s["blocks"] if b["state"] == "active_allocated"]
    split = [
        block
        for segment in segments
        if not segment["is_expandable"] and len(segment["blocks"]) > 1
        for block in segment["blocks"]
        if block["state"] == "inactive"
    ]
    return {
        "allocation": len(active),
        "active": len(active),
        "segment": sum(not segment["is_expandable"] for segment in segments),
        "allocated_bytes": sum(block["size"] for block in active),
        "active_bytes": sum(block["size"] for block in active),
        "requested_bytes": sum(block["requested_size"] for block in active),
        "reserved_bytes": sum(segment["total_size"] for segment in segments),
        "inactive_split": len(split),
        "inactive_split_bytes": sum(block["size"] for block in split),
    }


def releasable(segment: dict[str, Any]) -> int:
    free = [block for block in segment["blocks"] if block["state"] == "inactive"]
    if not segment["is_expandable"]:
        return segment["total_size"] if len(free) == len(segment["blocks"]) else 0
    page, base = PAGE[segment["segment_type"]], segment["address"]
    total = 0
    for block in free:
        first = -(-(block["address"] - base) // page)
        behind = (block["address"] - base + block["size"]) // page
        total += max(0, behind - first) * page
    return total
