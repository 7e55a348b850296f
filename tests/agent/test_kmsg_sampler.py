"""Following a kernel log: nothing missed, nothing twice, nothing that stops the rest."""

from __future__ import annotations

import os

import pytest
from structlog.testing import capture_logs

from gpuward.agent.model import Gpu, Result
from gpuward.agent.samplers.kmsg import KmsgSampler

GPUS = (Gpu("GPU-aaaa", 0, "H100", "00000000:10:00.0"),)
FELL = (
    "NVRM: Xid (PCI:0000:10:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
)


def record(seq, text, *, prio=3, at_s=900.0):
    return f"{prio},{seq},{int(at_s * 1e6)},-;{text}\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "kmsg"
    path.touch()
    return path


@pytest.fixture
def kmsg(path):
    return KmsgSampler(path, boot_id="boot-1", gpus=lambda: GPUS)


def append(path, text):
    with path.open("a") as file:
        file.write(text)


async def identities(kmsg, now_s=1_000.0):
    return [event.identity for event in (await kmsg.sample(now_s)).events]


async def test_event(kmsg, path):
    """An XID is an event with the GPU's UUID, at the time that the kernel says."""
    append(path, record(7, FELL))

    async with kmsg:
        (event,) = (await kmsg.sample(1_000.0)).events

    assert (event.kind, event.code, event.gpu, event.pid) == ("gpu.xid", 79, "GPU-aaaa", 0)
    assert event.identity == "kmsg:boot-1:7"
    assert event.at_s == 900.0
    assert event.text == "GPU has fallen off the bus."


async def test_follows(kmsg, path):
    """Each record is an event once; other lines are none; what is added is found."""
    append(path, record(1, "usb 1-1: new device") + record(2, FELL))
    async with kmsg:
        first = await identities(kmsg)
        again = await identities(kmsg)
        append(path, record(3, "NVRM: something else") + record(4, FELL))
        added = await identities(kmsg)

    assert (first, again, added) == (["kmsg:boot-1:2"], [], ["kmsg:boot-1:4"])


async def test_unfinished_line_waits(kmsg, path):
    """Half a record is not parsed; the other half completes it."""
    line = record(5, FELL)
    async with kmsg:
        append(path, line[:40])
        half = await identities(kmsg)
        append(path, line[40:])
        whole = await identities(kmsg)

    assert (half, whole) == ([], ["kmsg:boot-1:5"])


async def test_restart_gives_the_same_identities(kmsg, path):
    """A new agent on the same boot reads the same events again, under the same names."""
    append(path, record(1, FELL) + record(2, FELL))
    async with kmsg:
        before = await identities(kmsg)
    async with KmsgSampler(path, boot_id="boot-1", gpus=lambda: GPUS) as restarted:
        after = await identities(restarted)

    assert before == after == ["kmsg:boot-1:1", "kmsg:boot-1:2"]


@pytest.mark.parametrize("replace", [os.unlink, lambda path: os.truncate(path, 0)])
async def test_replaced_file(kmsg, path, replace):
    """A log that begins anew is read from its beginning."""
    append(path, record(900, FELL) + record(901, FELL))
    async with kmsg:
        await identities(kmsg)
        replace(path)
        append(path, record(3, FELL))
        found = await identities(kmsg)

    assert found == ["kmsg:boot-1:3"]


async def test_user_space_cannot_forge(kmsg, path):
    """Only the kernel's own facility counts: a program may write the same words."""
    append(path, record(1, FELL, prio=11))

    async with kmsg:
        assert await identities(kmsg) == []


async def test_flood_is_capped_and_counted(kmsg, path):
    """A turn brings 200 events at most; the rest is a number."""
    append(path, "".join(record(seq, FELL) for seq in range(201)))

    async with kmsg:
        assert len(await identities(kmsg)) == 200
        assert kmsg.dropped_total == 1


async def test_unknown_gpu_keeps_its_address(kmsg, path):
    """A GPU that NVML never showed is named by its place."""
    append(path, record(1, FELL.replace("10:00", "99:00")))

    async with kmsg:
        (event,) = (await kmsg.sample(1_000.0)).events

    assert event.gpu == ""
    assert event.text.startswith("PCI:0000:99:00: ")


async def test_waits_for_names(path):
    """XIDs read before the GPUs are known wait for them, but not for ever."""
    append(path, record(1, FELL))
    known = []
    async with KmsgSampler(path, boot_id="boot-1", gpus=lambda: known) as kmsg:
        early = await kmsg.sample(1_000.0)
        known.extend(GPUS)
        named = await kmsg.sample(1_001.0)
        known.clear()
        append(path, record(2, FELL))
        late = await kmsg.sample(1_010.0)

    assert early.events == ()
    assert [event.gpu for event in named.events] == ["GPU-aaaa"]
    assert [event.gpu for event in late.events] == [""]


async def test_time_is_never_ahead(kmsg, path):
    """The kernel's clock may run a little ahead of ours; an event is not in the future."""
    append(path, record(1, FELL, at_s=1_000.5))

    async with kmsg:
        (event,) = (await kmsg.sample(1_000.0)).events

    assert event.at_s == 1_000.0


async def test_missing_log(path, kmsg):
    """A log that cannot be read is said once, and read when it appears."""
    path.unlink()
    with capture_logs() as logs:
        async with kmsg:
            await kmsg.sample(1_000.0)
            await kmsg.sample(1_001.0)
            missing = kmsg.health
            append(path, record(1, FELL))
            found = await identities(kmsg)
            healthy = kmsg.health

    assert [entry["event"] for entry in logs] == ["kmsg.unreadable"]
    assert missing.result is Result.UNKNOWN
    assert missing.reason == f"{path}: No such file or directory"
    assert found == ["kmsg:boot-1:1"]
    assert healthy.result is Result.OK


async def test_device_that_overwrote_records(monkeypatch, tmp_path):
    """EPIPE says that records are lost: it is counted, and reading goes on with what is left."""
    reads = [BrokenPipeError(), record(9, FELL).encode(), BlockingIOError()]

    def read(fd, size):
        answer = reads.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    # A FIFO opens like the device: not a regular file, and without blocking.
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    async with KmsgSampler(path, boot_id="boot-1", gpus=lambda: GPUS) as kmsg:
        monkeypatch.setattr(os, "read", read)
        found = await identities(kmsg)
        monkeypatch.undo()

    assert found == ["kmsg:boot-1:9"]
    assert kmsg.overrun_total == 1
