"""A node in a drill: simulated driver, the agent's samplers and judge, and a clock that runs ahead.

What is real: the scenario's player, the driver's library, nvidia-ml-py, the NVML child as a process
of its own, the samplers of PCI and kernel log, detectors, hysteresis, suppression, the page.  What
is not: the clock.  The drill moves it a second at a time, for all of them at once, as soon as every
GPU that still answers has been read in that second; so minutes of dwell take seconds, however slow
the machine, and no threshold, period or dwell is changed.  While nothing answers, a second takes
``SILENT_STEP_S``, since processes start and end in real time.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import re
import sys
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gpuward.agent import sampler_table
from gpuward.agent.component import Components
from gpuward.agent.config import (
    AgentConfig,
    KmsgConfig,
    PciConfig,
    ProbesConfig,
    StateConfig,
    TapConfig,
)
from gpuward.agent.exposition import Exposition
from gpuward.agent.judge import Judge
from gpuward.agent.maintenance_keeper import MAINTENANCE_FILE, MaintenanceKeeper
from gpuward.agent.samplers.nvml import NvmlSampler
from gpuward.daemon.testing import FakeClock

libraries = pytest.importorskip("gpuward.simulator.libraries")
children = pytest.importorskip("gpuward.simulator.children")
player = pytest.importorskip("gpuward.simulator.player")
root_tree = pytest.importorskip("gpuward.simulator.root_tree")
scenario = pytest.importorskip("gpuward.simulator.scenario")
state_module = pytest.importorskip("gpuward.simulator.state")

FOLDER = Path(__file__).parent
SCENARIOS = FOLDER.parent / "fixtures" / "scenarios" / "drills"
CHILD = (sys.executable, "-P", str(FOLDER / "paced_child.py"))
# GPUs are read up to 30 ms after a full second: the clock stands a little behind that.
AFTER_THE_SECOND_S = 0.1
# A GPU that has not been read by then is one that does not answer, until it does.
PATIENCE_S = 5.0
# Until a child that was started has spoken no time passes: on a busy machine it starts slowly.
START_S = 60.0
SILENT_STEP_S = 0.1
POLL_S = 0.001
OPEN = re.compile(
    r'^gpuward_finding_open\{kind="(?P<kind>[^"]+)",code="(?P<code>\d+)",class="(?P<loud>\w+)",'
    r'result="(?P<result>\w+)",gpu="(?P<gpu>[^"]*)"',
    re.MULTILINE,
)


class DrillClock(FakeClock):
    """The agent's clock, which the NVML child reads from a mapped file."""

    def __init__(self, path):
        super().__init__(mono_s=1_000.0 + AFTER_THE_SECOND_S)
        path.write_bytes(bytes(8))
        descriptor = os.open(path, os.O_RDWR)
        self._cell = ctypes.c_double.from_buffer(mmap.mmap(descriptor, 8))
        os.close(descriptor)
        self._cell.value = self.mono_s()

    def move(self, by_s):
        self._move(by_s)
        self._cell.value = self.mono_s()


class Notifier:
    def watchdog(self):
        """Nobody watches a drill."""


class Node:
    """The node of scenario ``name``, whose agent asks ``engines``."""

    def __init__(self, folder, name, engines):
        described, profile = scenario.load(name, SCENARIOS / f"{name}.toml")
        self.state = state_module.State.create(folder / "state", len(profile.gpus))
        profile.write_to(self.state)
        self.root = folder / "root"
        tree = root_tree.RootTree(self.root, self.state)
        tree.create()
        self.clock = DrillClock(folder / "clock")
        self.processes = children.RealChildren()
        self.player = player.Player(
            described, self.state, tree, clock=self.clock, children=self.processes
        )
        self.began_s = self.clock.mono_s()
        self.ends_s = max((step.at_s for step in described.steps), default=0.0)
        self.judge = Judge(
            node="n1",
            boot_id="boot-1",
            instance="i",
            clock=self.clock,
            components=Components(),
            notifier=Notifier(),
        )
        self.nvml, *self.samplers = self._samplers(folder, engines)
        self.events = []
        self.page = ""
        # By (kind, GPU's index, code): when it was first shown, each way it was shown with the page
        # of that moment, when it was gone.
        self.raised_s, self.shown, self.cleared_s = {}, {}, {}
        self._read_s = {}
        self._silent = set()
        self._exposition = Exposition()

    def _samplers(self, folder, engines):
        """Return the samplers of an agent's own table, the one of NVML first."""
        for name in ("tap", "agent"):
            (folder / name).mkdir()
        config = AgentConfig(
            state=StateConfig(directory=str(folder / "agent")),
            kmsg=KmsgConfig(path=str(self.root / "dev/kmsg")),
            pci=PciConfig(devices=str(self.root / "sys/bus/pci/devices")),
            tap=TapConfig(directory=str(folder / "tap")),
            probes=ProbesConfig(mode="off"),
            engines=engines,
        )
        env = libraries.environment(self.state.path, self.root)
        paced = {
            "command": CHILD,
            "env": env | {"GPUWARD_DRILL_CLOCK": str(folder / "clock")},
            "driver_files": self.root / "proc/driver/nvidia",
        }

        keeper = MaintenanceKeeper(folder / "agent" / MAINTENANCE_FILE, self.clock)
        nvml = NvmlSampler(self.clock, maintenance=keeper, **paced)
        samplers = sampler_table.build_samplers(
            config, judge=self.judge, clock=self.clock, boot_id="boot-1", nvml=nvml
        )
        # The machine that runs the drill is no part of the node: it may well be too busy.
        ours = [sampler for sampler in samplers if sampler.name != "pressure"]
        return sorted(ours, key=lambda sampler: sampler.name != "nvml")

    @property
    def now_s(self):
        """Seconds since the scenario began."""
        return self.clock.mono_s() - self.began_s

    def uuid(self, index):
        return self.state.gpu(index).uuid.decode()

    async def play(self, until_s, *, step_s=1.0, wanted=lambda: False, in_real_time=False):
        """Let the scenario and the agent go on until ``until_s``, or until ``wanted``."""
        self._patience_s = 0.0 if in_real_time else PATIENCE_S
        while self.now_s < until_s and not wanted():
            if in_real_time:
                await asyncio.sleep(step_s)
            self.clock.move(step_s)
            await self._second(step_s)

    async def _second(self, step_s):
        self.player._play_until(self.now_s)
        await self._hear_every_gpu(step_s)
        now_s = self.clock.mono_s()
        for sampler in self.samplers:
            if int(now_s) % max(1, int(sampler.period_s)) == 0 or self.now_s < 3:
                await self._turns(sampler, now_s)
        self.judge.tick()
        self._look()

    async def _turns(self, sampler, now_s):
        """Make a sampler's turns of this second: one, or more for one that has fallen behind."""
        spent_s = 0.0
        while spent_s < 1.0:
            self._take(sampler.name, await sampler.sample(now_s))
            spent_s += sampler.period_s

    async def _hear_every_gpu(self, step_s):
        """Take what the child says until each GPU that answers has been read in this second."""
        now_s = self.clock.mono_s()
        began_s = time.monotonic()
        everyone = set(range(self.state.row.gpu_count))
        while True:
            batch = await self.nvml.sample(now_s)
            self._take("nvml", batch)
            for sample in batch.samples:
                self._read_s[sample.key.gpu] = sample.at_s
            late = {index for index in everyone if self._read_s.get(self.uuid(index), 0) < now_s}
            self._silent &= late
            waited_s = time.monotonic() - began_s
            starts = self.nvml.child_pid is not None and self.nvml._view.heartbeat is None
            if waited_s >= (START_S if starts else self._patience_s):
                break
            if late <= self._silent and not starts:
                break
            await asyncio.sleep(POLL_S)
        self._silent = late
        if late == everyone:
            await asyncio.sleep(SILENT_STEP_S * step_s)

    def _take(self, name, batch):
        self.events += batch.events
        self.judge.take(name, batch)

    def _look(self):
        """Note what the page shows of findings, where that has changed."""
        page = self._exposition.text(self.judge.snapshot)
        index_of = {self.uuid(i): i for i in range(self.state.row.gpu_count)}
        found = {}
        for line in OPEN.finditer(page):
            key = (line["kind"], index_of.get(line["gpu"]), int(line["code"]))
            found[key] = (line["result"], line["loud"])
        for key, way in found.items():
            self.raised_s.setdefault(key, self.now_s)
            self.shown.setdefault(key, {}).setdefault(way, page)
            self.cleared_s.pop(key, None)
        for key in self.raised_s.keys() - found.keys():
            self.cleared_s.setdefault(key, self.now_s)
        self.page = page

    def value(self, page, signal, gpu=None):
        """Return what ``page`` shows of a signal, ``None`` when nothing."""
        labels = "" if gpu is None else f'{{gpu="{self.uuid(gpu)}"}}'
        found = re.search(rf"^gpuward_{signal}{re.escape(labels)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else None


@pytest.fixture
def node(tmp_path):
    """Begin the drill of a scenario: ``async with node("power") as it``."""

    @asynccontextmanager
    async def begin(name, *engines):
        it = Node(tmp_path, name, engines)
        it.player.begin()
        try:
            async with AsyncExitStack() as parts:
                for sampler in (it.nvml, *it.samplers):
                    if isinstance(sampler, AbstractAsyncContextManager):
                        await parts.enter_async_context(sampler)
                yield it
        finally:
            # Lets go of whoever still hangs.
            it.state.row.closed = 1
            it.player.end()
            it.state.close()

    try:
        libraries.library_directory()
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    return begin
