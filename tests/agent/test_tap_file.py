"""Reading a tap file that anybody may have written: whole records only, never an exception else."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.samplers.tap_file import RefusedError, TapFile
from gpuward.tap.layout import Header, Record, pack_header, pack_record

GPU = bytes(range(1, 17))


def packed(record):
    raw = bytearray(1024)
    pack_record(raw, record)
    return bytes(raw)


def record(seq, gpu=GPU):
    return Record(seq, 100 + seq, 200 + seq, gpu, 0)


def content(header=None, *, slots=()):
    """Return a file of one device with the given records in its slots."""
    header = header or Header(device_count=1)
    raw = bytearray(header.file_size)
    raw[: header.header_size] = pack_header(header)
    for one in slots:
        at = header.slot_offset(0, one.seq)
        raw[at : at + 1024] = packed(one)
    return bytes(raw)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("tap") / "file.tap"


def opened(path, raw):
    path.unlink(missing_ok=True)
    path.write_bytes(raw)
    return TapFile(path)


def read_all(path, raw):
    file = opened(path, raw)
    try:
        return file.read()
    finally:
        file.close()


def whole(packed):
    return Record._make(getattr(packed, name) for name in Record._fields)


@pytest.mark.parametrize(
    ("slots", "seq"),
    [
        pytest.param([], None, id="nothing yet"),
        pytest.param([record(2)], 2, id="first"),
        pytest.param([record(2), record(4)], 4, id="the newer of two"),
        pytest.param([record(6), record(4)], 6, id="whichever slot it is in"),
    ],
)
def test_the_newest_whole_record_counts(path, slots, seq):
    read = read_all(path, content(slots=slots))

    assert seq == (read[0].seq if read else None)


def test_a_torn_slot_leaves_the_record_before(path):
    raw = bytearray(content(slots=[record(2), record(4)]))
    raw[4096 + 500] ^= 1

    assert read_all(path, bytes(raw))[0].seq == 2


def test_a_torn_slot_beside_a_record_that_is_known_is_no_news(path):
    file = opened(path, content(slots=[record(2)]))
    file.read()
    raw = bytearray(content(slots=[record(2), record(4)]))
    raw[4096 + 500] ^= 1
    path.write_bytes(raw)

    assert file.read() == {}
    path.write_bytes(content(slots=[record(2), record(4)]))
    assert file.read()[0].seq == 4
    file.close()


def test_of_two_new_records_the_whole_one_counts(path):
    """Both came since the last read, and the newer one is being written."""
    file = opened(path, content(slots=[record(2)]))
    file.read()
    raw = bytearray(content(slots=[record(4), record(6)]))
    raw[4096 + 1024 + 500] ^= 1
    path.write_bytes(raw)

    assert file.read()[0].seq == 4
    file.close()


def test_a_record_is_read_once(path):
    file = opened(path, content(slots=[record(4)]))

    assert [bool(file.read()), bool(file.read())] == [True, False]
    file.close()


def test_a_sequence_that_runs_backwards_is_not_news(path):
    file = opened(path, content(slots=[record(6)]))
    file.read()
    path.write_bytes(content(slots=[record(4)]))

    assert file.read() == {}
    file.close()


def test_a_device_may_not_become_another(path):
    """Else one file could make series without end."""
    file = opened(path, content(slots=[record(2)]))
    file.read()
    path.write_bytes(content(slots=[record(4, gpu=b"x" * 16)]))

    assert (file.read(), file.foreign) == ({}, 1)
    file.close()


def test_a_device_without_identity_is_not_read(path):
    assert read_all(path, content(slots=[record(2, gpu=bytes(16))])) == {}


def test_later_minor_versions_with_larger_parts_are_read(path):
    header = Header(
        device_count=1, minor=9, header_size=8192, slot_size=4096, ring_entries=8
    )._replace(ring_entry_size=256)

    assert read_all(path, content(header, slots=[record(2), record(4)]))[0].seq == 4


def test_a_file_that_is_cut_while_open_has_no_news(path):
    file = opened(path, content(slots=[record(2)]))
    os.truncate(path, 10)

    assert file.read() == {}
    file.close()


def _fifo(path):
    os.mkfifo(path)


def _symlink(path):
    other = path.with_name("other")
    other.write_bytes(content())
    path.symlink_to(other)


def _hard_link(path):
    other = path.with_name("other2")
    other.write_bytes(content())
    path.hardlink_to(other)


def _writes(raw):
    return lambda path: path.write_bytes(raw)


def _sparse(path):
    path.write_bytes(content())
    os.truncate(path, 256 * 1024 + 1)


def _many_devices(path):
    """A header that promises more than the file holds."""
    raw = bytearray(content())
    raw[:4096] = pack_header(Header(device_count=20))
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(_fifo, "not a regular file", id="pipe that would block"),
        pytest.param(lambda path: path.mkdir(), "not a regular file", id="directory"),
        pytest.param(_symlink, "unreadable", id="link"),
        pytest.param(_hard_link, "linked elsewhere", id="second name"),
        pytest.param(lambda path: None, "unreadable", id="gone"),
        pytest.param(_sparse, "too large", id="more than 256 KiB"),
        pytest.param(_writes(b""), "0 bytes are no header", id="empty"),
        pytest.param(_writes(b"\0" * 20_000), "wrong magic", id="zeros"),
        pytest.param(_many_devices, "shorter than its header says", id="device count"),
        pytest.param(
            _writes(pack_header(Header(device_count=65_535))),
            "shorter than its header says",
            id="huge device count",
        ),
        pytest.param(
            _writes(pack_header(Header(device_count=1, ring_entries=65_535))),
            "shorter than its header says",
            id="huge ring",
        ),
        pytest.param(
            _writes(pack_header(Header(device_count=1, major=2))),
            "major version 2, expected 1",
            id="major version",
        ),
    ],
)
def test_what_is_no_tap_file_is_refused(tmp_path, make, reason):
    path = tmp_path / "file.tap"
    make(path)
    descriptors = len(list(tmp_path.joinpath("/proc/self/fd").iterdir()))

    with pytest.raises(RefusedError, match=reason):
        TapFile(path)
    assert len(list(tmp_path.joinpath("/proc/self/fd").iterdir())) == descriptors


CHANGES = st.lists(st.tuples(st.integers(0, 14_335), st.integers(0, 255)), max_size=8)


@given(CHANGES, st.integers(0, 14_336))
def test_no_damage_yields_a_record_that_nobody_wrote(path, changes, length):
    """Any bytes changed anywhere, cut anywhere: an honest record, none, or a refusal."""
    honest = [record(2), record(4)]
    raw = bytearray(content(slots=honest))
    for at, value in changes:
        raw[at] = value

    try:
        read = read_all(path, bytes(raw[:length]))
    except RefusedError:
        return
    assert all(whole(found) in honest for found in read.values())


@given(st.binary(max_size=20_000))
def test_garbage_with_a_true_header_is_read_without_harm(path, garbage):
    header = Header(device_count=1)
    raw = (pack_header(header) + garbage).ljust(header.file_size, b"\0")

    assert read_all(path, raw) == {}
