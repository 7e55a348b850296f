"""The tap directory tells of files as they come and go, whatever happens to the directory."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import uuid

import pytest
from structlog.testing import capture_logs

from gpuward.agent.samplers.tap_directory import TapDirectory
from gpuward.agent.samplers.tap_watch import TapWatch, parse
from gpuward.tap.layout import Header, pack_header

pytestmark = pytest.mark.usefixtures("one_loop")


def put(directory, name=None):
    """Make a tap file as a tap does: complete, then renamed; return its path."""
    header = Header(device_count=1)
    path = directory / (name or f"{uuid.uuid4()}.tap")
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(pack_header(header).ljust(header.file_size, b"\0"))
    return unfinished.rename(path)


async def turns():
    """Let the loop look at its descriptors."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tap"
    path.mkdir()
    return path


@pytest.fixture
async def directory(path):
    directory = TapDirectory(path)
    directory.watch()
    directory.update(now_s=0.0)
    yield directory
    directory.close()


async def test_a_new_file_is_open_before_the_next_turn_of_the_sampler(directory, path):
    new = put(path)
    await turns()

    assert [new.name] == list(directory.files)
    assert set() == directory.update(now_s=1.0)


async def test_a_file_that_left_is_gone_but_can_still_be_read(directory, path):
    """What a process wrote last in its half second of life is evidence."""
    new = put(path)
    await turns()
    new.unlink()
    await turns()

    assert {new.name} == directory.update(now_s=1.0)
    assert {} == directory.files[new.name].read()
    directory.drop(new.name)
    assert set() == directory.update(now_s=2.0)


async def test_a_name_that_another_file_took_is_read_anew(directory, path):
    new = put(path)
    await turns()
    put(path, new.name)
    await turns()

    assert {new.name} == directory.update(now_s=1.0)
    directory.drop(new.name)
    directory.update(now_s=30.0)
    assert directory.files[new.name].inode == new.stat().st_ino


@pytest.mark.parametrize(
    ("now_s", "found"),
    [pytest.param(29.9, False, id="not yet"), pytest.param(30.0, True, id="after half a minute")],
)
async def test_what_no_event_told_of_is_found_in_the_listing(directory, path, now_s, found):
    new = put(path.parent)
    os.link(new, path / new.name)
    new.unlink()
    await turns()
    directory.update(now_s=now_s)

    assert found == bool(directory.files)


async def test_other_names_are_not_looked_at(directory, path):
    for name in ("a.tap", f"{uuid.uuid4()}.map", f"{uuid.uuid4()}.req"):
        (path / "tmp").write_bytes(b"")
        (path / "tmp").rename(path / name)
    await turns()
    directory.update(now_s=30.0)

    assert {} == directory.files
    assert not directory.refused


async def test_a_directory_that_comes_later_is_watched(path):
    directory = TapDirectory(path / "later")
    directory.watch()
    assert set() == directory.update(now_s=0.0)
    (path / "later").mkdir()
    directory.update(now_s=1.0)
    new = put(path / "later")
    await turns()

    assert [new.name] == list(directory.files)
    directory.close()


async def test_a_directory_that_is_replaced_is_watched(directory, path):
    old = put(path)
    await turns()
    path.rename(path.with_name("old"))
    path.mkdir()
    first = put(path)
    assert {old.name} == directory.update(now_s=1.0)
    directory.drop(old.name)
    second = put(path)
    await turns()

    assert {first.name, second.name} == directory.files.keys()


async def test_a_directory_that_is_removed_has_no_files(directory, path):
    old = put(path)
    await turns()
    old.unlink()
    path.rmdir()
    await turns()

    assert {old.name} == directory.update(now_s=1.0)


async def test_a_flood_of_files_is_left_to_one_listing(path):
    """Nobody can keep the agent busy by making files faster than it can look at them."""
    told = []
    watch = TapWatch(path, appeared=told.append, left=told.append)
    watch.renew()
    for number in range(2_100):
        (path / "tmp").write_bytes(b"")
        (path / "tmp").rename(path / f"{number}")
    while not watch_is_closed(watch):
        await turns()

    assert [f"{number}" for number in range(2_000)] == told
    assert watch.renew()
    assert not watch.renew()
    watch.close()


def watch_is_closed(watch):
    return watch._fd is None


async def test_a_node_without_watches_is_looked_at_and_said_once(path):
    def none_left():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    watch = TapWatch(path, appeared=str, left=str, open_inotify=none_left)
    with capture_logs() as logs:
        assert [watch.renew() for _ in range(3)] == [True, True, True]

    assert [("tap.not_watched", "Too many open files")] == [
        (line["event"], line["reason"]) for line in logs
    ]


async def test_a_directory_nobody_watches_is_listed_at_every_turn(path):
    directory = TapDirectory(path)
    directory.update(now_s=0.0)
    new = put(path)
    directory.update(now_s=1.0)

    assert [new.name] == list(directory.files)
    directory.close()


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(struct.pack("iIII", 1, 0x400, 0, 0), [(0x400, "")], id="without a name"),
        pytest.param(
            struct.pack("iIII16s", 1, 0x80, 7, 16, b"a.tap")
            + struct.pack("iIII16s", 1, 0x200, 0, 16, b"b"),
            [(0x80, "a.tap"), (0x200, "b")],
            id="two",
        ),
        pytest.param(struct.pack("iIII", 1, 0x80, 0, 0)[:-1], [], id="cut short"),
    ],
)
def test_parse(raw, events):
    """struct inotify_event of inotify(7); names are padded with NUL."""
    assert events == list(parse(raw))
