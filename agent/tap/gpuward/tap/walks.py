"""When the tap walks over all blocks: at an out-of-memory error, after a retry, when it is asked.

And by itself where segments are expandable, as counters do not say exactly there what could be
given back.  A walk is taken by the thread that asks the allocator; what follows from it is worked
out on the tap's own thread at its next tick, but at once where the program may be about to die.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from gpuward.tap import layout, map_layout
from gpuward.tap.memory_walk import Walk, large_page, map_of, summarise
from gpuward.tap.requests import Requests
from gpuward.tap.walk_budget import WalkBudget, predicted_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from gpuward.tap.publisher import Publisher, SnapshotSummary

    class WalkSource(Protocol):
        """Where walks come from, see ``TorchSource``."""

        flags: int

        def walk(self) -> Walk: ...
        def is_recording(self) -> bool: ...


class Walks:
    """Walks of the process that writes ``publisher``."""

    def __init__(self, source: WalkSource, publisher: Publisher) -> None:
        self._source = source
        self._publisher = publisher
        self._requests = Requests(publisher.path)
        self._accepts = bool(publisher.header.flags & layout.ACCEPTS_REQUESTS)
        self._page = large_page(publisher.header.alloc_conf)
        self._budget = WalkBudget()
        self._request: map_layout.Request | None = None
        self._retries: int | None = None
        self._blocks = 0
        # Taken and not yet worked out: the request it answers, its outcome, the walk.
        self._taken: tuple[map_layout.Request | None, int, Walk | None] | None = None
        # Record flags that a walk found reason for.
        self.flags = 0

    def look(self, *, may_ask: bool) -> None:
        """Work out the last walk and look for a question; on the tap's own thread."""
        self._finish()
        request = self._requests.look() if self._accepts else None
        self._request = None
        if request is None:
            return
        if request.kind != map_layout.MEMORY_MAP:
            self._answer(request, map_layout.UNKNOWN_KIND)
        elif not may_ask:
            self._answer(request, map_layout.DEGRADED)
        else:
            self._request = request

    def consider(self, all_stats: Sequence[Mapping[str, Any]]) -> None:
        """Walk if there is a reason and the budget allows; where the allocator may be asked."""
        retries = sum(stats.get("num_alloc_retries", 0) for stats in all_stats)
        is_reason = self._retries is not None and retries > self._retries
        self._retries = retries
        self._blocks = sum(predicted_blocks(stats) for stats in all_stats)
        if self._taken is not None or not self._accepts:
            return
        is_reason = is_reason or bool((self._source.flags | self.flags) & layout.EXPANDABLE)
        request = self._request
        if request is None and not is_reason:
            return
        refusal = self._refusal(self._blocks)
        if not refusal:
            self._taken = (request, *self._take(self._blocks))
        elif request is not None and not (refusal == map_layout.BUSY and self._can_wait(request)):
            self._taken = (request, refusal, None)

    def summary_now(self, ordinal: int, stats: Mapping[str, Any]) -> SnapshotSummary | None:
        """Walk and say at once what it found of a device; None when the budget does not allow."""
        _, walk = self._take(max(self._blocks, predicted_blocks(stats)))
        return None if walk is None else summarise(walk, ordinal, self._page)

    def close(self) -> None:
        self._requests.close()

    def _take(self, blocks: int) -> tuple[int, Walk | None]:
        refusal = self._refusal(blocks)
        if refusal:
            return refusal, None
        # Spent before as well, as another thread may run out of memory meanwhile.
        began_ns = time.monotonic_ns()
        self._budget.spend(began_ns, 0)
        walk: Walk | None = None
        with contextlib.suppress(Exception):
            walk = self._source.walk()
            self._budget.learn(blocks, walk.blocks)
        ended_ns = time.monotonic_ns()
        self._budget.spend(ended_ns, ended_ns - began_ns)
        return (map_layout.FAILED if walk is None else map_layout.ANSWERED), walk

    def _can_wait(self, request: map_layout.Request) -> bool:
        """Return whether the budget allows a walk before the request's deadline."""
        wait_ns = self._budget.retry_after_ms(time.monotonic_ns()) * 1_000_000
        return time.time_ns() + wait_ns < request.deadline_real_ns

    def _refusal(self, blocks: int) -> int:
        if not self._accepts:
            return map_layout.DEGRADED
        if self._source.is_recording():
            return map_layout.RECORDING
        return self._budget.refusal(time.monotonic_ns(), blocks)

    def _finish(self) -> None:
        if self._taken is None:
            return
        request, outcome, walk = self._taken
        if request is not None:
            self._answer(request, outcome, walk)
        if walk is not None:
            self.flags |= layout.EXPANDABLE if walk.has_expandable else 0
            for device in self._publisher.devices:
                device.snapshot = summarise(walk, device.ordinal, self._page)
        self._taken = None

    def _answer(self, request: map_layout.Request, outcome: int, walk: Walk | None = None) -> None:
        now_ns = time.monotonic_ns()
        if walk is None:
            busy_ms = self._budget.retry_after_ms(now_ns) if outcome == map_layout.BUSY else 0
            answer = map_layout.MemoryMap(
                request.nonce, now_ns, time.time_ns(), outcome, retry_after_ms=busy_ms
            )
        else:
            gpus = [map_layout.MapGpu(d.gpu_uuid, d.ordinal) for d in self._publisher.devices]
            answer = map_of(walk, request.nonce, gpus, self._page)
        self._requests.answer(answer)
