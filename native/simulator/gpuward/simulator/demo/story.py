"""The story of one incident, step by step, each step checked against what really happened.

A step waits for a fact in the agent's metrics, in the coordinator's API or in the file that the
pages went to, and fails by name when it does not come.  Nothing is told that was not read there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from gpuward.simulator.demo import node
from gpuward.simulator.demo.narrator import Tone
from gpuward.simulator.demo.telling import line_of
from gpuward.simulator.http_client import Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.demo.centre import Centre, Incident
    from gpuward.simulator.demo.narrator import Narrator
    from gpuward.simulator.demo.world import World

T = TypeVar("T")

LOOK_EVERY_S = 0.25
# Beyond what the policy itself waits for: reports, ticks, a loaded machine.
SLACK_S = 120.0
MINUTE_S = 60.0
GIB = 1 << 30
FRAGMENTATION = "process.memory.fragmentation"
# What the agent says of a machine that is too busy for the demo: true, and another trouble.
BUSY_MACHINE = "its threads do not get a core of the host"
SERVICE_IMPACT = "service.impact"
REVIEW_SECTIONS = ("Timeline", "Root cause", "Detection", "Resolution", "Action items")


class StepFailed(Exception):  # noqa: N818 - a result, told to the user
    """A step's fact did not come; the message says which and for how long it was waited for."""


@dataclass(slots=True)
class Story:
    """The steps, in order; ``after_step`` is told each step's name when it is done."""

    world: World
    narrator: Narrator
    clock: Clock
    speed: float
    review_path: Path
    after_step: Callable[[str], Awaitable[None]] | None = None
    incident_id: str = ""
    _told: int = 0
    _step: str = field(default="", init=False)

    async def play(self) -> None:
        """Play every step; raises ``StepFailed`` and ``PartFailed``."""
        for name, step in (
            ("healthy", self.healthy),
            ("fragmentation", self.fragmentation),
            ("incident", self.incident),
            ("L1", self.first_page),
            ("L1-repeat", self.missed_deadline),
            ("L2", self.second_level),
            ("acknowledged", self.acknowledge),
            ("L3", self.third_level),
            ("map", self.memory_map),
            ("fix", self.fix),
            ("recovered", self.recovered),
            ("resolved", self.resolve),
            ("review", self.review),
        ):
            self._step = name
            await step()
            if self.after_step is not None:
                await self.after_step(name)

    # The steps.

    async def healthy(self) -> None:
        """The agent sees the GPUs, the engine and its allocator; requests are served."""
        self.narrator.heading("A healthy node")
        metrics = await self._until(self._serving, SLACK_S, "requests served and memory seen")
        gpus = metrics.named("gpuward_gpu_memory_total_bytes")
        reserved = metrics.total("gpuward_process_memory_reserved_bytes") / GIB
        driver = metrics.label("gpuward_driver_info", "version")
        self._tell("agent", f"sees {len(gpus)} GPUs, driver {driver}")
        self._tell("agent", f"reads the allocators of the engine's processes: {reserved:.0f} GiB")
        served = metrics.total("gpuward_service_requests_total")
        failed = metrics.total("gpuward_service_requests_failed_total")
        self._tell("agent", f"{served:.0f} requests served, {failed:.0f} failed", Tone.GOOD)

    async def fragmentation(self) -> None:
        """The agent finds it from outside the process."""
        self.narrator.heading("Memory falls to pieces")
        metrics = await self._until(self._fragmented, SLACK_S, f"the finding {FRAGMENTATION}")
        stranded = metrics.total("gpuward_process_memory_stranded_bytes") / GIB
        failed = metrics.total("gpuward_service_requests_failed_total")
        what = f"{FRAGMENTATION}: {stranded:.1f} GiB stranded, {failed:.0f} requests failed so far"
        self._tell("agent", what, Tone.WARNING)

    async def incident(self) -> None:
        """Failed requests open an incident that pages, with fragmentation as a cause."""
        self.narrator.heading("Users are hurt")
        self.incident_id = await self._until(self._service_incident, SLACK_S, SERVICE_IMPACT)
        self._tell("you", f"watch it here: {self._centre.page_of(self.incident_id)}", Tone.HEADING)
        await self._until(self._pages, SLACK_S, "a severity that pages")
        incident = await self._until(self._has_cause, SLACK_S, f"{FRAGMENTATION} as cause")
        if incident.rotation != "infrastructure":
            raise self._failure(f"the rotation is {incident.rotation}, not infrastructure")

    async def first_page(self) -> None:
        await self._level("L1", 0.0, self.world.people.primary)

    async def missed_deadline(self) -> None:
        """Nobody acknowledges within five minutes: recorded, and paged again."""
        self.narrator.heading("Nobody answers")
        await self._level("L1-repeat", 5.0, self.world.people.primary)
        await self._until(self._missed, SLACK_S, "the missed deadline in the timeline")

    async def second_level(self) -> None:
        await self._level("L2", 15.0, self.world.people.secondary)

    async def acknowledge(self) -> None:
        """The secondary answers, unless somebody pressed the button on the page before."""
        await self._until(self._acknowledged, SLACK_S, "the acknowledgement")

    async def third_level(self) -> None:
        """An acknowledgement does not stop L3: it waits for resolution."""
        await self._level("L3", 30.0, self.world.people.lead)

    async def memory_map(self) -> None:
        """The page shows where memory is lost; a process that was just walked keeps it waiting."""
        await self._until(self._mapped, SLACK_S, "the memory map on the incident's page")

    async def fix(self) -> None:
        """The runbook's last step: a rolling restart of the engine's processes."""
        self.narrator.heading("The fix")
        for name in self.world.replicas:
            self._tell("person", f"restarts {name}; the others serve on")
            await self.world.restart_healthy(name)

    async def recovered(self) -> None:
        within_s = 30 * MINUTE_S / self.speed + SLACK_S
        await self._until(self._mitigated, within_s, "the failed share to fall")

    async def resolve(self) -> None:
        await self._until(self._resolved, SLACK_S, "the resolution")

    async def review(self) -> None:
        """The draft has every section, and stays on disk."""
        self.narrator.heading("The review")
        text = await self._centre.review(self.incident_id)
        missing = [name for name in REVIEW_SECTIONS if name.lower() not in text.lower()]
        if missing:
            raise self._failure(f"the review lacks {', '.join(missing)}")
        proximate = text.partition("Proximate cause")[2].partition("###")[0]
        if FRAGMENTATION not in proximate:
            if BUSY_MACHINE not in proximate or FRAGMENTATION not in text:
                raise self._failure(f"the review names another cause: {proximate.strip()}")
            self._tell("review", "names first that this machine is short of cores", Tone.WARNING)
        self.review_path.write_text(text, encoding="utf-8")
        self.narrator.block(text)
        self._tell("review", f"written to {self.review_path}", Tone.HEADING)

    # Conditions: the fact, or None while it is not there.

    async def _serving(self) -> node.Metrics | None:
        metrics = await self._scrape()
        seen = len(metrics.named("gpuward_process_memory_reserved_bytes"))
        served = metrics.total("gpuward_service_requests_total")
        ready = seen >= len(self.world.replicas) and served > 0
        return metrics if ready and metrics.total("gpuward_driver_up") == 1 else None

    async def _fragmented(self) -> node.Metrics | None:
        metrics = await self._scrape()
        return metrics if metrics.has_finding(FRAGMENTATION) else None

    async def _service_incident(self) -> str | None:
        incidents = await self._centre.incidents()
        return next((one.id for one in incidents if one.kind == SERVICE_IMPACT), None)

    async def _pages(self) -> Incident | None:
        incident = await self._now()
        return incident if incident.severity in {"SEV1", "SEV2"} else None

    async def _has_cause(self) -> Incident | None:
        incident = await self._now()
        return incident if any(one.kind == FRAGMENTATION for one in incident.findings) else None

    async def _missed(self) -> bool:
        return bool((await self._now()).events("AcknowledgementMissed"))

    async def _acknowledged(self) -> bool:
        """Acknowledge what nobody has; an answer that did not come is asked for again."""
        incident = await self._now()
        if not incident.acknowledged_by:
            by = self.world.people.secondary
            await self._centre.acknowledge(self.incident_id, by, "looking at the allocator")
        return bool(incident.events("Acknowledged"))

    async def _mapped(self) -> bool:
        maps = (await self._now()).events("MemoryMapTaken")
        return any(entry.event["stranded_bytes"] for entry in maps)

    async def _mitigated(self) -> bool:
        return (await self._now()).state in {"mitigated", "resolved"}

    async def _resolved(self) -> bool:
        """Resolve what nobody has, likewise."""
        is_resolved = (await self._now()).state == "resolved"
        if not is_resolved:
            by = self.world.people.secondary
            await self._centre.resolve(self.incident_id, by, "rolling restart freed the memory")
        return is_resolved

    # How a step waits, tells and checks.

    async def _level(self, level: str, after_min: float, person: str) -> None:
        """Wait until ``level`` has fired and its page lies in the file, for ``person``."""
        incident = await self._now()
        due_s = incident.opened_at_s + after_min * MINUTE_S / self.speed
        within_s = max(0.0, due_s - self.clock.wall_s()) + SLACK_S

        async def delivered() -> list[dict[str, Any]] | None:
            if (await self._now()).step(level) is None:
                return None
            mine = (page for page in self.world.pages() if page["incident_id"] == self.incident_id)
            return [page for page in mine if page["level"] == level] or None

        pages = await self._until(delivered, within_s, f"the page of {level}")
        people = sorted({page["target"] for page in pages})
        if person not in people:
            raise self._failure(f"{level} paged {', '.join(people)}, not {person}")
        if not all(page["dedup_key"] for page in pages):
            raise self._failure(f"a page of {level} has no dedup key")

    async def _until(
        self, condition: Callable[[], Awaitable[T | None]], within_s: float, what: str
    ) -> T:
        deadline_s = self.clock.mono_s() + within_s
        while True:
            self.world.check()
            try:
                await self._tell_news()
                if found := await condition():
                    return found
                trouble = ""
            except Unreachable as error:
                # A part that somebody has just killed; it comes back or the time runs out.
                trouble = f" ({error})"
            if self.clock.mono_s() > deadline_s:
                raise self._failure(f"waited {within_s:.0f} s for {what}{trouble}")
            await self.clock.sleep_until(self.clock.mono_s() + LOOK_EVERY_S)

    async def _tell_news(self) -> None:
        if not self.incident_id:
            return
        for entry in (await self._now()).timeline[self._told :]:
            self._told += 1
            if line := line_of(entry):
                self._tell(*line)

    def _failure(self, what: str) -> StepFailed:
        return StepFailed(f"step {self._step}: {what}")

    def _tell(self, who: str, what: str, tone: Tone = Tone.PLAIN) -> None:
        self.narrator.tell(who, what, tone)

    @property
    def _centre(self) -> Centre:
        return self.world.centre

    async def _now(self) -> Incident:
        return await self._centre.incident(self.incident_id)

    async def _scrape(self) -> node.Metrics:
        return await node.scrape(self.world.agent_address)
