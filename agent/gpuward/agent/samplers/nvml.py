"""Sample the GPUs through the NVML child, without ever waiting for the driver.

``sample`` takes what the child has said and returns at once.  A call that the child has not come
back from shows as ``Driver.waiting_s``, whatever the child is stuck in: see ``nvml_waits``.  No
child is there while the driver is being changed: see ``driver_life`` and ``let_go``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.driver_life import DriverLife
from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.agent.model import Batch, Driver, Event, Sample
from gpuward.agent.nvml_children import Children
from gpuward.agent.nvml_protocol import Gone, Leaving, Message, Present
from gpuward.agent.nvml_view import LEAVING, View
from gpuward.agent.nvml_waits import Waits
from gpuward.agent.nvml_witness import Witness
from gpuward.agent.series_key import series_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# -P: the working directory is no place to look for modules.
COMMAND = (sys.executable, "-P", "-m", "gpuward.agent.nvml_child")
# glibc gives each thread a heap of its own; two are plenty for threads that mostly wait.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}

# GSP firmware lets a failing call time out after 45 s; a minute is beyond any such end.
HUNG_S = 60.0
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
        command = (*command, "--proc-root", str(proc_root))
        env = {**ENVIRONMENT, **(os.environ if env is None else env)}
        self._children = Children(command, env)
        self._witness = Witness(command, env)
        self._waits = Waits(self._children, self._witness, proc_root)
        self._view = View()
        self.xids = self._view.xids
        self.maintenance = maintenance or MaintenanceKeeper(None, clock)
        self._life = DriverLife(driver_files, self.maintenance)
        self._events: list[Event] = []
        # When it was asked first.
        self._asked_s: float | None = None
        # Samples of the start, until every GPU has been read once.
        self._first: list[Sample] | None = []
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
        self.start_child()

    def start_child(self) -> None:
        """Start the child, unless it runs or may not: before there is a loop to hear it, too."""
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
        self._waits.forget()
        self._view.down(RELEASED)
        return held

    def resume(self) -> None:
        """Start a child in the next turn, if the maintenance is over."""
        self._children.hurry(self._clock.mono_s())

    async def sample(self, now_s: float) -> Batch:
        """Return what the child has said since the last turn."""
        if self._asked_s is None:
            self._asked_s = now_s
        self._start_child(now_s)
        samples = self._listen(now_s)
        self._waits.leave_hung_behind(now_s)
        driver = self._driver(now_s)
        if self._first is not None:
            self._first += samples
            if now_s - self._asked_s < FIRST_S and not self._view.is_complete():
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
                self._waits.started(now_s)
        except OSError as error:
            self._view.down(f"the NVML child cannot be started: {error}")

    def _listen(self, now_s: float) -> list[Sample]:
        messages, status = self._children.receive(now_s)
        samples: list[Sample] = []
        for message in messages:
            samples += self._view.take(message)
            self._waits.hear(message, self._view.heartbeat, now_s)
            self._follow(message, now_s)
        if status is not None and (self._view.up or not self._view.reason):
            if self._children.forgive(now_s):
                log.warning("nvml_child.died", status=status)
            else:
                self._view.down(f"the NVML child ended with status {status}")
        if self._view.up and self._view.is_complete() and not self._view.lost():
            self._life.is_whole()
        return samples

    def _follow(self, message: Message, now_s: float) -> None:
        match message:
            case Present():
                if event := self._life.answered(message.driver_version, now_s):
                    self._events.append(event)
            case Gone():
                self._life.is_gone(message.code, message.text, now_s)
            case Leaving():
                self._life.is_leaving(LEAVING, now_s)

    def _driver(self, now_s: float) -> Driver | None:
        """Return how the driver is; ``None`` until the first child has found out."""
        view = self._view
        oldest = self._waits.oldest(now_s)
        if oldest is None and not view.up and not view.reason:
            return None
        driver = Driver(
            up=view.up,
            version=view.version,
            reason=self._reason(),
            code=view.code,
            lost=view.lost(),
            denied=view.denied(),
            maintenance=self.maintenance.now(now_s),
        )
        if oldest is None:
            return driver
        return self._waits.shown(oldest, driver, view.uuid(oldest.index), now_s)

    def _reason(self) -> str:
        lost = [f"{gpu.gpu or f'GPU {gpu.index}'}: {gpu.text}" for gpu in self._view.lost()]
        return self._view.reason or "; ".join(lost)

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
        return (Sample(series_key(name), now_s, value) for name, value in values.items())

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
