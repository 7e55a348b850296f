"""What one walk over all blocks says; the replica of the allocator is the judge of releasable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.tap.map_layout import MapBlock, MapGpu, MapSegment, pack_map, unpack_map
from gpuward.tap.memory_walk import Walk, large_page, map_of, summarise

MIB = 1 << 20
USED, PENDING, FREE = "active_allocated", "active_pending_free", "inactive"


def segment(*blocks, size="large", pool=(0, 0), expandable=False, device=0):
    listed, address = [], 1 << 40
    for n, state in blocks:
        facts = {"size": n * MIB, "requested_size": n * MIB - 1, "state": state}
        listed.append({"address": address, **facts})
        address += n * MIB
    return {
        "device": device,
        "address": 1 << 40,
        "total_size": sum(block["size"] for block in listed),
        "stream": 3,
        "segment_type": size,
        "segment_pool_id": pool,
        "is_expandable": expandable,
        "blocks": listed,
    }


def walk(*segments):
    return Walk(segments, 5, 6, 7)


@pytest.mark.parametrize(
    ("segments", "free", "largest", "releasable", "stranded"),
    [
        pytest.param([], 0, 0, 0, 0, id="nothing"),
        pytest.param([segment((20, FREE))], 20, 20, 20, 0, id="unused segment"),
        pytest.param([segment((5, USED), (15, FREE))], 15, 15, 0, 15, id="pinned by a block"),
        pytest.param([segment((2, FREE), (5, USED), (13, FREE))], 15, 13, 0, 15, id="two holes"),
        pytest.param([segment((5, PENDING), (15, FREE))], 15, 15, 20, 0, id="a stream uses it"),
        pytest.param([segment((5, PENDING), (15, USED))], 0, 0, 0, 5, id="not it alone"),
        pytest.param([segment((5, "new"), (15, FREE))], 15, 15, 0, 15, id="who knows who uses it"),
        pytest.param(
            [segment((15, FREE), (3, PENDING), (22, FREE), (9, USED), expandable=True)],
            *(37, 22, 40, 0),
            id="a page of three blocks",
        ),
        pytest.param(
            [segment((15, FREE), (3, "new"), (22, FREE), (9, PENDING), expandable=True)],
            *(37, 22, 20, 26),
            id="a page of three, one of which is not known",
        ),
        pytest.param(
            [segment((10, USED), (50, FREE), expandable=True)], 50, 50, 40, 10, id="whole pages"
        ),
        pytest.param(
            [segment((10, USED), (10, FREE), expandable=True)], 10, 10, 0, 10, id="half a page"
        ),
        pytest.param(
            [segment((1, USED), (4, FREE), size="small", expandable=True)], 4, 4, 2, 2, id="small"
        ),
        pytest.param([segment((20, FREE), pool=(0, 1))], 0, 0, 0, 0, id="a graph's pool"),
        pytest.param([segment((20, FREE), device=1)], 0, 0, 0, 0, id="another device"),
    ],
)
def test_summary(segments, free, largest, releasable, stranded):
    found = summarise(walk(*segments), 0).summary

    facts = (free, largest, releasable, stranded)
    assert tuple(n * MIB for n in facts) == found[4:8]


def test_what_is_apart():
    some = (segment((5, PENDING), (15, FREE), pool=(0, 1)), segment((1, PENDING)))
    found = summarise(walk(*some), 0).summary

    assert (found.mono_ns, found.cost_ns, found.blocks, found.segments) == (5, 7, 3, 2)
    assert (found.private_free_bytes, found.pending_free_bytes) == (15 * MIB, 6 * MIB)


def test_free_blocks_by_size():
    found = summarise(walk(segment((1, FREE), (1, USED), (3, FREE), (1, USED), (2, FREE))), 0)

    assert {11: MIB, 12: 5 * MIB} == {n: size for n, size in enumerate(found.free_bytes) if size}
    assert {11: 1, 12: 2} == {n: count for n, count in enumerate(found.free_counts) if count}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        *((0, 0), (512, 0), (1023, 0), (1024, 1), (2047, 1), (2048, 2)),
        *((2**36 - 1, 26), (2**36, 27), (2**50, 27), (2**64 - 1, 27)),
    ],
)
def test_a_block_counts_in_the_class_of_its_size(size, expected):
    """Class 0 is below 1 KiB, then there is one per power of two, 27 from 64 GiB."""
    blocks = [{"address": 0, "size": size, "state": FREE}]
    found = summarise(walk({**segment(), "blocks": blocks}), 0)

    assert [int(n == expected) for n in range(28)] == [*found.free_counts]
    assert size == found.free_bytes[expected] == sum(found.free_bytes)


@pytest.mark.parametrize(
    ("conf", "page"),
    [
        ("", 20),
        ("large_segment_size_mb:64", 64),
        ("a:1, large_segment_size_mb: 64,b:2", 64),
        ("large_segment_size_mb:0", 20),
        ("large_segment_size_mb:x", 20),
        ("large_segment_size_mb:99999999999", 20),
    ],
)
def test_page_of_the_large_pool(conf, page):
    assert large_page(conf) == page * MIB


@pytest.mark.parametrize("expandable", [False, True])
@given(
    sizes=st.lists(st.integers(1, 60 * MIB), min_size=1, max_size=40),
    fates=st.lists(st.sampled_from(["kept", "freed", "pending"]), min_size=40, max_size=40),
    pool=st.integers(0, 40),
)
def test_releasable_is_what_empty_cache_returns(expandable, sizes, fates, pool):
    """To the byte, after any allocations of which any were freed, some while a stream uses them;
    the first ``pool`` are a graph's.
    """
    allocator = CachingAllocator(
        FixedDevice(8 << 30), AllocatorConfig(expandable_segments=expandable)
    )
    allocator.stream_work.keep_busy(7)
    allocator.private_pools.enter((0, 1))
    made = []
    for place, size in enumerate(sizes):
        if place == pool:
            allocator.private_pools.leave((0, 1))
        try:
            made.append(allocator.malloc(size))
        except OutOfMemory:
            break
    for block, fate in zip(made, fates, strict=False):
        if fate == "pending":
            allocator.record_stream(block, 7)
        if fate != "kept":
            allocator.free(block)
    found = summarise(walk(*allocator.snapshot()), 0).summary
    idle = found.free_bytes + found.pending_free_bytes
    returned = allocator.empty_cache()

    assert found.releasable_bytes == returned
    assert 0 <= found.stranded_bytes <= idle - returned


def test_map():
    """Only GPUs of the process; offsets from the segment; a free block was asked for by nobody."""
    some = (
        segment((1, USED), (2, PENDING), (3, FREE), (4, "new"), size="small", pool=(7, 8)),
        segment((20, USED), device=1, expandable=True),
        segment((20, USED), device=9),
    )
    gpus = [MapGpu(b"b" * 16, 1), MapGpu(b"a" * 16, 0)]
    found = map_of(walk(*some), bytes(16), gpus)

    blocks = [
        MapBlock(0, MIB, MIB - 1, 1),
        MapBlock(MIB, 2 * MIB, 2 * MIB - 1, 2),
        MapBlock(3 * MIB, 3 * MIB, 0, 3),
        MapBlock(6 * MIB, 4 * MIB, 4 * MIB - 1, 0),
    ]
    other = [MapBlock(0, 20 * MIB, 20 * MIB - 1, 1)]
    assert [
        MapSegment(1 << 40, 10 * MIB, 3, (7, 8), 1, 1, blocks),
        MapSegment(1 << 40, 20 * MIB, 3, (0, 0), 0, 2, other, 20),
    ] == found.segments
    assert (2, 5, 7) == (found.total_segments, found.total_blocks, found.cost_ns)
    assert found == unpack_map(pack_map(found))


@pytest.mark.parametrize(
    ("size", "expandable", "page_mib"),
    [
        pytest.param("large", True, 64, id="as the process is configured"),
        pytest.param("small", True, 2, id="the small pool's is fixed"),
        pytest.param("large", False, 0, id="given back as a whole"),
    ],
)
def test_a_map_says_in_which_pages_a_segment_is_given_back(size, expandable, page_mib):
    some = segment((20, USED), size=size, expandable=expandable)
    (found,) = map_of(walk(some), bytes(16), [MapGpu(b"a" * 16, 0)], 64 * MIB).segments

    assert page_mib == found.page_mib
