"""Sample what inference waits for outside of the node: is it there, how long does it take?

Own requests are light: a connection that is closed again, or one page.  They come every ten
seconds, one at a time to each upstream, and within their turn.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from gpuward.agent.learned_file import LearnedFile
from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.samplers.endpoint_http import Lost, send
from gpuward.agent.samplers.endpoint_key import KeyUnreadableError, read_key
from gpuward.agent.samplers.endpoint_request import Written
from gpuward.agent.samplers.ingress_fetch import NoPageError, fetch
from gpuward.agent.samplers.ingress_page import WHOLE, CountersPage
from gpuward.agent.samplers.upstream_config import COUNTERS
from gpuward.agent.samplers.upstream_usual import Usual
from gpuward.agent.upstream_state import recent_latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gpuward.agent.samplers.upstream_config import UpstreamConfig
    from gpuward.agent.window import Window
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

PERIOD_S = 10.0
WRITTEN_EVERY_S = 300.0
# Two for each upstream; those that are configured no more go first.
MOST_KNOWN = 2_000


class UpstreamSampler:
    """Looks at each of ``upstreams``, all at once.

    ``path``: where it keeps what is usual; ``window``: what their counters were.
    """

    name = "upstream"
    period_s = PERIOD_S

    def __init__(
        self,
        upstreams: Sequence[UpstreamConfig],
        clock: Clock,
        window: Callable[[float], Window],
        path: Path,
    ) -> None:
        self._upstreams = tuple(upstreams)
        self._clock = clock
        self._window = window
        self._pages = {
            config.name: CountersPage(COUNTERS[config.kind], config.match)
            for config in upstreams
            if config.kind in COUNTERS
        }
        self._file = LearnedFile(path, Usual, most=MOST_KNOWN)
        # By signal and upstream.
        self._usual = self._file.read()
        self._written_s = float("-inf")
        self._trouble: dict[str, str] = {}

    @property
    def health(self) -> ComponentHealth:
        """Unknown while a caller's page cannot be read, with the reason."""
        reasons = "; ".join(filter(None, self._trouble.values()))
        return ComponentHealth(self.name, Result.UNKNOWN if reasons else Result.OK, reasons)

    async def sample(self, now_s: float) -> Batch:
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._look(config, now_s)) for config in self._upstreams]
        if now_s - self._written_s >= WRITTEN_EVERY_S and self._file.write(self._usual):
            self._written_s = now_s
        return Batch(samples=tuple(sample for look in looks for sample in look.result()))

    async def _look(self, config: UpstreamConfig, now_s: float) -> tuple[Sample, ...]:
        look = self._counted if config.kind in COUNTERS else self._probed
        figures = await look(config)
        figures |= self._learnt(config.name, figures, now_s)
        return tuple(
            Sample(SeriesKey(signal, endpoint=config.name), now_s, value)
            for signal, value in figures.items()
        )

    async def _counted(self, config: UpstreamConfig) -> dict[str, float]:
        """Return what a caller's page says."""
        try:
            text = await fetch(
                config.url,
                "",
                key_file=config.api_key_file,
                key_env=config.api_key_env,
                timeout_s=config.timeout_s,
                clock=self._clock,
            )
            counters = self._pages[config.name].read(text)
        except (NoPageError, ParseError) as error:
            self._say(config, f"{config.name}: {error}")
            return {}
        self._say(config, "" if WHOLE in counters else f"{config.name}: its callers count nothing")
        return {f"upstream_{name}": value for name, value in counters.items()}

    async def _probed(self, config: UpstreamConfig) -> dict[str, float]:
        """Return what an own request meets."""
        try:
            async with asyncio.timeout(config.timeout_s):
                seconds = await self._seconds(config)
        except TimeoutError:
            seconds = None
        except KeyUnreadableError as error:
            self._say(config, f"{config.name}: {error}")
            return {}
        self._say(config, "")
        up = {"upstream_up": float(seconds is not None)}
        return up if seconds is None else {**up, "upstream_probe_seconds": seconds}

    async def _seconds(self, config: UpstreamConfig) -> float | None:
        """Return how long an own request took, ``None`` when it was not answered well."""
        if config.kind == "tcp":
            return await self._connected(config)
        key = read_key(config.api_key_file, config.api_key_env)
        answer = await send(config.url, Written(""), key=key, clock=self._clock)
        if isinstance(answer, Lost) or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return None
        return answer.seconds

    async def _connected(self, config: UpstreamConfig) -> float | None:
        parts, began_s = urlsplit(config.url), self._clock.mono_s()
        try:
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except (OSError, UnicodeError):
            return None
        writer.transport.abort()
        return self._clock.mono_s() - began_s

    def _learnt(self, name: str, figures: dict[str, float], now_s: float) -> dict[str, float]:
        """Learn from this turn; return what is usual, where enough is known."""
        recent = {
            "upstream_probe_usual_seconds": figures.get("upstream_probe_seconds"),
            "upstream_latency_usual_seconds": recent_latency(self._window(now_s), name),
        }
        usual = {}
        for signal, seconds in recent.items():
            # Anew at the end: the order is that of last use.
            learnt = self._usual.pop(f"{signal} {name}", None) or Usual()
            self._usual[f"{signal} {name}"] = learnt
            if seconds is not None:
                learnt.note(seconds)
            if learnt.seconds is not None:
                usual[signal] = learnt.seconds
        return usual

    def _say(self, config: UpstreamConfig, trouble: str) -> None:
        if bool(trouble) != bool(self._trouble.get(config.name)):
            level = log.warning if trouble else log.info
            event = "upstream.unreadable" if trouble else "upstream.read"
            level(event, upstream=config.name, reason=trouble)
        self._trouble[config.name] = trouble
