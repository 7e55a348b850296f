"""A driver's life through the real binding: asked to leave, replaced, stopped, killed, slow."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.agent.model import SeriesKey
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
root_tree = pytest.importorskip("gpuward.simulator.root_tree")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

ALL_CALLS = (1 << 14) - 1


class Machine:
    """Simulated GPUs, their files, and a sampler of them."""

    def __init__(self, folder, name):
        self.folder = folder
        described = profile.load(name)
        self.state = state_module.State.create(folder / "state", len(described.gpus))
        described.write_to(self.state)
        self.tree = root_tree.RootTree(folder / "root", self.state)
        self.tree.create()
        self.clock = SystemClock()
        self.maintenance = MaintenanceKeeper(None, self.clock)
        self.events = []

    def sampler(self):
        try:
            env = libraries.environment(self.state.path, self.folder)
        except libraries.NotBuiltError as error:
            pytest.skip(str(error))
        return NvmlSampler(
            self.clock,
            env=env,
            driver_files=self.folder / "root" / "proc" / "driver" / "nvidia",
            maintenance=self.maintenance,
        )

    def uuids(self):
        return {self.state.gpu(i).uuid.decode() for i in range(self.state.row.gpu_count)}

    def unload(self):
        self.state.unload_driver()
        self.tree.follow_driver()

    def load(self, version, library_version=None):
        self.state.load_driver(version, library_version)
        self.tree.follow_driver()

    async def until(self, nvml, wanted, *, ahead_s=0.0):
        """Sample until a batch is as wanted; the clock given to it may be ahead."""
        while True:
            batch = await nvml.sample(time.monotonic() + ahead_s)
            self.events += batch.events
            if wanted(batch):
                return batch
            await asyncio.sleep(0.02)

    async def until_all_are_shown(self, nvml):
        """Return the last of the batches that show every GPU; each is read at its own pace."""
        seen = set()

        def are_shown(batch):
            seen.update(shown(batch))
            return seen == self.uuids()

        return await self.until(nvml, are_shown)


@pytest.fixture
def machine(tmp_path):
    """Eight idle H100 with driver 580."""
    machine = Machine(tmp_path, "h100-sxm-x8")
    yield machine
    # Lets go of whoever still hangs.
    machine.state.row.closed = 1
    machine.state.close()


def is_up(batch):
    return batch.driver is not None and batch.driver.up


def is_down(batch):
    return batch.driver is not None and not batch.driver.up


def of(batch, signal_name):
    found = [s.value for s in batch.samples if s.key == SeriesKey(signal_name)]
    return found[-1] if found else None


def shown(batch):
    return {sample.key.gpu for sample in batch.samples if sample.key.gpu}


def child_of(nvml):
    return nvml._children.current


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


async def ended(link):
    while link.exit_status() is None:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)


async def test_announced_unbind_frees_the_driver(machine):
    """The child is gone before the driver is, and a new one comes when the new driver is there."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        child = child_of(nvml)
        machine.state.announce_driver(leaving=True)
        await ended(child)
        left = await machine.until(nvml, is_down)
        # The module is still there: another attempt to open it would keep it there.
        await nvml.sample(time.monotonic() + 20.0)
        children = nvml._children.started_total
        machine.unload()
        gone = await nvml.sample(time.monotonic())
        machine.load("590.44.01")
        back = await machine.until(nvml, is_up)
        whole = await machine.until(nvml, lambda batch: batch.driver.maintenance is None)

    assert child.exit_status() == 75
    assert children == 1
    assert left.driver.reason == "the driver has announced that it leaves its GPUs"
    assert left.driver.maintenance is not None
    assert of(left, "node_maintenance") == 1.0
    assert of(left, "node_maintenance_end_timestamp_seconds") - time.time() <= 600.0
    assert of(left, "node_driver_generation") == 1.0
    assert not gone.driver.up
    assert back.driver.version == "590.44.01"
    assert of(back, "node_driver_generation") == 2.0
    assert of(whole, "node_maintenance") == 0.0
    assert [(event.kind, event.text) for event in machine.events] == [
        (
            "driver.reloaded",
            "The driver was reloaded: version 580.95.05 before, 590.44.01 now.",
        )
    ]


async def test_reloaded_twice_in_a_row(machine):
    """Each reload is told once, with its versions, and the numbers are back after each."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        for version in ("590.44.01", "590.48.01"):
            machine.state.announce_driver(leaving=True)
            await machine.until(nvml, is_down)
            machine.unload()
            await nvml.sample(time.monotonic())
            machine.load(version)
            back = await machine.until(nvml, is_up)
            await machine.until(nvml, shown)

    assert of(back, "node_driver_generation") == 3.0
    assert [event.text.partition(": ")[2] for event in machine.events] == [
        "version 580.95.05 before, 590.44.01 now.",
        "version 590.44.01 before, 590.48.01 now.",
    ]
    assert len({event.identity for event in machine.events}) == 2


async def test_driver_replaced_without_a_word(machine):
    """Before driver 575 nothing is announced: the mismatch itself is maintenance, with its code."""
    machine.state.row.driver_version = machine.state.row.library_version = b"570.86.15"
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        machine.state.announce_driver(leaving=True)
        machine.load("580.105.08")
        mismatch = await machine.until(nvml, is_down)
        back = await machine.until(nvml, is_up, ahead_s=40.0)

    assert mismatch.driver.code == 18
    assert mismatch.driver.maintenance is not None
    assert back.driver.version == "580.105.08"
    assert [event.kind for event in machine.events] == ["driver.reloaded"]


async def test_release_closes_everything_and_ends_by_itself(machine):
    """No child while it lasts, also not one due again; at its end the GPUs are read again."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        child = child_of(nvml)
        machine.maintenance.begin_release(1_800.0, "new driver")
        held = await nvml.let_go()
        during = await nvml.sample(time.monotonic())
        later = await nvml.sample(time.monotonic() + 1_790.0)
        children = nvml._children.started_total
        back = await machine.until(nvml, is_up, ahead_s=1_801.0)

    assert held == ()
    assert child.exit_status() is not None
    assert [batch.driver.maintenance.reason for batch in (during, later)] == ["new driver"] * 2
    assert children == 1
    assert back.driver.maintenance is None
    assert machine.events == []


async def test_driver_replaced_while_released(machine):
    """What was done in the maintenance is told when it is over."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        machine.maintenance.begin_release(1_800.0, "new driver")
        await nvml.let_go()
        machine.unload()
        machine.load("590.44.01")
        machine.maintenance.end_release()
        nvml.resume()
        back = await machine.until(nvml, is_up)

    assert back.driver.version == "590.44.01"
    assert len(machine.events) == 1


async def test_killed_child_is_replaced_at_once(machine):
    """A child that died by itself is not a missing driver; the log says that it died."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        child = child_of(nvml)
        with capture_logs() as logs:
            os.kill(child.pid, signal.SIGKILL)
            seen = []
            await machine.until(
                nvml,
                lambda batch: (
                    seen.append(batch) or (child_of(nvml) not in (None, child) and shown(batch))
                ),
            )

    assert {of(batch, "driver_up") for batch in seen} == {1.0}
    assert [entry["event"] for entry in logs] == ["nvml_child.died"]
    assert machine.events == []


async def test_stopped_child_is_told_and_comes_back(machine):
    """A child that is stopped is a driver that does not answer, as far as anybody can tell."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        child = child_of(nvml)
        stop(child.pid)
        await nvml.sample(time.monotonic())
        waiting = await nvml.sample(time.monotonic() + 12.0)
        os.kill(child.pid, signal.SIGCONT)
        back = await machine.until(nvml, lambda batch: batch.driver.waiting_s == 0.0)

    assert waiting.driver.waiting_s > 10.0
    assert waiting.driver.blocked_state in ("T", "t")
    assert waiting.driver.confirmed_by == ""
    assert back.driver.up
    assert child.exit_status() is not None


async def test_second_process_confirms_a_hang(machine):
    """The witness asks the GPU that hangs, and no other; it is gone when the hang is over."""
    async with machine.sampler() as nvml:
        await machine.until_all_are_shown(nvml)
        machine.state.gpu(5).hang_groups = ALL_CALLS
        await machine.until(nvml, lambda batch: batch.driver.waiting_s > 1.0)
        await nvml.sample(time.monotonic() + 25.0)
        # Its own call must be as old as a stalled one.
        confirmed = await machine.until(nvml, lambda batch: batch.driver.confirmed_by, ahead_s=35.0)
        machine.state.gpu(5).hang_groups = 0
        over = await machine.until(nvml, lambda batch: batch.driver.waiting_s == 0.0)

    assert confirmed.driver.confirmed_by == "a second process"
    assert confirmed.driver.waiting_gpu == machine.state.gpu(5).uuid.decode()
    assert over.driver.confirmed_by == ""


async def test_witness_that_is_answered_confirms_nothing(machine):
    """The driver answers another process: no reboot would help."""
    async with machine.sampler() as nvml:
        await machine.until(nvml, is_up)
        stop(child_of(nvml).pid)
        await nvml.sample(time.monotonic())
        with capture_logs() as logs:
            batch = await machine.until(
                nvml,
                lambda _: any(e["event"] == "nvml_witness.answered" for e in logs),
                ahead_s=25.0,
            )
            later = await nvml.sample(time.monotonic() + 70.0)
        os.kill(child_of(nvml).pid, signal.SIGCONT)

    assert batch.driver.confirmed_by == later.driver.confirmed_by == ""
    assert later.driver.waiting_s > 60.0


async def test_one_slow_gpu_delays_nobody(machine):
    """Each call about one GPU takes two seconds; the others are read within such calls."""
    slow = machine.state.gpu(2)
    others = machine.uuids() - {slow.uuid.decode()}
    read_s, spared = {gpu: [] for gpu in others}, set()

    def are_two_spared(batch):
        """Whether within a call all others were read before the child said that it waits still."""
        for sample in batch.samples:
            if sample.key.gpu in others:
                read_s[sample.key.gpu].append(sample.at_s)
        said = nvml._view.heartbeat
        spared.update(
            call.since_s
            for call in (said.waiting if said else ())
            if all(
                any(call.since_s < at_s < said.at_s for at_s in each) for each in read_s.values()
            )
        )
        return len(spared) >= 2

    async with machine.sampler() as nvml:
        await machine.until_all_are_shown(nvml)
        slow.delay_microseconds, slow.delay_groups = 2_000_000, ALL_CALLS
        await machine.until(nvml, are_two_spared)
        slow.delay_groups = 0


@pytest.fixture
def many_processes():
    """Five hundred and twelve processes that do nothing."""
    script = "for i in $(seq 512); do sleep 600 & done; echo; wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, process_group=0
    ) as shell:
        shell.stdout.readline()
        yield [
            int(pid)
            for pid in Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
        ]
        os.killpg(shell.pid, signal.SIGKILL)


async def test_process_storm(machine, many_processes):
    """Five hundred processes on eight GPUs are each counted once, and the figures go on."""
    for place, pid in enumerate(many_processes):
        assert machine.state.take(place % 8, pid, 1 << 20)
    async with machine.sampler() as nvml:
        batch = await machine.until(nvml, lambda batch: len(batch.processes or ()) == 512)
        await machine.until_all_are_shown(nvml)
        await machine.until(nvml, lambda batch: batch.driver.waiting_s == 0.0)

    assert {process.pid for process in batch.processes} == set(many_processes)
