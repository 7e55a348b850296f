"""Sample the GPUs through the NVML child, without ever waiting for the driver.

``sample`` takes what the child has said and returns at once.  A call that the child has not come
back from shows as ``Driver.waiting_s``, whatever the child is stuck in: its main thread reports
unanswered calls, and when that is silent too, the silence itself is the age.

A child whose call hangs for two minutes is left behind and a new one finds out whether the driver
serves new callers; the age goes on counting until the same GPU has answered again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from gpuward.agent.model import Batch, Driver, Sample, SeriesKey
from gpuward.agent.nvml_children import Children
from gpuward.agent.nvml_link import Blocked, blocked
from gpuward.agent.nvml_protocol import Gone, Message, Present, Readings, Waiting
from gpuward.agent.nvml_view import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
NO_GPU = -1
# A start that takes longer is one with a sick GPU: show the others.
FIRST_S = 1.0


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
    ) -> None:
        """``env``: of the child, ours when ``None``; ``proc_root``: where processes are seen."""
        self._clock = clock
        self._proc_root = proc_root
        self._children = Children(
            (*command, "--proc-root", str(proc_root)),
            {**ENVIRONMENT, **(os.environ if env is None else env)},
        )
        self._view = View()
        self._heard_s = 0.0
        self._started_s = clock.mono_s()
        # Samples of the start, until every GPU has been read once.
        self._first: list[Sample] | None = []
        # Calls of children left behind, by GPU index, until that GPU answers another child.
        self._unanswered: dict[int, Waiting] = {}
        self._logged: tuple[bool, str] | None = None

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
            samples += _driver_samples(driver, now_s)
            if driver.up:
                answering = float(len(self._view.gpus()) - len(driver.lost))
                samples.append(Sample(SeriesKey("node_gpus_present"), now_s, answering))
            self._log_change(driver)
        return Batch(
            samples=tuple(samples),
            gpus=self._view.gpus() or None,
            processes=self._view.processes(now_s),
            driver=driver,
        )

    def _start_child(self, now_s: float) -> None:
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
            self._answer(message)
            samples += self._view.take(message)
        if status is not None and self._view.up:
            self._view.down(f"the NVML child ended with status {status}")
        return samples

    def _answer(self, message: Message) -> None:
        match message:
            case Readings():
                self._unanswered.pop(message.index, None)
            case Present():
                self._unanswered.pop(NO_GPU, None)
            case Gone():
                self._unanswered.clear()

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
        if oldest is None:
            known = view.up or view.reason
            found = Driver(view.up, view.version, reason=self._reason(), lost=view.lost())
            return found if known else None
        where = self._blocked(oldest)
        return Driver(
            up=view.up,
            version=view.version,
            waiting_s=max(0.0, now_s - oldest.since_s),
            waiting_gpu=view.uuid(oldest.index),
            waiting_call=oldest.call,
            blocked_state=where.state,
            wait_channel=where.wait_channel,
            reason=self._reason(),
            lost=view.lost(),
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


def _driver_samples(driver: Driver, now_s: float) -> list[Sample]:
    answers = driver.up and driver.waiting_s < HUNG_S
    return [
        Sample(SeriesKey("driver_up"), now_s, float(answers)),
        Sample(SeriesKey("driver_call_wait_seconds"), now_s, driver.waiting_s),
    ]
