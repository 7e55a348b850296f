"""Who publishes into the tap directory: found as they come, chosen by name, cleared away after."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest

from gpuward.agent.model import Process
from gpuward.agent.samplers.tap import TapSampler, TapWriter
from gpuward.agent.samplers.tap_writer import Writer
from gpuward.tap.layout import Counters, Header, Record, pack_header, pack_record

pytestmark = pytest.mark.usefixtures("one_loop")

GPU = bytes(range(1, 17))
UUID = "GPU-01020304-0506-0708-090a-0b0c0d0e0f10"


class Writers:
    """A tap directory and the processes that write into it; a pid of None is of a dead one."""

    def __init__(self, folder, clock):
        self.folder = folder
        self.clock = clock
        self.keys = {}
        self.pids = {}
        self.proc = folder.parent / "proc"
        self.sampler = TapSampler(
            folder,
            clock=clock,
            proc_root=self.proc,
            device_memory=lambda _: None,
            identify=lambda pid, _: Process(self.keys[pid], pid, 5),
            holder_of=lambda fd: self.pids.get(os.fstat(fd).st_ino),
        )

    def write(self, pid, *, reserved=1, key="vllm:llama", flags=0, record_flags=0):
        """Publish one record as process ``pid``; return the file's path."""
        header = Header(device_count=1, flags=flags)
        now_ns = int(self.clock.mono_s() * 1e9), int(self.clock.wall_s() * 1e9)
        counters = Counters(reserved_bytes=reserved)
        slot = bytearray(1024)
        pack_record(slot, Record(2, *now_ns, GPU, 0, record_flags, all_pools=counters))
        raw = bytearray(header.file_size)
        raw[:4096] = pack_header(header)
        at = header.slot_offset(0, 2)
        raw[at : at + 1024] = slot
        path = self.folder / f"{uuid.uuid4()}.tap"
        unfinished = path.with_suffix(".tmp")
        unfinished.write_bytes(raw)
        if pid is not None:
            self.pids[unfinished.stat().st_ino] = pid
            self.keys[pid] = key
            status = self.proc / str(pid) / "status"
            status.parent.mkdir(parents=True)
            status.write_text(f"Uid:\t{os.getuid()}\n")
        return unfinished.rename(path)

    async def sample(self):
        return await self.sampler.sample(self.clock.mono_s())


@pytest.fixture
def writers(tmp_path, clock):
    folder = tmp_path / "tap"
    folder.mkdir()
    return Writers(folder, clock)


async def test_a_writer_that_came_between_two_listings_is_in_the_next_turn(writers):
    async with writers.sampler:
        before = await writers.sample()
        writers.write(77)
        for _ in range(3):
            await asyncio.sleep(0)
        after = await writers.sample()

    assert (len(before.processes), len(after.processes)) == (0, 1)


async def test_who_may_be_asked_for_a_map(writers):
    """Of several processes of one name the one that holds most, or the one that is named."""
    small = writers.write(77, reserved=1)
    large = writers.write(78, reserved=2, flags=1, record_flags=4)
    writers.write(79, reserved=3, key="other")
    writers.write(None, reserved=4)
    await writers.sample()
    writer_of = writers.sampler.writer_of

    assert writer_of("vllm:llama", UUID) == TapWriter(
        large, os.getuid(), 78, accepts_requests=True, is_degraded=True
    )
    assert writer_of("vllm:llama", UUID, 77) == TapWriter(
        small, os.getuid(), 77, accepts_requests=False, is_degraded=False
    )
    assert writer_of("vllm:llama", UUID, 79) is None
    assert writer_of("vllm:llama", "GPU-other") is None
    assert writer_of("nobody", UUID) is None
    writers.sampler.close()


def test_a_shown_process_follows_its_name_and_gpus():
    """It is the same object while it is the same, and another as soon as it is not."""
    writer = Writer(alive=True, process=Process("vllm:llama", 7, 5))
    shown = writer.shown(("GPU-1",))

    assert Process("vllm:llama", 7, 5, gpus=("GPU-1",), tapped=True) == shown
    assert writer.shown(("GPU-1",)) is shown
    assert ("GPU-1", "GPU-2") == writer.shown(("GPU-1", "GPU-2")).gpus

    writer.process = Process("vllm:mistral", 7, 5)

    assert "vllm:mistral" == writer.shown(("GPU-1", "GPU-2")).key
