"""One engine: its page and readiness, asked for again and again, and what was seen last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from gpuward.agent.engine_build import Build
from gpuward.agent.engines.engine_map import COUNTERS, WITH_PERCENTILE
from gpuward.agent.engines.percentile import RecentPercentile
from gpuward.agent.http_get import HttpError, SilentError
from gpuward.agent.model import Sample, SeriesKey
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.samplers.engine_page import EnginePage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.engine_config import EngineConfig
    from gpuward.agent.engines.reading import Reading
    from gpuward.daemon.clock import Clock

log = structlog.get_logger()

# A page up to this length is read at each turn; a longer one, of many models or a whole Ray node,
# costs its server and us as much as several others.
SHORT_PAGE = 131_072
LONG_PAGE_EVERY_S = 5.0
# A page that cannot be understood does not get better within a second, and may be there to harm.
AGAIN_AFTER_S = 10.0
# Turns are a second apart, more or less.
TURN_S = 0.5
# How long an engine that said it is ready is believed, while its page is read.
READY_FOR_S = 5.0
PERCENTILES_EVERY_S = 5.0
# Asked for after a start; who does not tell by then does not tell.
VERSION_TRIES = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """The last good look at an engine."""

    reading: Reading
    started_wall_s: float
    at_s: float
    wall_s: float
    # When it last said that it is ready; None when it said that it is not.
    ready_s: float | None


class Replica:
    """Watches one engine.

    ``is_answering``: whether it showed its page when it was looked at last; ``trouble``: why it did
    not, or what on its page cannot be.
    """

    def __init__(self, engine: EngineConfig, clock: Clock) -> None:
        self.engine = engine
        self.seen: Seen | None = None
        self.trouble = ""
        self.is_answering = False
        self._clock = clock
        self._page = EnginePage(engine)
        self._keys: dict[str, SeriesKey] = {}
        self._failures = 0
        # When anybody was heard at its address last, or was first to be; why nobody is now.
        self._heard_s: float | None = None
        self._silence: SilentError | None = None
        self._page_s = 0.0
        self._version = ""
        self._version_tries = VERSION_TRIES
        self._due_s = float("-inf")
        # What no page of the engine has told so far; of which kind it was.
        self._untold: tuple[str, frozenset[str]] = ("", frozenset())
        self._percentiles = {name: RecentPercentile() for name in WITH_PERCENTILE}
        self._percentiles_s = float("-inf")

    def close(self) -> None:
        self._page.close()

    @property
    def is_ready(self) -> bool:
        return self.is_answering and self.seen is not None and self.seen.ready_s is not None

    @property
    def build(self) -> Build:
        """What it was seen to run last."""
        if self.seen is None:
            return Build()
        reading = self.seen.reading
        return Build(self.engine.model or reading.model, self._version or reading.model_version)

    async def look(self, now_s: float) -> None:
        """Read the page if it is time to; what goes wrong is ``trouble``."""
        if now_s < self._due_s:
            return
        self._heard_s = now_s if self._heard_s is None else self._heard_s
        try:
            reading = await self._read()
            ready_s = await self._ready_s(now_s)
        except (HttpError, ParseError) as error:
            self._failures += 1
            self.is_answering = False
            self._hear(now_s, error if isinstance(error, SilentError) else None)
            self._due_s = now_s + AGAIN_AFTER_S if isinstance(error, ParseError) else now_s
            self._say("engine.unreachable", str(error))
        else:
            self.is_answering = True
            self._hear(now_s, None)
            is_long = self._page.length > SHORT_PAGE
            self._due_s = now_s + LONG_PAGE_EVERY_S - TURN_S if is_long else now_s
            self._say("engine.figures_broken", "; ".join(reading.broken))
            self._note(reading, now_s, ready_s)
            await self._ask_version()

    def excuse(self, now_s: float) -> None:
        """Begin anew with waiting for it: engines are stopped in a maintenance."""
        self._heard_s = now_s

    def _hear(self, now_s: float, silence: SilentError | None) -> None:
        self._silence = silence
        if silence is None:
            self._heard_s = now_s

    def samples(self, now_s: float) -> Iterator[Sample]:
        """Yield what this turn's look said of the engine as a replica."""
        for name, value in self._figures(now_s):
            yield Sample(self._key(name), now_s, value)

    def _key(self, name: str) -> SeriesKey:
        found = self._keys.get(name)
        if found is None:
            engine = self.engine
            signal = f"replica_{name}"
            found = SeriesKey(signal, service=engine.service, endpoint=engine.instance)
            self._keys[name] = found
        return found

    def _figures(self, now_s: float) -> Iterator[tuple[str, float]]:
        """Yield what there is to say, each by the name of its signal without ``replica_``."""
        yield "ready", float(self.is_ready)
        yield "page_failures_total", float(self._failures)
        if self._silence is not None and self._heard_s is not None:
            yield "silent_seconds", now_s - self._heard_s
            yield "listens", float(self._silence.is_listening)
        if self.seen is None or self.seen.at_s != now_s:
            return
        reading = self.seen.reading
        yield "page_seconds", self._page_s
        yield from reading.figures.items()
        for name, timing in reading.durations.items():
            if timing.seconds is not None and timing.count is not None:
                total, count = COUNTERS[name]
                yield total, timing.seconds
                yield count, timing.count
        if reading.longest_queue is not None:
            yield "rank_requests_waiting", reading.longest_queue.waiting
            yield "rank_requests_running", reading.longest_queue.running
        over = reading.over(self.engine.objective_s)
        if over is not None:
            yield "requests_over_objective_total", over
        if now_s - self._percentiles_s >= PERCENTILES_EVERY_S:
            self._percentiles_s = now_s
            if over is not None:
                yield "objective_budget_ratio", 1.0 - self.engine.objective_ratio
            yield from self._recent(reading, now_s)

    def _recent(self, reading: Reading, now_s: float) -> Iterator[tuple[str, float]]:
        for name, recent in self._percentiles.items():
            timing = reading.durations.get(name)
            if timing is None or timing.buckets is None:
                continue
            found = recent.note(now_s, timing.buckets)
            if found is not None:
                what = "p95_beyond" if found.is_beyond else "p95"
                yield f"{name}_{what}_seconds", found.seconds

    async def _read(self) -> Reading:
        began_s = self._clock.mono_s()
        reading = await self._page.read()
        self._page_s = self._clock.mono_s() - began_s
        return reading

    async def _ask_version(self) -> None:
        if self._version_tries == 0:
            return
        self._version_tries -= 1
        try:
            self._version = await self._page.version()
        except HttpError:
            return
        self._version_tries = 0

    async def _ready_s(self, now_s: float) -> float | None:
        """Return when the engine last said that it is ready; ``None`` when it says it is not.

        A page that was just read is evidence enough for a while, and a request costs as much as
        the page does.
        """
        if self.seen and self.seen.ready_s is not None and now_s - self.seen.ready_s < READY_FOR_S:
            return self.seen.ready_s
        return now_s if await self._page.is_ready() else None

    def _note(self, reading: Reading, now_s: float, ready_s: float | None) -> None:
        self._say_what_is_told(reading)
        wall_s = self._clock.wall_s()
        before = self.seen
        started_s = reading.started_wall_s
        if started_s is None:
            # Some servers do not say: then they count from when we first looked.
            started_s = before.started_wall_s if before else wall_s
        if before and _went_back(before.reading, reading) and started_s <= before.started_wall_s:
            started_s = wall_s
        if before and started_s != before.started_wall_s:
            self._version_tries = VERSION_TRIES
        self.seen = Seen(reading, started_s, now_s, wall_s, ready_s)

    def _say_what_is_told(self, reading: Reading) -> None:
        """Log what the engine does not tell, anew only when it turns out to be less."""
        kind, before = self._untold
        untold = frozenset(reading.missing)
        if kind == reading.kind:
            untold &= before
            if untold == before:
                return
        self._untold = (reading.kind, untold)
        log.info(
            "engine.recognised",
            service=self.engine.service,
            engine=self.engine.url,
            kind=reading.kind,
            does_not_tell=sorted(untold),
            # A bucket's edge is to be at the objective: then misses are exact.
            objective_judged_at_s=reading.judged_at_s(self.engine.objective_s),
        )

    def _say(self, event: str, trouble: str) -> None:
        engine = self.engine
        if bool(trouble) != bool(self.trouble):
            if trouble:
                log.warning(event, service=engine.service, engine=engine.url, reason=trouble)
            else:
                log.info("engine.answered", service=engine.service, engine=engine.url)
        self.trouble = f"{engine.instance}: {trouble}" if trouble else ""


def _went_back(before: Reading, after: Reading) -> bool:
    """Return whether a counter fell, which only a restart of the server does."""
    return any(
        after.figures.get(name, value) < value
        for name, value in before.figures.items()
        if name.endswith("_total")
    )
