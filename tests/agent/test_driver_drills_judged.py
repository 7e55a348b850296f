"""Troubles of the driver through the real binding, from what happens to what is told of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from gpuward.agent.exposition import Exposition
from gpuward.agent.kinds import class_of
from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.agent.model import Action, FindingClass, Result
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.clock import SystemClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.simulator

ALL_CALLS = (1 << 14) - 1


class AheadClock(SystemClock):
    """The system's clock, as many seconds ahead as a test has skipped; it may be stopped."""

    ahead_s = 0.0
    _stopped_s = None

    def stop(self):
        self._stopped_s = (super().mono_s(), super().wall_s())

    def go_on(self):
        self._stopped_s = None

    def mono_s(self):
        return (self._stopped_s[0] if self._stopped_s else super().mono_s()) + self.ahead_s

    def wall_s(self):
        return (self._stopped_s[1] if self._stopped_s else super().wall_s()) + self.ahead_s


class Node:
    """Four simulated GPUs, their sampler and a judge."""

    def __init__(self, folder, make_judge):
        described = profile.load("l40s-x4")
        self.state = state_module.State.create(folder / "state", len(described.gpus))
        described.write_to(self.state)
        try:
            env = libraries.environment(self.state.path, folder)
        except libraries.NotBuiltError as error:
            pytest.skip(str(error))
        self.clock = AheadClock()
        self.judge = make_judge(clock=self.clock)
        self.maintenance = MaintenanceKeeper(None, self.clock)
        self.nvml = NvmlSampler(
            self.clock, env=env, driver_files=folder, maintenance=self.maintenance
        )

    async def turn(self, skip_s=0.0):
        """Let the agent take one turn, so many seconds later."""
        self.clock.ahead_s += skip_s
        self.judge.take("nvml", await self.nvml.sample(self.clock.mono_s()))
        self.judge.tick()
        return self.judge.snapshot

    async def leap(self, skip_s):
        """Take one turn so many seconds later, in which the child, if there is one, was well.

        What it said before counts for nothing: with the clock that has leapt, it would be old.
        """
        self.clock.ahead_s += skip_s
        began_s = time.monotonic()
        while self.nvml.child_pid is not None and not self._is_well(began_s):
            self.judge.take("nvml", await self.nvml.sample(self.clock.mono_s()))
            await asyncio.sleep(0.02)
        return await self.turn()

    def _is_well(self, since_s):
        heartbeat = self.nvml._view.heartbeat
        return heartbeat is not None and heartbeat.at_s > since_s and not heartbeat.waiting

    async def until(self, wanted):
        while not wanted(await self.turn()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)

    def open(self, kind):
        """Return the open findings of ``kind``."""
        return [o for o in self.judge.snapshot.open_findings if o.finding.kind == kind]

    def page(self):
        return Exposition().text(self.judge.snapshot)


@pytest.fixture
async def node(tmp_path, make_judge):
    node = Node(tmp_path, make_judge)
    async with node.nvml:
        await node.until(lambda snapshot: snapshot.driver.up and snapshot.samples)
        yield node
        # Lets go of whoever still hangs.
        node.state.row.closed = 1
    node.state.close()


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


async def test_stopped_child_from_the_finding_to_its_clearing(node):
    """A ticket at ten seconds, on the page and kept; a page at sixty; over with the child."""
    stop(node.nvml.child_pid)
    node.clock.stop()
    await node.turn()
    node.judge.unsaved.clear()
    await node.turn(9.0)
    early = node.open("driver.unresponsive")
    await node.turn(2.0)
    (stalled,) = node.open("driver.unresponsive")
    page, is_kept = node.page(), node.judge.unsaved.is_set()
    node.clock.go_on()
    # The witness is answered meanwhile: the driver is well.
    await node.turn(20.0)
    await node.until(lambda _: node.nvml._witness._link is None)
    await node.turn(31.0)
    (hung,) = node.open("driver.unresponsive")
    os.kill(node.nvml.child_pid, signal.SIGCONT)
    await node.until(lambda snapshot: snapshot.driver.waiting_s == 0.0)
    await node.leap(31.0)

    assert early == []
    assert (stalled.finding.result, class_of(stalled.finding)) == (
        Result.WARN,
        FindingClass.TICKET,
    )
    assert 'gpuward_finding_open{kind="driver.unresponsive"' in page
    assert is_kept
    assert (hung.finding.result, class_of(hung.finding)) == (Result.FAIL, FindingClass.PAGE)
    assert hung.finding.action is not Action.REBOOT_NODE
    assert node.open("driver.unresponsive") == []


async def test_call_that_hangs_for_ever(node):
    """One GPU of four, no error ever: a page, and the advice of two witnesses to reboot."""
    node.state.gpu(1).hang_groups = ALL_CALLS
    await node.until(lambda snapshot: snapshot.driver.waiting_s > 0.5)
    await node.turn(21.0)
    # What the second process finds is a hang when its own call is ten seconds old.
    await node.turn(40.0)
    await node.until(lambda snapshot: snapshot.driver.confirmed_by)
    (hung,) = node.open("driver.unresponsive")
    page = node.page()

    assert class_of(hung.finding) is FindingClass.PAGE
    assert hung.finding.action is Action.REBOOT_NODE
    assert "gpuward_driver_up 0.0" in page


async def test_gpu_that_does_not_come_back_from_a_reload(node):
    """Evidence while the driver may still be on its way, a page ten minutes later."""
    node.state.announce_driver(leaving=True)
    await node.until(lambda snapshot: not snapshot.driver.up)
    node.state.gpu(3).lost = 1
    node.state.load_driver("590.44.01")
    await node.turn(31.0)
    await node.until(lambda snapshot: snapshot.driver.lost)
    await node.turn()
    await node.turn(16.0)
    (during,) = node.open("gpu.lost")
    (explained,) = node.open("node.maintenance")
    await node.turn(600.0)
    (after,) = node.open("gpu.lost")

    assert class_of(during.finding) is FindingClass.STORE
    assert explained.finding.dedup_key in during.finding.causes
    assert class_of(after.finding) is FindingClass.PAGE
    assert after.finding_id == during.finding_id
    assert node.open("node.maintenance") == []


async def test_reload_of_a_healthy_node_tells_nobody(node):
    """Unbound, unloaded, loaded: what is open meanwhile is evidence, and all of it is over."""
    loud = set()

    async def look(skip_s):
        for opened in (await node.leap(skip_s)).open_findings:
            if class_of(opened.finding) is not FindingClass.STORE:
                loud.add(opened.finding.kind)

    node.state.announce_driver(leaving=True)
    await node.until(lambda snapshot: not snapshot.driver.up)
    node.state.unload_driver()
    for _ in range(2):
        await look(35.0)
    node.state.load_driver("590.44.01")
    await look(31.0)
    await node.until(lambda snapshot: snapshot.driver.up)
    for _ in range(2):
        await look(35.0)

    assert loud == set()
    assert node.judge.snapshot.driver.maintenance is None
    assert node.judge.snapshot.driver.version == "590.44.01"
    assert not node.open("gpu.lost")
