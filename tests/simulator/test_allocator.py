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
        pytest.param("large_segment_size_mb:32", 9 * MIB, 9 * MIB, 32 * MIB, id="larger segments"),
        pytest.param("large_segment_size_mb:32", 10 * MIB, 10 * MIB, 10 * MIB, id="its own still"),
        pytest.param(
            "expandable_segments:True,large_segment_size_mb:12",
            13 * MIB,
            13 * MIB,
            24 * MIB,
            id="two smaller pages",
        ),
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


def test_memory_of_a_private_pool_stays_with_it():
    """While the pool is in use its free memory serves no other request and is not released."""
    allocator, device = make(100)
    allocator.private_pools.use((0, 1))
    allocator.private_pools.enter((0, 1))
    block = allocator.malloc(30 * MIB)
    allocator.private_pools.leave((0, 1))
    allocator.free(block)

    other = allocator.malloc(30 * MIB)
    kept = allocator.empty_cache()
    for _ in range(2):  # entering it was a use, too
        allocator.private_pools.release((0, 1))
    released = allocator.empty_cache()

    assert block.address != other.address
    assert (0, 30 * MIB) == (kept, released)
    assert 30 * MIB == device.used_bytes
    by_pool = allocator.memory_stats()["reserved_bytes_by_private_pools"]
    assert (0, 30 * MIB) == (by_pool[0, 1]["all"]["current"], by_pool[0, 1]["all"]["freed"])


def test_the_innermost_pool_serves_and_a_snapshot_names_it():
    allocator, _ = make(200)
    for pool in ((0, 1), (0, 2)):
        allocator.private_pools.enter(pool)
        allocator.malloc(30 * MIB)
    allocator.private_pools.leave((0, 2))
    allocator.malloc(300)

    pools = [(one["segment_pool_id"], one["total_size"]) for one in allocator.snapshot()]
    assert [((0, 1), 30 * MIB), ((0, 2), 30 * MIB), ((0, 1), 2 * MIB)] == pools


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        pytest.param("enter enter", "entered already", id="entered twice"),
        pytest.param("leave", "not entered", id="left before it was entered"),
        pytest.param("release", "not in use", id="released before it was used"),
        pytest.param("use enter leave release release use", "released", id="used after its end"),
    ],
)
def test_misuse_of_pools(steps, complaint):
    """Where torch stops with an internal error, so does the replica."""
    pools = make(100)[0].private_pools

    *before, last = steps.split()
    for step in before:
        getattr(pools, step)((0, 1))
    with pytest.raises(ValueError, match=complaint):
        getattr(pools, last)((0, 1))


def test_a_free_is_pending_while_another_stream_uses_the_block():
    """Not allocated but active, and nobody gets it, until the stream is done."""
    allocator, _ = make(100)
    block = allocator.malloc(30 * MIB)
    allocator.record_stream(block, stream=1)
    allocator.stream_work.keep_busy(1)
    allocator.free(block)

    pending = allocator.snapshot()[0]
    other = allocator.malloc(30 * MIB)
    allocator.stream_work.synchronize(1)
    again = allocator.malloc(30 * MIB)

    assert "active_pending_free" == pending["blocks"][0]["state"]
    assert (0, 30 * MIB) == (pending["allocated_size"], pending["active_size"])
    assert block.address != other.address
    assert block.address == again.address


def test_a_free_is_pending_until_the_last_stream_is_done():
    allocator, _ = make(100)
    block = allocator.malloc(30 * MIB)
    for stream in (1, 2):
        allocator.record_stream(block, stream)
        allocator.stream_work.keep_busy(stream)
    allocator.free(block)

    allocator.stream_work.synchronize(1)
    other = allocator.malloc(30 * MIB)
    allocator.stream_work.synchronize(2)

    assert block.address != other.address
    assert block.address == allocator.malloc(30 * MIB).address


def test_a_flush_waits_for_pending_frees():
    allocator, device = make(100)
    block = allocator.malloc(30 * MIB)
    allocator.record_stream(block, stream=1)
    allocator.stream_work.keep_busy(1)
    allocator.free(block)

    assert 30 * MIB == allocator.empty_cache()
    assert 0 == device.used_bytes


def test_use_on_its_own_stream_delays_nothing():
    allocator, _ = make(100)
    block = allocator.malloc(30 * MIB, stream=1)
    allocator.record_stream(block, stream=1)
    allocator.stream_work.keep_busy(1)
    allocator.free(block)

    assert 0 == level(allocator, "active_bytes")


@pytest.mark.parametrize(
    ("fraction", "fits"),
    [
        pytest.param("0.5", True, id="exactly the limit"),
        pytest.param("0.49", False, id="just above it"),
    ],
)
def test_memory_fraction(fraction, fits):
    """What would be reserved beyond the fraction fails, although the device has it."""
    allocator, device = make(100, f"per_process_memory_fraction:{fraction}")
    seen = []
    allocator.attach_out_of_memory_observer(lambda *arguments: seen.append(arguments))

    if fits:
        assert 50 * MIB == allocator.malloc(50 * MIB).size
        return
    with pytest.raises(OutOfMemory):
        allocator.malloc(50 * MIB)
    assert [(0, 50 * MIB, 49 * MIB, 100 * MIB)] == seen
    assert 0 == device.used_bytes


def test_garbage_collection_releases_what_was_free_for_longest():
    """Above the threshold, before the next segment: free segments of at least the mean age go."""
    options = "garbage_collection_threshold:0.5,per_process_memory_fraction:0.9"
    allocator, device = make(200, options)
    old, young = allocator.malloc(40 * MIB), allocator.malloc(60 * MIB)
    allocator.free(old)
    allocator.malloc(12 * MIB, stream=1)
    allocator.free(young)

    allocator.malloc(14 * MIB, stream=1)

    assert (60 + 12 + 14) * MIB == device.used_bytes
    assert 0 == allocator.memory_stats()["num_alloc_retries"]
    assert young.address == allocator.malloc(60 * MIB).address


def test_without_a_memory_fraction_nothing_is_collected():
    allocator, device = make(200, "garbage_collection_threshold:0.1")
    allocator.free(allocator.malloc(40 * MIB))

    allocator.malloc(60 * MIB)

    assert 100 * MIB == device.used_bytes


@pytest.mark.parametrize(
    ("size", "block"),
    [
        pytest.param(3 * MIB + 1, 3 * MIB + MIB // 4, id="the first holds for all below"),
        pytest.param(70 * MIB, 72 * MIB, id="eighths from 64 to 128 MiB"),
        pytest.param(130 * MIB, 130 * MIB, id="none between two that are named"),
        pytest.param(300 * MIB, 320 * MIB, id="quarters from 256 to 512 MiB"),
        pytest.param(520 * MIB, 768 * MIB, id="halves from there on"),
    ],
)
def test_divisions_by_size_of_request(size, block):
    config = AllocatorConfig.parse("roundup_power2_divisions:[64:8,256:4,>:2]")

    assert block == config.round_size(size)


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
        pytest.param(
            "max_split_size_mb:63,large_segment_size_mb:64", "at least 64", id="below a larger one"
        ),
        pytest.param("roundup_power2_divisions:[3:8]", "not a power of two", id="bad interval"),
        pytest.param("garbage_collection_threshold:1", r"in \(0, 1\)", id="collects never"),
        pytest.param("per_process_memory_fraction:1.1", r"in \[0, 1\]", id="more than all"),
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
        "garbage_collection_threshold:0.5,per_process_memory_fraction:0.8",
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
