"""Work something out once, however many detectors ask for it.

A window does not change, and neither does its inventory, which moreover is the same for many
windows: what a function finds out about one is kept with it, and goes when it goes.
"""

from __future__ import annotations

from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuward.agent.window import Window

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    Asked = Callable[Concatenate[Window, P], T]


# What was not asked before.
_NEW: Any = object()


def once_a_window(function: Asked[P, T]) -> Asked[P, T]:
    """Remember what ``function`` returns for a window and its other arguments."""
    return _remembering(function, attrgetter("found"))


def once_an_inventory(function: Asked[P, T]) -> Asked[P, T]:
    """Remember it longer: ``function`` looks at nothing of the window but the inventory."""
    return _remembering(function, attrgetter("inventory.found"))


def _remembering(
    function: Asked[P, T], found_in: Callable[[Window], dict[Any, Any]]
) -> Asked[P, T]:
    @wraps(function)
    def ask(window: Window, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found = found_in(window)
        what = (function, args, *kwargs.items())
        # Looked up once: to take the hash of what is asked is most of the work.
        result: T = found.get(what, _NEW)
        if result is _NEW:
            result = found[what] = function(window, *args, **kwargs)
        return result

    return ask
