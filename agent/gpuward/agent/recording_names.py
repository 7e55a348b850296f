"""Replace the names in what samplers bring by others that tell nothing, each always by the same.

A recording leaves the node and often the company.  What stays is what is judged: figures, times,
codes, kinds of cards, and pids, which name nobody.  What goes are the names that people gave
(processes, units, pods, containers, models, services, hosts, upstreams), the numbers of cards, and
all free text.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import Batch, Driver, Event, Gpu, Process, SeriesKey
    from gpuward.agent.service_totals import ServiceTotals

# Names that come and go: beyond so many of a sort the recording would be the memory.
MOST_NAMES = 100_000


class Names:
    """Gives out names, the first of a sort the number 1."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def name(self, sort: str, real: str) -> str:
        """Return what stands for ``real``; empty stays empty."""
        if not real:
            return ""
        known = self._known.get((sort, real))
        if known is None:
            number = self._counts[sort] = self._counts.get(sort, 0) + 1
            known = f"{sort}-{number}"
            if len(self._known) < MOST_NAMES:
                self._known[sort, real] = known
        return known

    def gpu(self, uuid: str) -> str:
        """Return what stands for a card or a slice; that it is one or the other is judged."""
        return self.name("MIG" if uuid.startswith("MIG-") else "GPU", uuid)

    def address(self, address: str) -> str:
        """Return ``host:port`` of a host that tells nothing; the port stays."""
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():
            return f"{self.name('host', host)}:{port}"
        return self.name("host", address)

    def endpoint(self, service: str, endpoint: str) -> str:
        """Return what stands for a replica's address, or without a service for an upstream."""
        return self.address(endpoint) if service else self.name("upstream", endpoint)

    def key(self, key: SeriesKey) -> SeriesKey:
        return key._replace(
            gpu=self.gpu(key.gpu),
            process=self.name("process", key.process),
            service=self.name("service", key.service),
            endpoint=self.endpoint(key.service, key.endpoint),
        )

    def batch(self, batch: Batch) -> Batch:
        """Return all of ``batch`` but its samples under other names."""
        return replace(
            batch,
            events=tuple(map(self._event, batch.events)),
            gpus=None if batch.gpus is None else tuple(map(self._card, batch.gpus)),
            processes=(
                None if batch.processes is None else tuple(map(self._process, batch.processes))
            ),
            services=None if batch.services is None else tuple(map(self._totals, batch.services)),
            driver=None if batch.driver is None else self._driver(batch.driver),
        )

    def _card(self, gpu: Gpu) -> Gpu:
        slices = tuple(replace(one, uuid=self.gpu(one.uuid)) for one in gpu.mig)
        serial = self.name("serial", gpu.serial)
        return replace(gpu, uuid=self.gpu(gpu.uuid), serial=serial, mig=slices)

    def _process(self, process: Process) -> Process:
        return replace(
            process,
            key=self.name("process", process.key),
            gpus=tuple(map(self.gpu, process.gpus)),
            slices=tuple(map(self.gpu, process.slices)),
            unit=self.name("unit", process.unit),
            pod=self.name("pod", process.pod),
            pod_name="",
            container=self.name("container", process.container),
            model=self.name("model", process.model),
            service=self.name("service", process.service),
            endpoint=self.address(process.endpoint) if process.endpoint else "",
        )

    def _totals(self, totals: ServiceTotals) -> ServiceTotals:
        return replace(
            totals,
            service=self.name("service", totals.service),
            instance=self.address(totals.instance),
            model=self.name("model", totals.model),
            previous_model=self.name("model", totals.previous_model),
        )

    def _event(self, event: Event) -> Event:
        # It only has to be the same for the same event.
        identity = hashlib.blake2b(event.identity.encode("utf-8", "replace"), digest_size=8)
        return replace(
            event,
            identity=identity.hexdigest(),
            gpu=self.gpu(event.gpu),
            process=self.name("process", event.process),
            text="",
            values=MappingProxyType(dict(event.values)),
        )

    def _driver(self, driver: Driver) -> Driver:
        planned = driver.maintenance
        return replace(
            driver,
            waiting_gpu=self.gpu(driver.waiting_gpu),
            reason="",
            lost=tuple(replace(one, gpu=self.gpu(one.gpu), text="") for one in driver.lost),
            maintenance=None if planned is None else replace(planned, reason="planned"),
        )
