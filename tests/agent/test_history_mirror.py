"""History outlives the agent, and no file that it finds can hurt it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from math import inf

import pytest
from structlog.testing import capture_logs

from gpuward.agent import history_layout as layout
from gpuward.agent import history_mirror
from gpuward.agent.history import History
from gpuward.agent.history_file import HistoryFile
from gpuward.agent.history_mirror import HistoryMirror
from gpuward.agent.model import Result, Sample, SeriesKey

USED = SeriesKey("gpu_memory_used_bytes", gpu="GPU-1")
# Bytes of a row before its first figure.
HEAD = 32


def new(clock, boot_id="boot-1"):
    return History(boot_id, now_s=clock.mono_s(), wall_s=clock.wall_s())


def mirror_of(history, path, clock, components):
    return HistoryMirror(history, path, clock=clock, components=components)


def live(history, clock, value):
    """Let the agent see one value now."""
    history.add([Sample(USED, clock.mono_s(), value)])
    history.advance(clock.mono_s(), clock.wall_s())


def points_of(history, clock):
    offset_s = clock.wall_s() - clock.mono_s()
    chunks = history.points(USED, -inf, inf, offset_s)
    return sorted((p.at_s, p.value) for points in chunks for p in points)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.rows"


@pytest.fixture
async def kept(path, clock, components):
    """A file of an agent that saw 1, 2 and 3 in three seconds."""
    history = new(clock)
    mirror = mirror_of(history, path, clock, components)
    for value in (1.0, 2.0, 3.0):
        live(history, clock, value)
        await clock.advance(1.0)
    await mirror.close()
    return points_of(history, clock)


def taken_over(path, clock, components, boot_id="boot-1"):
    history = new(clock, boot_id)
    with capture_logs() as logs:
        mirror_of(history, path, clock, components)
    return history, logs


async def test_it_goes_on_after_a_restart(kept, path, clock, components):
    history, logs = taken_over(path, clock, components)
    live(history, clock, 4.0)

    assert points_of(history, clock) == [*kept, (clock.mono_s(), 4.0)]
    assert [line["event"] for line in logs] == ["history.taken_over"]


async def test_it_is_no_larger_than_16_mib(kept, path):
    assert path.stat().st_size <= 16 << 20
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("wall_jump_s", [0.0, 3_000.0, -5_000.0])
async def test_what_was_before_a_reboot_has_its_wall_time(
    kept, path, clock, components, wall_jump_s
):
    """Monotonic time begins anew; the wall clock may have been wrong on either side."""
    saw_s = [at_s + clock.wall_s() - clock.mono_s() for at_s, _ in kept]
    clock._mono_s = 30.0
    clock.jump_wall(60.0 + wall_jump_s)
    history, _ = taken_over(path, clock, components, "boot-2")
    live(history, clock, 4.0)

    offset_s = clock.wall_s() - clock.mono_s()
    found = [(at_s + offset_s, value) for at_s, value in points_of(history, clock)]
    expected = [*zip(saw_s, (1.0, 2.0, 3.0), strict=True), (clock.wall_s(), 4.0)]
    assert found == sorted(expected)


async def test_an_hour_after_a_reboot_there_is_the_mean(kept, path, clock, components):
    saw_s = kept[0][0] + clock.wall_s() - clock.mono_s()
    clock._mono_s = 30.0
    clock.jump_wall(7_200.0)
    history, _ = taken_over(path, clock, components, "boot-2")
    live(history, clock, 4.0)

    offset_s = clock.wall_s() - clock.mono_s()
    found = [(at_s + offset_s, value) for at_s, value in points_of(history, clock)]
    assert found == [(saw_s, 2.0), (clock.wall_s(), 4.0)]


async def test_a_second_restart_in_the_new_boot(kept, path, clock, components):
    clock._mono_s = 30.0
    first = new(clock, "boot-2")
    mirror = mirror_of(first, path, clock, components)
    live(first, clock, 4.0)
    await mirror.close()
    await clock.advance(5.0)
    history, _ = taken_over(path, clock, components, "boot-2")

    assert [value for _, value in points_of(history, clock)] == [1.0, 2.0, 3.0, 4.0]


def row_offset(raw, value):
    """Return where the row of a second lies whose first figure is ``value``."""
    for offset in range(layout.SECONDS.offset, layout.SECONDS.end, layout.SECONDS.row_size):
        if any(raw[offset : offset + 4]) and (
            struct.unpack_from("f", raw, offset + HEAD)[0] == value
        ):
            return offset
    raise AssertionError("no such row")


async def test_a_torn_row_is_found_and_dropped(kept, path, clock, components):
    raw = bytearray(path.read_bytes())
    offset = row_offset(raw, 2.0)
    raw[offset + 500 : offset + 600] = b"\7" * 100
    path.write_bytes(raw)

    history, logs = taken_over(path, clock, components)

    assert points_of(history, clock) == [kept[0], kept[2]]
    assert [line["torn_rows"] for line in logs] == [1]


async def test_a_torn_directory_leaves_the_other_one(kept, path, clock, components):
    """Rows of a directory that was lost are not taken for another series'."""
    raw = bytearray(path.read_bytes())
    generations = {
        struct.unpack_from("<I", raw, offset + 4)[0]: offset for offset in layout.DIRECTORY_OFFSETS
    }
    # The first had no series yet, or is not there: all rows are of the second.
    newest = generations[max(generations)]
    raw[newest + 20] ^= 255
    path.write_bytes(raw)

    history, _ = taken_over(path, clock, components)

    assert points_of(history, clock) == []


def signed(raw, offset, size):
    raw[offset : offset + 4] = zlib.crc32(raw[offset + 4 : offset + size]).to_bytes(4, "little")


def cut(raw):
    del raw[5_000_000:]


def longer(raw):
    raw += b"x"


def empty(raw):
    raw.clear()


def other_version(raw):
    raw[8] += 1


def foreign(raw):
    raw[:8] = b"SQLite f"


def zeros(raw):
    raw[:] = bytes(len(raw))


def no_directory(raw):
    for offset in layout.DIRECTORY_OFFSETS:
        raw[offset : offset + 64] = b"\3" * 64


def hostile_directory(raw):
    for offset in layout.DIRECTORY_OFFSETS:
        body = b'{"boot_id": 7, "shift": "x"}'
        raw[offset + 4 : offset + 12] = struct.pack("<II", 9, len(body))
        raw[offset + 12 : offset + 12 + len(body)] = body
        signed(raw, offset, 12 + len(body))


def of_the_future(raw):
    offset = row_offset(raw, 2.0)
    (step,) = struct.unpack_from("<q", raw, offset + 16)
    struct.pack_into("<q", raw, offset + 16, step + 3_600 * 1_000)
    signed(raw, offset, layout.SECONDS.row_size)


@pytest.mark.parametrize(
    "case",
    [
        (cut, "5000000 bytes"),
        (longer, "bytes, not"),
        (empty, "too short"),
        (other_version, "version 2"),
        (foreign, "no history"),
        (zeros, "no history"),
        (no_directory, "what is in it"),
        (hostile_directory, "Expected"),
        (of_the_future, "time that has not come yet"),
    ],
    ids=lambda case: case[0].__name__,
)
async def test_a_file_that_cannot_be_used_is_begun_anew(kept, path, clock, components, case):
    """It is said in one line, and the next one is whole again."""
    damage, reason = case
    raw = bytearray(path.read_bytes())
    damage(raw)
    path.write_bytes(raw)

    history = new(clock)
    with capture_logs() as logs:
        mirror = mirror_of(history, path, clock, components)
    live(history, clock, 9.0)
    await mirror.close()
    after, _ = taken_over(path, clock, components)

    assert [line["event"] for line in logs] == ["history.begun_anew"]
    assert reason in logs[0]["reason"]
    assert [value for _, value in points_of(after, clock)] == [9.0]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
async def test_what_is_no_file_is_no_history(path, clock, components, kind):
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/dev/zero"),
    }[kind]()

    history, logs = taken_over(path, clock, components)
    live(history, clock, 1.0)

    assert [line["event"] for line in logs] == ["history.begun_anew"]
    assert len(points_of(history, clock)) == 1


@pytest.mark.parametrize("damage", ["truncated", "deleted", "replaced"])
async def test_a_file_that_is_damaged_while_we_run_is_made_whole(path, clock, components, damage):
    history = new(clock)
    mirror = mirror_of(history, path, clock, components)
    live(history, clock, 1.0)
    await mirror._write()
    if damage == "truncated":
        os.truncate(path, 100)
    else:
        path.unlink()
    if damage == "replaced":
        path.write_bytes(b"theirs")
    await clock.advance(1.0)
    live(history, clock, 2.0)
    await mirror.close()

    after, _ = taken_over(path, clock, components)
    assert [value for _, value in points_of(after, clock)] == [1.0, 2.0]


async def test_without_a_disk_it_is_in_memory_and_says_so_once(tmp_path, clock, components):
    """As soon as there is one, all of it is there."""
    folder = tmp_path / "state"
    path = folder / "history.rows"
    history = new(clock)
    mirror = mirror_of(history, path, clock, components)
    with capture_logs() as logs:
        for _ in range(3):
            live(history, clock, 1.0)
            await mirror._write()
            await clock.advance(1.0)
        health = {part.component: part for part in components.health}["history"]
        folder.mkdir()
        await mirror._write()
        live(history, clock, 2.0)
        await mirror.close()

    assert health.result is Result.WARN
    assert "No such file" in health.reason
    assert [line["event"] for line in logs] == ["history.in_memory_only", "history.recovered"]
    assert {part.component: part.result for part in components.health}["history"] is Result.OK
    after, _ = taken_over(path, clock, components)
    assert [value for _, value in points_of(after, clock)] == [1.0, 1.0, 1.0, 2.0]


async def test_a_disk_that_hangs_stops_nobody(path, clock, components, monkeypatch):
    """It is said once; when the disk answers again, everything is there."""
    monkeypatch.setattr(history_mirror, "WRITTEN_WITHIN_S", 0.02)
    release = threading.Event()
    history = new(clock)
    mirror = mirror_of(history, path, clock, components)
    mirror._thread._calls.put(lambda: release.wait(200))
    with capture_logs() as logs:
        for _ in range(3):
            live(history, clock, 1.0)
            await mirror._write()
            await clock.advance(1.0)
        health = {part.component: part for part in components.health}["history"]
        release.set()
        monkeypatch.setattr(history_mirror, "WRITTEN_WITHIN_S", 200.0)
        await mirror.close()

    assert health.result is Result.WARN
    assert "did not answer" in health.reason
    assert [line["event"] for line in logs] == ["history.in_memory_only", "history.recovered"]
    after, _ = taken_over(path, clock, components)
    assert len(points_of(after, clock)) == 3


def test_a_full_disk_leaves_no_half_file(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    file = HistoryFile(path, os.memfd_create("m"))

    with pytest.raises(OSError, match="No space"):
        file.write({})
    assert list(path.parent.iterdir()) == []


WRITER = """
import sys, time
from pathlib import Path
from gpuward.agent.history import History
from gpuward.agent.history_file import HistoryFile
from gpuward.agent.model import Sample, SeriesKey
history = History("boot-1", now_s=0.0, wall_s=1.8e9)
file = HistoryFile(Path(sys.argv[1]), history.rows.fd)
for second in range(10**9):
    key = SeriesKey("gpu_memory_used_bytes", gpu=f"GPU-{second // 50 % 200}")
    history.add([Sample(key, float(second), float(second))])
    history.advance(float(second), 1.8e9 + second)
    file.write(history.rows.take_unwritten())
    if second % 10 == 0:
        print(second, flush=True)
"""


@pytest.mark.parametrize("after", [30, 311, 907])
def test_what_was_written_before_kill_9_is_there(path, clock, components, after):
    """Every figure that comes back is the one that was put there, in every series."""
    writer = subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE
    )
    for line in writer.stdout:
        if int(line) >= after:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=200)

    clock._mono_s = 1e6
    history, logs = taken_over(path, clock, components)
    found = [
        point
        for gpu in range(200)
        for points in history.points(
            SeriesKey("gpu_memory_used_bytes", gpu=f"GPU-{gpu}"), -inf, inf, 1.8e9
        )
        for point in points
    ]

    assert logs[0]["event"] == "history.taken_over"
    seconds = sorted(point.at_s for point in found if point.at_s == point.value)
    assert len(seconds) == len(found)
    assert seconds[: after + 1] == [float(second) for second in range(after + 1)]
