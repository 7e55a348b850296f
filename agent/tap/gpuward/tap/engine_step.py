"""Publish from the thread that allocates: after a step of the serving engine, while it runs.

Between two steps that thread cannot be inside the allocator.  Even where the allocator takes the
GIL it may be asked there, as nobody else in such an engine's worker allocates.  The step is found
by module, class and method, in the modules that the process has imported anyway; an engine that has
moved it is served by the pending call like any other program.
"""

from __future__ import annotations

import contextlib
import functools
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# vLLM: one call a step in each worker process.  SGLang: the same in each scheduler process,
# whichever kind of worker it drives.
STEPS = (
    ("vllm.v1.worker.gpu_worker", "Worker", "execute_model"),
    ("sglang.srt.managers.scheduler", "Scheduler", "run_batch"),
)
# Ticks that may pass without a step before the engine counts as idle.
QUIET_TICKS = 3


class EngineStep:
    """Calls ``function`` after a step once it ``is_due``; its ``Exception``s are lost."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._is_due = False
        self._unanswered = 0
        self._wrapped: tuple[type, str, Any, Any] | None = None
        self.has_stepped = False

    def attach(self, modules: Mapping[str, Any]) -> None:
        """Wrap the engine's step, unless that was done or there is no engine among ``modules``."""
        if self._wrapped is not None:
            return
        for module, owner_name, name in STEPS:
            owner = getattr(modules.get(module), owner_name, None)
            step = vars(owner).get(name) if isinstance(owner, type) else None
            if isinstance(owner, type) and isinstance(step, types.FunctionType):
                wrapper = self._around(step)
                setattr(owner, name, wrapper)
                self._wrapped = (owner, name, step, wrapper)
                return

    def detach(self) -> None:
        """Put the step back, unless somebody else has wrapped it since."""
        if self._wrapped is None:
            return
        owner, name, step, wrapper = self._wrapped
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, step)

    def ask(self) -> bool:
        """Have ``function`` called after the next step; False when none is to be expected."""
        self._unanswered = self._unanswered + 1 if self._is_due else 0
        self._is_due = self._wrapped is not None
        return self.has_stepped and self._unanswered < QUIET_TICKS

    def _around(self, step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def stepped(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            if self._is_due:
                self._is_due, self.has_stepped = False, True
                with contextlib.suppress(Exception):
                    self._function()
            return result

        return stepped
