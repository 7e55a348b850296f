"""How long an engine may be silent: while it may be starting, and from when it is missed.  Pure.

An engine listens only when its model is loaded, which may take a quarter of an hour, so that nobody
listens says little by itself.  What tells a start from an absence is whether a process is there
that could be the engine: an engine takes its GPU within a minute.  Where none is, four minutes are
enough for a restart.  What is not known is taken for a start: a node that has just booted, GPUs
that nobody can ask, a process on a GPU of which nobody knows what it serves.

An engine that refuses to tell (a wrong path, a key, a certificate) is not silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.probe_process import is_worker

if TYPE_CHECKING:
    from gpuward.agent.window import Window

SILENT = "replica_silent_seconds"
LISTENS = "replica_listens"

# A large model is loaded by then, or it is not loading.
LOADED_WITHIN_S = 900.0
# A restart has a process on its GPU by then.
RESTARTED_WITHIN_S = 240.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Of a replica that is missed; it is out for certain only when it lasts ``certain_after_s``.

    ``words``: what requests meet there, for a sentence.
    """

    lasts_s: float
    certain_after_s: float
    words: str


def silence_of(window: Window, service: str, endpoint: str) -> Silence | None:
    """Return the silence of a replica; ``None`` while it answers, or may be starting."""
    lasts = window.latest(SeriesKey(SILENT, service=service, endpoint=endpoint))
    if lasts is None:
        return None
    listens = window.latest(SeriesKey(LISTENS, service=service, endpoint=endpoint))
    is_listening = listens is not None and listens.value > 0
    is_absent = not is_listening and not may_load(window, service, endpoint)
    if lasts.value < (RESTARTED_WITHIN_S if is_absent else LOADED_WITHIN_S):
        return None
    if is_absent:
        words = "nobody listens there, and no process could be starting"
        return Silence(lasts.value, LOADED_WITHIN_S, words)
    words = "it does not answer" if is_listening else "nobody listens there"
    # Its page may be somewhere else: of a process that is there this is no proof of an outage.
    return Silence(lasts.value, inf, f"{words}, longer than a start takes")


def may_load(window: Window, service: str, endpoint: str) -> bool:
    """Return whether a process may be there that is to become this replica."""
    # Monotonic time begins with the node.
    if window.now_s < LOADED_WITHIN_S or not window.driver.up or not window.gpus:
        return True
    return any(
        process.service in ("", service)
        and process.endpoint in ("", endpoint)
        and not is_worker(process)
        for process in window.processes
    )
