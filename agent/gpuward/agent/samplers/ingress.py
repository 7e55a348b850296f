"""Sample how users' requests end, by what ingresses count: also those that no engine ever saw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.samplers.ingress_config import COUNTERS, PAGES
from gpuward.agent.samplers.ingress_fetch import NoPageError, fetch
from gpuward.agent.samplers.ingress_page import WHOLE, CountersPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.agent.samplers.ingress_config import IngressConfig
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# Longer than any page may take, or turns would overlap.
PERIOD_S = 5.0


class IngressSampler:
    """Reads the page of each of ``ingresses``, all at once."""

    name = "ingress"
    period_s = PERIOD_S

    def __init__(self, ingresses: Sequence[IngressConfig], clock: Clock) -> None:
        self._clock = clock
        self._pages = [
            (config, CountersPage(COUNTERS[config.kind], config.match)) for config in ingresses
        ]
        self._trouble: dict[tuple[str, str], str] = {}

    @property
    def health(self) -> ComponentHealth:
        """Unknown while a page cannot be read, with the reason."""
        reasons = "; ".join(filter(None, self._trouble.values()))
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    async def sample(self, now_s: float) -> Batch:
        async with asyncio.TaskGroup() as group:
            looks = [
                group.create_task(self._look(config, page, now_s)) for config, page in self._pages
            ]
        return Batch(samples=tuple(sample for look in looks for sample in look.result()))

    async def _look(
        self, config: IngressConfig, page: CountersPage, now_s: float
    ) -> tuple[Sample, ...]:
        try:
            counters = page.read(await self._text(config))
        except (NoPageError, ParseError) as error:
            self._say(config, f"{config.instance}: {error}")
            return ()
        # No series yet is no requests yet; a selector that fits nothing looks the same.
        self._say(config, "" if WHOLE in counters else f"{config.instance}: counts no such request")
        return tuple(
            Sample(
                SeriesKey(f"ingress_{name}", service=config.service, endpoint=config.instance),
                now_s,
                value,
            )
            for name, value in counters.items()
        )

    async def _text(self, config: IngressConfig) -> str:
        return await fetch(
            config.url,
            PAGES[config.kind],
            key_file=config.api_key_file,
            key_env=config.api_key_env,
            timeout_s=min(config.timeout_s, PERIOD_S),
            clock=self._clock,
        )

    def _say(self, config: IngressConfig, trouble: str) -> None:
        who = (config.service, config.instance)
        if bool(trouble) != bool(self._trouble.get(who)):
            level = log.warning if trouble else log.info
            event = "ingress.unreadable" if trouble else "ingress.read"
            level(event, service=config.service, reason=trouble)
        self._trouble[who] = trouble
