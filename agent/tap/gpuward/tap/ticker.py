"""Publish once a second for as long as the process lives, and get out of its way otherwise.

A daemon thread keeps time and looks for the kill switch; it does not touch the allocator.  The
allocator is asked after a step of the serving engine, where there is one and it runs; else on the
main thread by a pending call.  Only when the main thread has run no Python for a while and waits
for other threads does this thread ask instead; where it sits in C before anybody could ask, records
say "idle".  Where an allocator takes the GIL, and no engine's step is known, nobody asks, and they
say "degraded".
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuward.tap import layout
from gpuward.tap.engine_step import EngineStep
from gpuward.tap.pending_call import PendingCall
from gpuward.tap.safety import is_waiting
from gpuward.tap.walks import Walks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from gpuward.tap.publisher import Publisher
    from gpuward.tap.walks import WalkSource

    class Source(WalkSource, Protocol):
        """Where statistics come from, see ``TorchSource``."""

        def is_ready(self) -> bool: ...
        def open_publisher(self, directory: str, period_ms: int) -> Publisher: ...
        def stats(self, ordinal: int) -> Mapping[str, Any]: ...
        def is_safe_to_ask(self, *, in_step: bool) -> bool: ...
        def observe_oom(self, observer: Callable[[int, int, int, int], None]) -> None: ...


PERIOD_S = 1.0
MAX_PERIOD_S = 60.0
# How often the tap looks again for a directory that is not there, or takes no file yet.
RETRY_S = 60.0
# A tick that takes longer doubles the period: the allocator is busy, or the machine.
SLOW_TICK_NS = 5_000_000
# Ticks without a publication after which the main thread counts as asleep.
QUIET_TICKS = 3
SWITCH = "DISABLE"


class Ticker:
    """Publishes what ``source`` says into ``directory``; gives up silently on any trouble."""

    def __init__(self, directory: str, source: Source, period_s: float = PERIOD_S) -> None:
        self._directory = directory
        self._switch = Path(directory) / SWITCH
        self._source = source
        self._shortest_s = self._period_s = period_s
        self._publisher: Publisher | None = None
        self._used: set[int] = set()
        self._stats_fail = False
        self._has_asked = False
        self._tick_cost_ns = 0
        self._quiet_ticks = 0
        self._walks: Walks | None = None
        self._step = EngineStep(self._publish_in_step)
        self._pending = PendingCall(self._publish)
        self._stop = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="gpuward-tap", daemon=True)

    def start(self) -> None:
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Stop, and remove the file: the process leaves cleanly."""
        if not self._is_ours():
            return
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(0.2)
        self._step.detach()
        if self._walks is not None:
            self._walks.close()
        if self._publisher is not None:
            self._publisher.close()

    def _run(self) -> None:
        with contextlib.suppress(BaseException):
            if self._goes_on_when_ready():
                publisher = self._opened()
                while publisher is not None and self._goes_on_after(self._delay_s()):
                    self._tick(publisher)
        self.close()

    def _goes_on_when_ready(self) -> bool:
        """Wait for the end of CUDA's initialisation, which has called ``start`` from inside.

        Should it fail, then asking torch about a device would try again, from the wrong thread.
        """
        delay_s = 0.01
        while not self._source.is_ready():
            if not self._goes_on_after(delay_s):
                return False
            delay_s = min(self._shortest_s, 2 * delay_s)
        return self._goes_on_after(0.0)

    def _goes_on_after(self, delay_s: float) -> bool:
        return not self._stop.wait(delay_s) and not os.access(self._switch, os.F_OK)

    def _delay_s(self) -> float:
        """Return the period, or half of one when the first call for counters was not answered."""
        is_first = not self._has_asked and self._pending.is_under_way and not self._quiet_ticks
        return self._period_s / 2 if is_first else self._period_s

    def _opened(self) -> Publisher | None:
        """Open the file, now or once there is a place for it; None when told to stop."""
        while True:
            try:
                return self._open()
            except OSError:
                if not self._goes_on_after(RETRY_S):
                    return None

    def _open(self) -> Publisher:
        publisher = self._source.open_publisher(self._directory, int(self._shortest_s * 1000))
        self._publisher = publisher
        self._walks = Walks(self._source, publisher)
        # The driver's own allocator, for one, takes no observer.
        with contextlib.suppress(Exception):
            self._source.observe_oom(self._on_oom)
        return publisher

    def _tick(self, publisher: Publisher) -> None:
        self._step.attach(sys.modules)
        in_step = self._step.ask()
        may_ask = self._may_ask(in_step=in_step)
        if self._walks is not None:
            self._walks.look(may_ask=may_ask)
        if in_step and may_ask:
            return
        if not may_ask:
            # An idle engine leaves its last record; only one that never ran has none.
            if self._stats_fail or not self._step.has_stepped:
                self._publish_without_stats(publisher, layout.DEGRADED)
        elif self._pending.request():
            self._quiet_ticks = 0
        else:
            self._quiet_ticks += 1
            self._stand_in(publisher)

    def _stand_in(self, publisher: Publisher) -> None:
        """Ask for the main thread, which has run no Python; sooner where nobody has asked yet."""
        if self._has_asked and self._quiet_ticks < QUIET_TICKS:
            return
        if _main_thread_waits():
            self._publish()
        elif not self._has_asked:
            self._publish_without_stats(publisher, layout.IDLE | layout.DEGRADED)

    def _is_ours(self) -> bool:
        """Return False in a forked child, which has neither the thread nor the file.

        Its allocator lock, or the one of ``_stop``, may have been held by a thread it left behind.
        """
        return os.getpid() == self._pid

    def _may_ask(self, *, in_step: bool = False) -> bool:
        return not self._stats_fail and self._source.is_safe_to_ask(in_step=in_step)

    def _publish_in_step(self) -> None:
        self._publish(in_step=True)

    def _publish(self, *, in_step: bool = False) -> None:
        """Ask the allocator and publish; on the main thread as a rule."""
        publisher, walks = self._publisher, self._walks
        if publisher is None or walks is None or not self._is_ours() or self._stop.is_set():
            return
        if not self._may_ask(in_step=in_step):
            return
        began_ns = time.perf_counter_ns()
        flags = self._source.flags | walks.flags
        used_stats = []
        for device_index, device in enumerate(publisher.devices):
            try:
                stats = self._source.stats(device.ordinal)
            except Exception:  # noqa: BLE001 - whatever torch raises, there are no statistics
                self._stats_fail = True
                return
            if device_index in self._used or _is_used(stats):
                self._used.add(device_index)
                used_stats.append(stats)
                self._write(
                    publisher.publish,
                    device_index,
                    stats,
                    flags=flags,
                    tick_cost_ns=self._tick_cost_ns,
                )
        self._has_asked = True
        self._tick_cost_ns = time.perf_counter_ns() - began_ns
        self._pace()
        walks.consider(used_stats)

    def _publish_without_stats(self, publisher: Publisher, flags: int) -> None:
        for device_index in range(len(publisher.devices)):
            self._write(publisher.publish, device_index, {}, flags=flags)

    def _write(self, write: Callable[..., bool], *args: Any, **fields: Any) -> None:
        try:
            write(*args, **fields)
        except Exception:  # noqa: BLE001 - a full disk, a closed file: there is nobody to tell
            self._stop.set()

    def _pace(self) -> None:
        if self._tick_cost_ns > SLOW_TICK_NS:
            self._period_s = min(MAX_PERIOD_S, 2 * self._period_s)
        else:
            self._period_s = max(self._shortest_s, self._period_s / 2)

    def _on_oom(self, ordinal: int, request: int, _total: int, device_free: int) -> None:
        """Write the black-box record; torch calls this in the thread whose request failed."""
        publisher = self._publisher
        if publisher is None or not self._is_ours() or self._stop.is_set():
            return
        with contextlib.suppress(Exception):
            indexes = {device.ordinal: index for index, device in enumerate(publisher.devices)}
            stats = self._source.stats(ordinal) if self._may_ask() else None
            self._used.add(indexes[ordinal])
            self._write(publisher.record_oom, indexes[ordinal], request, device_free, stats)
            if stats is not None and self._walks is not None:
                summary = self._walks.summary_now(ordinal, stats)
                if summary is not None:
                    flags = self._source.flags | self._walks.flags
                    self._write(publisher.publish, indexes[ordinal], stats, summary, flags=flags)


def _main_thread_waits() -> bool:
    frames = sys._current_frames()  # noqa: SLF001 - documented, for tools such as this
    return is_waiting(frames.get(threading.main_thread().ident or 0))


def _is_used(stats: Mapping[str, Any]) -> bool:
    """Return whether the process ever took memory of the device: most see eight and use one."""
    reserved = stats.get("reserved_bytes", {}).get("all", {})
    return bool(reserved.get("allocated", 0) or reserved.get("current", 0))
