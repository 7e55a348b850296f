"""What is judged: one replica of a service, and the GPUs and processes that it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpuward.agent.model import SeriesKey
from gpuward.agent.remembered import once_a_window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Sample
    from gpuward.agent.window import Window

# Any of them says that there is such a replica.
NAMED_BY = ("replica_requests_total", "replica_page_failures_total")
HELD = "process_gpu_memory_bytes"


@dataclass(frozen=True, slots=True)
class Case:
    """``endpoint`` is empty where replicas of the service cannot be told apart.

    ``gpus``: UUIDs, ``processes``: keys; empty while nobody knows where it runs.
    """

    service: str
    endpoint: str
    gpus: tuple[str, ...]
    processes: tuple[str, ...]
    window: Window = field(repr=False)

    def key(self, signal: str) -> SeriesKey:
        """Return the series of the replica's ``signal``."""
        return SeriesKey(signal, service=self.service, endpoint=self.endpoint)

    def latest(self, signal: str) -> Sample | None:
        """Return the fresh value of the replica's ``signal``."""
        return self.window.latest(self.key(signal))

    def figures(self, signal: str, for_s: float) -> list[float]:
        """Return what the replica's ``signal`` was in the last ``for_s``, nothing when stale."""
        key = self.key(signal)
        if self.window.latest(key) is None:
            return []
        return list(self.window.figures(key, self.window.now_s - for_s))

    def risen(self, signal: str, for_s: float) -> float | None:
        """Return by how much the counter rose in the last ``for_s``; ``None`` when it is stale."""
        key = self.key(signal)
        if self.window.latest(key) is None:
            return None
        return self.window.risen(key, self.window.now_s - for_s)

    def index_of(self, gpu: str) -> str:
        """Return the number of a GPU, or its UUID where the driver does not list it."""
        return next((str(it.index) for it in self.window.gpus if it.uuid == gpu), gpu)


@once_a_window
def cases(window: Window) -> tuple[Case, ...]:
    """Return every replica that anybody has spoken of lately, by name."""
    found = set(_replicas(window))
    named = {service for service, endpoint in found if endpoint}
    # Where one replica has a name, all have.
    wanted = sorted(one for one in found if one[1] or one[0] not in named)
    return tuple(_case(window, service, endpoint) for service, endpoint in wanted)


def _replicas(window: Window) -> Iterator[tuple[str, str]]:
    for signal in NAMED_BY:
        for key in window.keys(signal):
            if key.service:
                yield key.service, key.endpoint
    for totals in window.services:
        yield totals.service, totals.instance
    for process in window.processes:
        if process.service:
            yield process.service, process.endpoint


def _case(window: Window, service: str, endpoint: str) -> Case:
    own = [
        process
        for process in window.processes
        if process.service == service and process.endpoint in ("", endpoint)
    ]
    keys = tuple(dict.fromkeys(process.key for process in own))
    # A GPU that is lost has no processes any more; those that it had are remembered a while.
    lost = {each.gpu for each in window.driver.lost}
    had = (key.gpu for key in window.known(HELD) if key.process in keys and key.gpu in lost)
    return Case(
        service=service,
        endpoint=endpoint,
        gpus=tuple(dict.fromkeys((*(gpu for process in own for gpu in process.gpus), *had))),
        processes=keys,
        window=window,
    )
