"""Sample the GPUs through the NVML child, without ever waiting for the driver.

``sample`` takes what the child has said and returns at once.  A call that the child has not come
back from shows as ``Driver.waiting_s``, whatever the child is stuck in: its main thread reports
unanswered calls, and when that is silent too, the silence itself is the age.

A child whose call hangs for two minutes is left behind and a new one finds out whether the driver
serves new callers; the age goes on counting until the same GPU has answered again.

No child is there while the driver is being changed: see ``driver_life`` and ``let_go``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.driver_life import DriverLife
from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.agent.model import Batch, Driver, Event, Sample, SeriesKey
from gpuward.agent.nvml_children import Children
from gpuward.agent.nvml_link import Blocked, blocked
from gpuward.agent.nvml_protocol import Gone, Leaving, Message, Present, Readings, Waiting
from gpuward.agent.nvml_view import LEAVING, View
from gpuward.agent.nvml_witness import NO_GPU, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# -P: the working directory is no place to look for modules.
COMMAND = (sys.executable, "-P", "-m", "gpuward.agent.nvml_child")
# glibc gives each thread a heap of its own; two are plenty for threads that mostly wait.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}

# The child speaks every second; less than this is a busy node.
SILENT_S = 3.0
# GSP firmware lets a failing call time out after 45 s; a minute is beyond any such end.
HUNG_S = 60.0
ABANDON_S = 120.0
# A start that takes longer is one with a sick GPU: show the others.
FIRST_S = 1.0
RELEASED = "the agent has let go of the driver for maintenance"


class NvmlSampler:
    """Keeps one NVML child and turns what it says into batches."""

    name = "nvml"
    period_s = 1.0

    def __init__(
        self,
        clock: Clock,
        *,
        command: Sequence[str] = COMMAND,
        env: Mapping[str, str] | None = None,
        proc_root: Path = Path("/proc"),
        driver_files: Path = Path("/proc/driver/nvidia"),
        maintenance: MaintenanceKeeper | None = None,
    ) -> None:
        """``env``: of the child, ours when ``None``; ``proc_root``: where processes are seen.

        ``driver_files``: of the kernel module; ``maintenance``: our own when ``None``.
        """
        self._clock = clock
        self._proc_root = proc_root
        command = (*command, "--proc-root", str(proc_root))
        env = {**ENVIRONMENT, **(os.environ if env is None else env)}
        self._children = Children(command, env)
        self._witness = Witness(command, env)
        self._view = View()
        self.xids = self._view.xids
        self._maintenance = maintenance or MaintenanceKeeper(None, clock)
        self._life = DriverLife(driver_files, self._maintenance)
        self._events: list[Event] = []
        self._heard_s = 0.0
        self._started_s = clock.mono_s()
        # Samples of the start, until every GPU has been read once.
        self._first: list[Sample] | None = []
        # Calls of children left behind, by GPU index, until that GPU answers another child.
        self._unanswered: dict[int, Waiting] = {}
        self._logged: tuple[bool, str] | None = None
        self._is_away = False

    @property
    def abandoned_total(self) -> int:
        """How many hung children were ever left behind."""
        return self._children.abandoned_total

    @property
    def child_pid(self) -> int | None:
        """Return the pid of the running child, if there is one."""
        return None if self._children.current is None else self._children.current.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the child; succeeds without a driver too."""
        self._start_child(self._clock.mono_s())

    async def stop(self) -> None:
        """End the child within 3 s, politely first."""
        await self._children.stop()
        await self._witness.stop()

    async def let_go(self) -> tuple[int, ...]:
        """End all children within 6 s; returns the pids of those that the driver holds.

        None is started while the maintenance is a person's.
        """
        held = await self._children.stop()
        await self._witness.stop()
        self._life.is_released()
        self._unanswered.clear()
        self._view.down(RELEASED)
        return held

    def resume(self) -> None:
        """Start a child in the next turn, if the maintenance is over."""
        self._children.hurry(self._clock.mono_s())

    async def sample(self, now_s: float) -> Batch:
        """Return what the child has said since the last turn."""
        self._start_child(now_s)
        samples = self._listen(now_s)
        self._leave_hung_behind(now_s)
        driver = self._driver(now_s)
        if self._first is not None:
            self._first += samples
            if now_s - self._started_s < FIRST_S and not self._view.is_complete():
                # One whole picture, not GPU by GPU; the first scrape waits for it.
                return Batch()
            samples, self._first = self._first, None
        if driver is not None:
            samples += self._driver_samples(driver, now_s)
            self._log_change(driver)
        events, self._events = tuple(self._events), []
        return Batch(
            samples=tuple(samples),
            events=events,
            gpus=self._view.gpus() or None,
            processes=self._view.processes(now_s),
            driver=driver,
        )

    def _start_child(self, now_s: float) -> None:
        is_away = self._is_away
        self._is_away = not self._life.may_start(now_s)
        if self._is_away:
            if not self._view.reason:
                self._view.down(RELEASED)
            return
        if is_away:
            self._children.hurry(now_s)
        try:
            if self._children.start_if_due(now_s):
                self._view.started()
                self._heard_s = now_s
        except OSError as error:
            self._view.down(f"the NVML child cannot be started: {error}")

    def _listen(self, now_s: float) -> list[Sample]:
        messages, status = self._children.receive(now_s)
        samples: list[Sample] = []
        for message in messages:
            self._heard_s = now_s
            samples += self._view.take(message)
            self._answer(message, now_s)
        if status is not None and (self._view.up or not self._view.reason):
            if self._children.forgive(now_s):
                log.warning("nvml_child.died", status=status)
            else:
                self._view.down(f"the NVML child ended with status {status}")
        if self._view.up and self._view.is_complete() and not self._view.lost():
            self._life.is_whole()
        return samples

    def _answer(self, message: Message, now_s: float) -> None:
        match message:
            case Readings():
                self._unanswered.pop(message.index, None)
            case Present():
                self._unanswered.pop(NO_GPU, None)
                if event := self._life.answered(message.driver_version, now_s):
                    self._events.append(event)
            case Gone():
                self._unanswered.clear()
                self._life.is_gone(message.code, message.text, now_s)
            case Leaving():
                self._unanswered.clear()
                self._life.is_leaving(LEAVING, now_s)

    def _waiting(self, now_s: float) -> list[Waiting]:
        """Return the running child's unanswered calls; its own silence is one."""
        child = self._children.current
        if child is None:
            return []
        waiting = list(self._view.heartbeat.waiting) if self._view.heartbeat else []
        if now_s - self._heard_s > SILENT_S:
            waiting.append(Waiting(NO_GPU, "", self._heard_s, child.pid))
        return waiting

    def _leave_hung_behind(self, now_s: float) -> None:
        hung = [call for call in self._waiting(now_s) if now_s - call.since_s >= ABANDON_S]
        if hung and self._children.abandon(now_s):
            for call in hung:
                self._unanswered.setdefault(call.index, call)
            log.error("nvml_child.abandoned", call=hung[0].call, total=self.abandoned_total)

    def _driver(self, now_s: float) -> Driver | None:
        """Return how the driver is; ``None`` until the first child has found out."""
        view = self._view
        oldest = min(
            [*self._waiting(now_s), *self._unanswered.values()],
            key=lambda call: call.since_s,
            default=None,
        )
        self._witness.look(oldest, now_s)
        if oldest is None and not view.up and not view.reason:
            return None
        driver = Driver(
            up=view.up,
            version=view.version,
            reason=self._reason(),
            code=view.code,
            lost=view.lost(),
            denied=view.denied(),
            maintenance=self._maintenance.now(now_s),
        )
        return driver if oldest is None else self._with_wait(driver, oldest, now_s)

    def _with_wait(self, driver: Driver, oldest: Waiting, now_s: float) -> Driver:
        where = self._blocked(oldest)
        confirmed_by = "the kernel's stack" if where.state == "D" and where.in_driver else ""
        if self._witness.confirms:
            confirmed_by = "a second process"
        return replace(
            driver,
            waiting_s=max(0.0, now_s - oldest.since_s),
            waiting_gpu=self._view.uuid(oldest.index),
            waiting_call=oldest.call,
            blocked_state=where.state,
            wait_channel=where.wait_channel,
            confirmed_by=confirmed_by,
        )

    def _reason(self) -> str:
        lost = [f"{gpu.gpu or f'GPU {gpu.index}'}: {gpu.text}" for gpu in self._view.lost()]
        return self._view.reason or "; ".join(lost)

    def _blocked(self, waiting: Waiting) -> Blocked:
        for pid in self._children.pids():
            found = blocked(self._proc_root, pid, waiting.thread_id)
            if found.state:
                return found
        return Blocked()

    def _driver_samples(self, driver: Driver, now_s: float) -> Iterator[Sample]:
        answers = driver.up and driver.waiting_s < HUNG_S
        values = {
            "driver_up": float(answers),
            "driver_call_wait_seconds": driver.waiting_s,
            "node_driver_generation": float(self._life.generation),
            "node_children_abandoned": float(self._children.abandoned + self._witness.held),
            "node_maintenance": float(driver.maintenance is not None),
        }
        if driver.up:
            values["node_gpus_present"] = float(self._view.answering())
        if driver.maintenance is not None:
            offset_s = self._clock.wall_s() - self._clock.mono_s()
            end_s = driver.maintenance.until_s + offset_s
            values["node_maintenance_end_timestamp_seconds"] = end_s
        return (Sample(SeriesKey(name), now_s, value) for name, value in values.items())

    def _log_change(self, driver: Driver) -> None:
        state = (driver.up, driver.reason)
        if state == self._logged:
            return
        self._logged = state
        if driver.up and not driver.reason:
            log.info("driver.answered", version=driver.version, gpus=len(self._view.gpus()))
        elif driver.up:
            log.warning("gpu.lost", reason=driver.reason)
        else:
            log.warning("driver.missing", reason=driver.reason)
