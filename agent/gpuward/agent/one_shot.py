"""Turn something that happened once, an XID or an out-of-memory error, into a finding to spool.

It has no life: it is raised and over in the same instant.  It travels apart from the open findings
because a report that lists what is open now would lose it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent import sxid_catalogue, xid_verdict
from gpuward.agent.fragmentation_cache import FRAGMENTATION
from gpuward.agent.fragmentation_oom import OOM, Attribution, verdict
from gpuward.agent.kinds import KINDS
from gpuward.agent.maintenance import marked
from gpuward.agent.model import Evidence, Finding, OpenFinding, Result
from gpuward.agent.oom_remedies import after_oom
from gpuward.agent.subject import subject_of

if TYPE_CHECKING:
    from gpuward.agent.model import Action, Event
    from gpuward.agent.window import Window

XID, SXID = "gpu.xid", "node.sxid"
UNITS = ("bytes", "seconds", "ratio", "hertz", "watts", "celsius")


def one_shot(event: Event, window: Window, finding_id: str) -> OpenFinding:
    """Return ``event`` as a finding that was seen once, at the event's time.

    Raises ``KeyError`` for a kind that is not in ``KINDS``: a bug in the sampler.
    """
    kind = KINDS[event.kind]
    result, help_, words = _verdict(event, window)
    finding = Finding(
        kind=event.kind,
        subject=subject_of(window, gpu=event.gpu, process=event.process, pid=event.pid),
        summary=words or kind.meaning,
        result=result,
        code=event.code,
        since_s=event.at_s,
        evidence=_evidence(event),
        action=help_,
    )
    if event.kind == OOM:
        finding = _with_verdict(finding, event, window)
    finding = marked(finding, kind.domain, window.driver.maintenance)
    return OpenFinding(finding_id, finding, event.at_s, event.at_s, event.at_s, count=1)


def _verdict(event: Event, window: Window) -> tuple[Result, Action | None, str]:
    """Return result, action and summary; the kind's own where ``None`` or empty."""
    if event.kind == XID:
        xid = xid_verdict.verdict(window, event)
        return xid.result, xid_verdict.action(event, xid), f"XID {event.code}: {xid.meaning}."
    if event.kind == SXID:
        result, help_, meaning = sxid_catalogue.judge(
            event.code, fatal=bool(event.values.get("fatal"))
        )
        return result, help_, f"SXid {event.code}: {meaning}."
    return Result.FAIL, None, " ".join(event.text.split())


def _with_verdict(finding: Finding, event: Event, window: Window) -> Finding:
    """Say why the memory was not found, in pieces, at the neighbours' or nowhere; what helps."""
    cause = verdict(event)
    if cause is None:
        return finding
    fact = Evidence("out_of_memory_cause", text=cause.value, source="tap", at_s=event.at_s)
    action, remedies = after_oom(event, cause, window, finding.subject)
    pieces = replace(finding, kind=FRAGMENTATION, code=0).dedup_key
    return replace(
        finding,
        evidence=(*finding.evidence, fact, *remedies),
        action=action,
        causes=(pieces,) if cause is Attribution.FRAGMENTATION else (),
    )


def _evidence(event: Event) -> tuple[Evidence, ...]:
    facts = [
        Evidence(name, value, _unit(name), at_s=event.at_s) for name, value in event.values.items()
    ]
    if event.text:
        facts.append(Evidence("event_text", text=event.text, at_s=event.at_s))
    return tuple(facts)


def _unit(name: str) -> str:
    """Return the base unit that a name ends in, as signals do: ``requested_bytes``."""
    suffix = name.rpartition("_")[2]
    return suffix if suffix in UNITS else "1"
