"""The question to a tap and its answer: what is packed is read, and nothing else is."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.tap.layout import LayoutError
from gpuward.tap.map_layout import (
    MapBlock,
    MapGpu,
    MapSegment,
    MemoryMap,
    Request,
    pack_map,
    pack_request,
    unpack_map,
    unpack_request,
)

NONCE = bytes(range(16))
MIB = 1 << 20
u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
u16 = st.integers(0, 2**16 - 1)
uuids = st.binary(min_size=16, max_size=16)
blocks = st.lists(st.builds(MapBlock, u64, u64, u64, u32), max_size=5)
segments = st.builds(MapSegment, u64, u64, u64, st.tuples(u64, u64), st.just(0), u32, blocks, u32)


@st.composite
def maps(draw):
    some = draw(st.lists(segments, max_size=5))
    total = (len(some), sum(len(segment.blocks) for segment in some))
    gpus = draw(st.lists(st.builds(MapGpu, uuids, u32), min_size=1, max_size=3))
    facts = [draw(field) for field in (uuids, u64, u64, u16, u64, u32)]
    return MemoryMap(*facts, 0, *total, gpus, some)


@given(maps())
def test_a_map_is_read_as_it_was_written(memory_map):
    assert unpack_map(pack_map(memory_map)) == memory_map


@given(st.builds(Request, uuids, u64, u16))
def test_a_request_is_read_as_it_was_written(request):
    raw = pack_request(request)

    assert (48, request) == (len(raw), unpack_request(raw))


def test_the_bytes_of_a_request():
    raw = pack_request(Request(NONCE, 7))

    assert raw[:16] == b"GREQ\x00\x01\r\n" + struct.pack("<HHI", 1, 1, 0)
    assert raw[16:40] == NONCE + struct.pack("<Q", 7)


def test_the_bytes_of_a_map():
    segment = MapSegment(0x7000, 2 * MIB, 3, (4, 5), 0, 1, [MapBlock(512, 1024, 1000, 1)])
    raw = pack_map(MemoryMap(NONCE, 1, 2, 0, 9, 0, 0, 1, 1, [MapGpu(bytes(16), 6)], [segment]))

    assert raw[:24] == b"GMAP\x00\x01\r\n" + struct.pack("<8H", 1, 0, 96, 24, 56, 32, 0, 0)
    assert raw[24:48] == struct.pack("<6I", 1, 1, 1, 1, 1, 0)
    assert raw[48:88] == NONCE + struct.pack("<3Q", 1, 2, 9)
    assert raw[96:120] == bytes(16) + struct.pack("<II", 6, 0)
    assert raw[120:176] == struct.pack("<5Q4I", 0x7000, 2 * MIB, 3, 4, 5, 0, 1, 1, 0)
    assert raw[176:] == struct.pack("<3Q2I", 512, 1024, 1000, 1, 0)


@given(maps(), st.data())
def test_a_damaged_map_is_refused(memory_map, data):
    raw = bytearray(pack_map(memory_map))
    # The four bytes after the checksum are padding.
    where = st.integers(0, len(raw) - 1).filter(lambda at: not 92 <= at < 96)
    raw[data.draw(where)] ^= data.draw(st.integers(1, 255))

    with pytest.raises(LayoutError):
        unpack_map(bytes(raw))


@given(maps(), st.data())
def test_a_map_cut_short_is_refused(memory_map, data):
    raw = pack_map(memory_map)

    with pytest.raises(LayoutError):
        unpack_map(raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(st.binary(max_size=200))
def test_noise_is_no_request(raw):
    with pytest.raises(LayoutError):
        unpack_request(raw)


def test_a_map_of_too_many_blocks_is_cut_and_says_so():
    many = [MapBlock(512 * n, 512, 512, 1) for n in range(100_000)]
    some = [MapSegment(0, 512, 0, (0, 0), 0, 0, many), MapSegment(1, 512, 0, (0, 0), 0, 0, many)]
    raw = pack_map(MemoryMap(NONCE, 1, 2, 0, 0, 0, 0, 2, 200_000, [MapGpu(bytes(16), 0)], some))
    read = unpack_map(raw)

    assert 4 * MIB - 32 < len(raw) <= 4 * MIB
    assert (1, 2, 200_000) == (read.flags, read.total_segments, read.total_blocks)
    assert read.segments[0].blocks == many
    assert read.segments[1].blocks == many[: len(read.segments[1].blocks)]


def test_segments_of_a_gpu_that_is_not_listed_are_refused():
    some = [MapSegment(0, 512, 0, (0, 0), 1, 0, [])]

    with pytest.raises(LayoutError, match="no GPU"):
        unpack_map(pack_map(MemoryMap(NONCE, 1, 2, gpus=[MapGpu(bytes(16), 0)], segments=some)))
