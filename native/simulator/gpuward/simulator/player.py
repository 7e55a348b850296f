"""Play a scenario: make its steps happen to the state, the kernel log and real processes, in time.

Steps happen in the order of their time, those of the same time in the order of the file.  Between
them everything that moves by itself is moved on ten times a second.
"""

from __future__ import annotations

import random
import signal
from functools import partial
from typing import TYPE_CHECKING

import structlog

from gpuward.simulator.kernel_log import ERROR, KernelLog, sxid_line, xid_line
from gpuward.simulator.layout import EventKind, ProcessKind
from gpuward.simulator.motion import Motion
from gpuward.simulator.scenario import (
    PROCESS_KINDS,
    AnyStep,
    Bind,
    Delay,
    Hang,
    KernelLines,
    Load,
    Lost,
    Noise,
    Ramp,
    Set,
    Start,
    Stop,
    Sxid,
    Take,
    Unbind,
    Unload,
    Xid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.children import Children
    from gpuward.simulator.layout import GpuRow, StateRow
    from gpuward.simulator.root_tree import RootTree
    from gpuward.simulator.scenario import Scenario
    from gpuward.simulator.state import State

TURNS_A_SECOND = 10
MICROSECONDS = 1_000_000

log = structlog.get_logger()


class Player:
    """Plays ``scenario`` on ``state`` until cancelled."""

    def __init__(
        self,
        scenario: Scenario,
        state: State,
        tree: RootTree,
        *,
        clock: Clock,
        children: Children,
    ) -> None:
        self._state = state
        self._tree = tree
        self._clock = clock
        self._children = children
        self._start_s = 0.0
        self._kernel_log = KernelLog(tree.kernel_log, clock)
        # A simulation is repeatable; nothing here is a secret.
        self._motion = Motion(state, random.Random(scenario.seed))  # noqa: S311
        # (time, order in the file, what happens then); ends of steps are added as they begin.
        self._agenda: list[tuple[float, Callable[[float], None]]] = [
            (step.at_s, partial(self._act, step)) for step in scenario.steps
        ]

    def begin(self) -> None:
        """Start the time of the scenario; what happens at 0 s has happened on return."""
        self._start_s = self._clock.mono_s()
        self._play_until(0.0)

    async def run(self) -> None:
        """Go on playing after ``begin``; returns only by cancellation."""
        turn = 0
        while True:
            # After a pause turns are skipped; what was due in them is not.
            turn = max(turn + 1, int((self._clock.mono_s() - self._start_s) * TURNS_A_SECOND))
            await self._clock.sleep_until(self._start_s + turn / TURNS_A_SECOND)
            self._play_until(max(turn / TURNS_A_SECOND, self._clock.mono_s() - self._start_s))

    def end(self) -> None:
        """End the scenario's processes."""
        self._children.end()

    def _play_until(self, now_s: float) -> None:
        while due := [entry for entry in self._agenda if entry[0] <= now_s]:
            entry = min(due, key=lambda each: each[0])
            self._agenda.remove(entry)
            self._motion.advance(entry[0])
            entry[1](entry[0])
        self._motion.advance(now_s)
        self._children.reap()

    def _act(self, step: AnyStep, at_s: float) -> None:
        gpus = self._indices(step)
        match step:
            case Set():
                self._motion.set_value(gpus, step.values)
                self._tree.follow_gpus()
            case Ramp():
                self._motion.ramp(gpus, step.values, at_s, at_s + step.over_s)
            case Noise():
                self._motion.add_noise(gpus, step.values)
            case Lost():
                self._motion.set_value(gpus, {"lost": 1})
                self._tree.follow_gpus()
            case Xid():
                self._raise_xid(step, gpus)
            case Sxid() | KernelLines():
                self._log(step)
            case Hang() | Delay():
                self._stall(step, at_s)
            case Unbind() | Bind():
                self._state.announce_driver(leaving=isinstance(step, Unbind))
            case Unload() | Load():
                self._change_driver(step)
            case _:
                self._change_process(step, gpus)

    def _change_driver(self, step: Unload | Load) -> None:
        if isinstance(step, Load):
            self._state.load_driver(step.version, step.library_version)
        else:
            self._state.unload_driver()
        self._tree.follow_driver()

    def _change_process(self, step: Start | Take | Stop, gpus: Sequence[int]) -> None:
        match step:
            case Start():
                self._start(step, gpus)
            case Take():
                self._take(step, gpus)
            case Stop():
                self._children.send(step.process, signal.Signals[f"SIG{step.signal}"])

    def _indices(self, step: AnyStep) -> Sequence[int]:
        return range(self._state.row.gpu_count) if step.gpus is None else step.gpus

    def _stall(self, step: Hang | Delay, at_s: float) -> None:
        rows: list[StateRow | GpuRow] = (
            [self._state.row] if step.gpus is None else [self._state.gpu(i) for i in step.gpus]
        )
        field = "hang_groups" if isinstance(step, Hang) else "delay_groups"
        for row in rows:
            if isinstance(step, Delay):
                row.delay_microseconds = int(step.delay_s * MICROSECONDS)
            setattr(row, field, int(step.groups))
        if step.for_s is not None:
            self._agenda.append((at_s + step.for_s, partial(_end_stall, rows, field)))

    def _raise_xid(self, step: Xid, gpus: Sequence[int]) -> None:
        pid = None if step.process is None else self._children.pid(step.process)
        for index in gpus:
            line = xid_line(
                self._state.gpu(index),
                step.code,
                pid=pid,
                name=step.process or "",
                message=step.message,
            )
            self._kernel_log.write(line, ERROR)
            self._state.add_event(index, EventKind.XID, step.code)

    def _log(self, step: Sxid | KernelLines) -> None:
        if isinstance(step, Sxid):
            self._kernel_log.write(
                sxid_line(step.switch, step.code, fatal=step.fatal, message=step.message), ERROR
            )
            return
        self._kernel_log.write_all(
            [step.text.replace("{n}", str(number)) for number in range(step.count)], step.level
        )

    def _start(self, step: Start, gpus: Sequence[int]) -> None:
        try:
            pid = self._children.start(step.process, step.command)
        except OSError as error:
            # One wrong path in a scenario does not end the simulation of everything else.
            log.warning("scenario.process_not_started", process=step.process, reason=str(error))
            return
        for index in gpus:
            self._reserve(step, index, pid, PROCESS_KINDS[step.kind])
            self._state.set_utilization(index, pid, sm_percent=step.sm_percent)

    def _take(self, step: Take, gpus: Sequence[int]) -> None:
        pid = self._children.pid(step.process)
        if pid is None:
            return
        for index in gpus:
            if step.memory_bytes >= 0:
                self._reserve(step, index, pid, ProcessKind.COMPUTE)
            else:
                self._state.give_back(index, pid, -step.memory_bytes)

    def _reserve(self, step: Start | Take, index: int, pid: int, kind: ProcessKind) -> None:
        try:
            mig_device = step.mig_device if isinstance(step, Start) else None
            is_taken = self._state.take(index, pid, step.memory_bytes, kind, mig_device=mig_device)
        except ProcessLookupError:
            is_taken = False
        if not is_taken:
            log.warning("scenario.memory_refused", process=step.process, gpu=index)


def _end_stall(rows: Sequence[StateRow | GpuRow], field: str, _: float) -> None:
    for row in rows:
        setattr(row, field, 0)
