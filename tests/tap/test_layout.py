"""The byte layout of a tap file: every offset restated, every damaged record refused."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap.layout import (
    Counters,
    Header,
    LayoutError,
    OutOfMemory,
    Record,
    RingEntry,
    Summary,
    Totals,
    pack_header,
    pack_record,
    pack_ring_entry,
    unpack_header,
    unpack_ring_entry,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
COUNTERS = st.builds(Counters, *[U64] * 9)
RECORDS = st.builds(
    Record,
    seq=st.integers(1, 2**62).map(lambda n: 2 * n),
    mono_ns=U64,
    real_ns=U64,
    gpu_uuid=st.binary(min_size=16, max_size=16),
    ordinal=U32,
    flags=U32,
    all_pools=COUNTERS,
    small_pool=COUNTERS,
    large_pool=COUNTERS,
    peak=COUNTERS,
    totals=st.builds(Totals, *[U64] * 12),
    summary=st.builds(Summary, *[U64] * 10),
    free_bytes=st.tuples(*[U64] * 28),
    free_counts=st.tuples(*[U32] * 28),
    tick_cost_ns=U32,
    missed_ticks=U32,
    oom=st.builds(OutOfMemory, *[U64] * 5),
)

HEADER = Header(
    device_count=2,
    ns_pid=11,
    uid=12,
    pidns_inode=13,
    start_ticks=14,
    created_realtime_ns=15,
    boot_id=b"b" * 16,
    period_ms=1000,
    snapshot_min_period_ms=30_000,
    tap_version="0.1.0",
    torch_version="2.14.1+cu128",
    allocator_backend="native",
    framework="vllm 0.32.0",
    alloc_conf="expandable_segments:True",
    rank=3,
    world=8,
    flags=1,
)

RECORD = Record(
    seq=6,
    mono_ns=101,
    real_ns=102,
    gpu_uuid=b"u" * 16,
    ordinal=103,
    flags=104,
    all_pools=Counters(*range(1000, 1009)),
    small_pool=Counters(*range(2000, 2009)),
    large_pool=Counters(*range(3000, 3009)),
    peak=Counters(*range(4000, 4009)),
    totals=Totals(*range(5000, 5012)),
    summary=Summary(*range(6000, 6010)),
    free_bytes=tuple(range(7000, 7028)),
    free_counts=tuple(range(8000, 8028)),
    tick_cost_ns=9000,
    missed_ticks=9001,
    oom=OutOfMemory(*range(9100, 9105)),
)


def packed(record: Record) -> bytearray:
    raw = bytearray(1024)
    pack_record(raw, record)
    return raw


def unpacked(raw: bytes) -> Record | None:
    """Ask a record for all that it has."""
    read = unpack_record(raw)
    return None if read is None else Record(*(getattr(read, name) for name in Record._fields))


@pytest.mark.parametrize(
    ("offset", "form", "expected"),
    [
        (0, "<8s", b"GTAP\0\1\r\n"),
        (8, "<HH", (1, 0)),
        (12, "<I", 4096),
        (16, "<I", 4096 + 2 * 10_240),
        (20, "<HHHHHH", (2, 1024, 2, 128, 64, 1)),
        (32, "<32s", bytes(32)),
        (64, "<IIQQQ", (11, 12, 13, 14, 15)),
        (96, "<16s", b"b" * 16),
        (112, "<II", (1000, 30_000)),
        (120, "<8s", bytes(8)),
        (128, "<16s", b"0.1.0".ljust(16, b"\0")),
        (144, "<24s", b"2.14.1+cu128".ljust(24, b"\0")),
        (168, "<16s", b"native".ljust(16, b"\0")),
        (184, "<32s", b"vllm 0.32.0".ljust(32, b"\0")),
        (216, "<256s", b"expandable_segments:True".ljust(256, b"\0")),
        (472, "<II", (3, 8)),
        (480, "<540s", bytes(540)),
        (1024, "<3072s", bytes(3072)),
    ],
)
def test_header_fields_lie_where_version_1_says(offset, form, expected):
    raw = pack_header(HEADER)

    found = struct.unpack_from(form, raw, offset)
    assert (expected if isinstance(expected, tuple) else (expected,)) == found


def test_header_is_a_page_with_its_checksum_at_1020():
    raw = pack_header(HEADER)

    assert len(raw) == 4096
    assert struct.unpack_from("<I", raw, 1020) == (zlib.crc32(raw[:1020]),)


@pytest.mark.parametrize(
    ("offset", "form", "expected"),
    [
        (0, "<QQQ", (6, 101, 102)),
        (24, "<16s", (b"u" * 16,)),
        (40, "<II", (103, 104)),
        # Families in torch's order, each as all pools, small pool, large pool.
        (48, "<6Q", (1000, 2000, 3000, 1001, 2001, 3001)),
        (48 + 8 * 24, "<3Q", (1008, 2008, 3008)),
        (48 + 8 * 27, "<9Q", tuple(range(4000, 4009))),
        (336, "<12Q", tuple(range(5000, 5012))),
        (432, "<10Q", tuple(range(6000, 6010))),
        (512, "<28Q", tuple(range(7000, 7028))),
        (736, "<28I", tuple(range(8000, 8028))),
        (848, "<IIQ", (9000, 9001, 0)),
        (864, "<5Q", tuple(range(9100, 9105))),
        (908, "<I", (0,)),
        (912, "<Q", (6,)),
        (920, "<104s", (bytes(104),)),
    ],
)
def test_record_fields_lie_where_version_1_says(offset, form, expected):
    assert expected == struct.unpack_from(form, packed(RECORD), offset)


def test_record_checksum_covers_all_but_the_sequence_number():
    raw = packed(RECORD)

    assert struct.unpack_from("<I", raw, 904) == (zlib.crc32(raw[8:904]),)


def test_ring_entry_has_64_bytes_with_its_checksum_last():
    raw = pack_ring_entry(RingEntry(1, 2, 3, 4, 5, 6, 7, 8, 9))

    assert len(raw) == 64
    assert struct.unpack("<QQQQQIIQII", raw) == (1, 2, 3, 4, 5, 6, 7, 8, 9, zlib.crc32(raw[:60]))


def test_ring_counters_wrap_at_32_bits():
    entry = RingEntry(1, alloc_retries=2**32 + 5, ooms=2**32 + 6)

    read = unpack_ring_entry(pack_ring_entry(entry))
    assert read is not None
    assert (read.alloc_retries, read.ooms) == (5, 6)


@pytest.mark.parametrize(
    ("device", "seq", "slot", "ring"),
    [
        pytest.param(0, 2, 4096 + 1024, 4096 + 2048 + 64, id="first publication, second slot"),
        pytest.param(0, 4, 4096, 4096 + 2048 + 128, id="second publication, first slot"),
        pytest.param(0, 256, 4096, 4096 + 2048, id="ring starts over"),
        pytest.param(1, 2, 14_336 + 1024, 14_336 + 2048 + 64, id="second device"),
    ],
)
def test_places_in_the_file(device, seq, slot, ring):
    assert (slot, ring) == (HEADER.slot_offset(device, seq), HEADER.ring_offset(device, seq))


def test_header_round_trip():
    assert unpack_header(pack_header(HEADER)) == HEADER


def test_header_cuts_long_text_and_replaces_foreign_letters():
    header = unpack_header(pack_header(HEADER._replace(framework="ü" * 40, alloc_conf="x" * 300)))

    assert (header.framework, header.alloc_conf) == ("?" * 32, "x" * 256)


@given(RECORDS)
def test_record_round_trip(record):
    assert unpacked(bytes(packed(record))) == record


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: raw[:1000], id="short"),
        pytest.param(lambda raw: b"X" + raw[1:], id="magic"),
        pytest.param(lambda raw: raw[:8] + b"\2\0" + raw[10:], id="major 2"),
        pytest.param(lambda raw: raw[:20] + b"\3\0" + raw[22:], id="checksum"),
        pytest.param(lambda _: pack_header(HEADER._replace(slot_size=512)), id="small slots"),
        pytest.param(
            lambda _: pack_header(HEADER._replace(ring_entry_size=32)), id="small entries"
        ),
        pytest.param(lambda _: pack_header(HEADER._replace(ring_entries=0)), id="no ring"),
        pytest.param(lambda _: pack_header(HEADER._replace(header_size=2048)), id="small header"),
    ],
)
def test_a_header_that_is_none_is_refused(damage):
    with pytest.raises(LayoutError):
        unpack_header(damage(pack_header(HEADER)))


def test_a_later_minor_version_may_be_larger():
    header = HEADER._replace(minor=7, header_size=8192, slot_size=2048, ring_entry_size=128)

    assert unpack_header(pack_header(header)) == header


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: bytes(1024), id="empty"),
        pytest.param(lambda raw: raw[:919], id="cut short"),
        pytest.param(lambda raw: b"\7" + raw[1:], id="odd: being written"),
        pytest.param(lambda raw: b"\x08" + raw[1:], id="sequence number newer than its copy"),
        pytest.param(lambda raw: raw[:912] + b"\x08" + raw[913:], id="copy newer"),
        pytest.param(lambda raw: raw[:903] + b"\xff" + raw[904:], id="last byte of the body"),
        pytest.param(lambda raw: raw[:8] + b"\xff" + raw[9:], id="first byte of the body"),
    ],
)
def test_a_damaged_record_is_no_record(damage):
    assert unpack_record(damage(bytes(packed(RECORD)))) is None


@given(st.integers(0, 919), st.integers(0, 255))
def test_no_single_changed_byte_goes_unnoticed(at, value):
    """The four bytes at 908 are unused; everything else is covered."""
    raw = packed(RECORD)
    raw[at] = value

    assert unpacked(bytes(raw)) in (None, RECORD)


@given(st.binary(max_size=2048), st.integers(0, 1200))
def test_garbage_is_never_an_exception(raw, offset):
    unpack_record(raw, offset)
    unpack_ring_entry(raw, offset)
