"""What the pages say of an incident: pure functions from the coordinator's values to words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.coordinator.cause import VERDICT, causes_of
from gpuward.coordinator.correlate import SERVICE_IMPACT
from gpuward.coordinator.escalation import Condition, row_of, stops
from gpuward.coordinator.review.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gpuward.coordinator.escalation import PolicyStep
    from gpuward.coordinator.impact import Impact
    from gpuward.coordinator.model import Evidence, Finding, Incident, Page, Step
    from gpuward.coordinator.oncall import Roster

RELATION = {
    0: "the trouble itself",
    1: "in this service",
    2: "on the same GPU",
    3: "on a node that serves it",
}
# Evidence of a verdict that repeats its summary, or the diagnosis.
WORDS = frozenset({"verdict", "runner_up", "advice", "next_test"})


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A step that has not fired; ``stopped`` says what keeps it from paging, empty when nothing."""

    level: str
    due_at_s: float
    people: str
    stopped: str
    condition: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the impact, with what it counts."""

    label: str
    value: str
    is_bad: bool = False


def feeling(incident: Incident, now_s: float) -> str:
    """Return what users feel, one sentence; the title says it already where nothing changed."""
    if incident.resolved_at_s is not None:
        return "This is over."
    if incident.mitigated_at_s is not None:
        return "Users are no longer affected; somebody has to confirm that the cause is gone."
    if incident.customer_impact:
        who = f"Users of {incident.service}" if incident.service else "Users"
        since_s = incident.impact_since_s
        since = "" if since_s is None else f" for {duration(now_s - since_s)}"
        news = [reason for reason in incident.reasons[:1] if reason not in incident.title]
        return f"{': '.join([f'{who} have been affected{since}', *news])}."
    return "No effect on users is known yet."


def told_by(incident: Incident, incidents: Iterable[Incident]) -> bool:
    """Whether another of ``incidents``, about users, lists all that ``incident`` is about."""
    own = {finding.dedup_key for finding in incident.findings}
    return incident.kind != SERVICE_IMPACT and any(
        own and own <= {finding.dedup_key for finding in other.findings}
        for other in incidents
        if other.kind == SERVICE_IMPACT
    )


def cause_words(incident: Incident) -> str:
    """Return the cause in a few words for a list: as diagnosed, its kind, or why there is none."""
    if incident.diagnosis is not None and incident.diagnosis.is_determined:
        return incident.diagnosis.headline
    cause = next(iter(causes_of(incident)), None)
    return cause.kind if cause else "cause unknown"


def grounds(incident: Incident) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what the diagnosis rests on: a label, and its lines."""
    diagnosis = incident.diagnosis
    if diagnosis is None:
        return ()
    return (
        ("for it", diagnosis.supports),
        ("against it", diagnosis.contradicts),
        ("ruled out", diagnosis.ruled_out),
        ("suspects", diagnosis.suspects),
    )


def facts(finding: Finding) -> tuple[Evidence, ...]:
    """Return the evidence of a finding; of a verdict, what it says in words is its summary."""
    if finding.kind != VERDICT:
        return finding.evidence
    return tuple(fact for fact in finding.evidence if fact.name not in WORDS)


def upcoming(
    incident: Incident, steps: Iterable[Step], policy: Sequence[PolicyStep], roster: Roster
) -> tuple[Upcoming, ...]:
    """Return the steps that have not fired, in the order they are due."""
    waiting = [s for s in steps if s.fired_at_s is None and s.cancelled_at_s is None]
    return tuple(
        _upcoming(incident, step, policy, roster)
        for step in sorted(waiting, key=lambda step: step.due_at_s)
    )


def next_step(steps: Iterable[Upcoming]) -> Upcoming | None:
    """Return the first step that will page, if any will."""
    return next((step for step in steps if not step.stopped), None)


def _upcoming(
    incident: Incident, step: Step, policy: Sequence[PolicyStep], roster: Roster
) -> Upcoming:
    row = row_of(step, incident, policy)
    people = [
        person.name
        for role in (row.who if row else ())
        if (person := roster.holder(role, incident.rotation, incident.domain)) is not None
    ]
    conditional = row is not None and row.condition is Condition.CUSTOMER_IMPACT
    return Upcoming(
        level=step.level,
        due_at_s=step.due_at_s,
        people=", ".join(dict.fromkeys(people)) or "nobody on call",
        stopped=stops(incident, step.until),
        condition="if users are still affected" if conditional else "",
    )


def figures(
    incident: Incident, impact: Impact | None, now_s: float, *, window_s: float
) -> Iterator[Figure]:
    """Yield the numbers of the impact; ``impact`` is ``None`` when no traffic is known."""
    since_s = incident.impact_since_s
    if since_s is not None:
        until_s = incident.mitigated_at_s or incident.resolved_at_s or now_s
        hurt = incident.customer_impact is True
        label = "users affected for" if hurt else "users were affected for"
        yield Figure(label, duration(until_s - since_s), is_bad=hurt)
    if impact is None or not impact.instances:
        return
    window = duration(window_s)
    yield _share("failed", impact.failed, impact.requests, f"requests in {window}")
    served = impact.requests - impact.failed
    yield _share("over the objective", impact.slow, served, f"served in {window}")
    yield Figure("waiting in the queue", str(impact.waiting))
    ready = f"{impact.ready} of {impact.instances}"
    yield Figure("instances ready", ready, is_bad=impact.ready < impact.instances)


def _share(what: str, part: int, whole: int, unit: str) -> Figure:
    if not whole:
        return Figure(f"{what}: no {unit}", "–")  # noqa: RUF001 - a dash for no value
    share = f"{part / whole:.1%}".replace("%", " %")
    return Figure(f"{what}: {part} of {whole} {unit}", share, is_bad=part > 0)


def delivery(page: Page) -> str:
    """Return where a page is: delivered, waiting, given up and why."""
    if page.sent_at_s is not None:
        return "delivered" if page.attempts <= 1 else f"delivered at attempt {page.attempts}"
    if page.abandoned_at_s is not None:
        return f"not sent: {page.last_error or 'no longer needed'}"
    if page.attempts:
        return f"retrying after {page.attempts} attempts: {page.last_error}"
    return "sending"
