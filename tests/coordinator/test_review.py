"""The review draft: complete, blameless, and nothing in it that the timeline does not show."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.kinds import KINDS
from gpuward.coordinator import events as e
from gpuward.coordinator.cause import EFFECTS
from gpuward.coordinator.incident import fold
from gpuward.coordinator.model import (
    CauseDomain,
    LinkedFinding,
    Relation,
    Rotation,
    Severity,
)
from gpuward.coordinator.review import NotDue, draft, markdown
from gpuward.coordinator.review.actions import NO_ACTION, SIGNS
from gpuward.coordinator.review.model import Claim
from gpuward.coordinator.review.wording import describe, duration

# Tuesday 2026-11-24 00:00:00 UTC.
T0 = 1_795_478_400.0
NAMES = ("Ann Example", "Bo", "Cy.Lead")

OPENED = e.Opened(
    group_key="service|chat",
    kind="service.impact",
    title="chat: 20% of 600 requests failed",
    severity=Severity.SEV2,
    domain=CauseDomain.CAPACITY,
    rotation=Rotation.INFRASTRUCTURE,
    service="chat",
    reasons=("20% of 600 requests failed",),
    customer_impact=True,
    impact_since_s=T0 - 90,
)
FRAGMENTATION = LinkedFinding(
    "f1",
    "k1",
    "process.memory.fragmentation",
    Relation.SERVICE,
    CauseDomain.CAPACITY,
    "vllm/llama strands 11.8 GiB",
    0.9,
)
SATURATION = LinkedFinding(
    "f2",
    "k2",
    "gpu.memory.saturation",
    Relation.GPU,
    CauseDomain.CAPACITY,
    "GPU-7 is 99% full",
    1.0,
)

STORY = (
    (0, OPENED),
    (0, e.FindingLinked(SATURATION)),
    (0, e.FindingLinked(FRAGMENTATION)),
    (0, e.StepFired("L1", ("Ann Example",), ("console",))),
    (1, e.PageSent("L1", "Ann Example", "console", "key", 1)),
    (300, e.AcknowledgementMissed(T0 + 300)),
    (300, e.StepFired("L1-repeat", ("Ann Example",), ("console", "webhook"))),
    (301, e.PageFailed("L1-repeat", "Ann Example", "webhook", "HTTP 410")),
    (900, e.StepFired("L2", ("Bo",), ("console",))),
    (960, e.Acknowledged("Bo", "Ann Example sleeps")),
    (2400, e.Mitigated("gpuward", "no failed request for 10 min")),
    (3600, e.Resolved("Bo", "restarted the replica | with Ann Example <b>")),
)


def told(*story):
    """Return the incident and its timeline."""
    entries = [
        e.TimelineEntry(seq, T0 + after_s, event) for seq, (after_s, event) in enumerate(story, 1)
    ]
    return fold("01INCIDENT", entries), entries


def claims(review):
    """Return every claim of the review."""
    return [
        *review.summary,
        *review.proximate,
        *review.contributing,
        *review.detection,
        *review.resolution,
        *review.questions,
        *(item.because for item in review.actions),
    ]


def test_causes_are_apart():
    """Proximate is the closest finding, contributing is what else the timeline shows."""
    review = draft(*told(*STORY))

    assert [
        Claim("process.memory.fragmentation (90% certain): vllm/llama strands 11.8 GiB", (3,))
    ] == list(review.proximate)
    assert [
        Claim("gpu.memory.saturation: GPU-7 is 99% full", (2,)),
        Claim("A page was not acknowledged before its deadline.", (6,)),
        Claim("webhook refused a page: HTTP 410", (8,)),
    ] == list(review.contributing)


def map_taken(pid, stranded, *, on_request=False):
    gib = 1 << 30
    sizes = (60 * gib, 40 * gib, stranded * gib, 3 * gib, 2 * gib)
    return e.MemoryMapTaken("vllm/llama", pid, "GPU-7", T0, *sizes, on_request=on_request)


def test_the_first_map_of_each_process_is_evidence():
    """A later one, which somebody asked for, shows how it became, not why it came about."""
    maps = (
        (10, map_taken(1, 12)),
        (11, map_taken(2, 9)),
        (500, map_taken(1, 0, on_request=True)),
    )
    _, first, second = draft(*told(*STORY[:3], *maps)).proximate

    assert first == Claim(
        "Evidence: the memory map of vllm/llama (pid 1), taken at 2026-11-24 00:00:00 UTC, shows"
        " 12.0 GiB stranded of 60.0 GiB reserved, in free blocks of at most 2.00 GiB.",
        (4,),
    )
    assert (5,) == second.seqs


def test_a_map_beside_another_cause_contributes():
    """And that of a process which holds nothing says nothing."""
    empty = e.MemoryMapTaken("vllm/llama", 2, "GPU-7", T0, 0, 0, 0, 0, 0)
    causes = ((0, OPENED), (0, e.FindingLinked(SATURATION)))
    review = draft(*told(*causes, (9, map_taken(1, 12)), (9, empty)))

    assert 1 == len(review.proximate)
    assert [(3,)] == [claim.seqs for claim in review.contributing]


def test_the_words_for_a_map():
    assert (
        "Memory map of vllm/llama (pid 1) on GPU-7 taken again, as somebody asked: 60.0 GiB"
        " reserved, 40.0 GiB active, 12.0 GiB stranded, 3.00 GiB releasable; the largest free"
        " block has 2.00 GiB."
    ) == describe(map_taken(1, 12, on_request=True), lambda name: name)


def test_durations():
    """Detection, mitigation and resolution count from the first harm, not from the page."""
    review = draft(*told(*STORY))

    assert {"detect": 90, "acknowledge": 960, "mitigate": 2490, "resolve": 3690} == {
        span.name: span.seconds for span in review.spans
    }


def test_detection_says_whether_it_could_have_been_earlier():
    """90 s of harm before the incident is worth saying, and worth an action."""
    review = draft(*told(*STORY))

    assert (
        review.detection[1].text
        == "It could have been earlier: users were hurt for 1 min 30 s before."
    )
    assert "detect" in {item.purpose for item in review.actions}


def test_a_finding_with_an_incident_of_its_own_was_known_before():
    """Somebody had a ticket about the cause already."""
    review = draft(*told((0, OPENED), (0, e.FindingLinked(FRAGMENTATION, incident_id="01TICKET"))))

    assert any(
        "already the subject of incident 01TICKET" in claim.text for claim in review.detection
    )


def test_actions():
    """Each has a role as owner and a working day as deadline; nearest trouble first to end."""
    review = draft(*told(*STORY))

    assert {"lead of the infrastructure rotation"} == {item.owner for item in review.actions}
    assert {
        "prevent": {date(2026, 12, 8)},
        "detect": {date(2026, 12, 8)},
        "mitigate": {date(2026, 12, 8), date(2026, 11, 26)},
    } == {
        purpose: {item.due for item in review.actions if item.purpose == purpose}
        for purpose in ("prevent", "detect", "mitigate")
    }


def test_no_deadline_on_a_weekend():
    """Two days after a Thursday is Monday."""
    review = draft(*told((0, OPENED), (2 * 86400, e.AcknowledgementMissed(T0 + 2 * 86400))))

    assert date(2026, 11, 30) in {item.due for item in review.actions}


def test_people_are_roles():
    """Nobody is named, not even inside somebody's note."""
    text = markdown(draft(*told(*STORY)))

    assert not [name for name in NAMES if name in text]
    assert "Acknowledged by the secondary on call. “the primary on call sleeps”" in text
    assert "Mitigated by gpuward" in text


def test_every_line_traces_to_the_timeline():
    """Each statement of the document carries a reference to an entry that exists."""
    text = markdown(draft(*told(*STORY)))

    bullets = [line for line in text.splitlines() if line.startswith("- ")]
    assert bullets
    assert all(re.search(r"(\[t\d+\] ?)+$", line) for line in bullets)
    referred = {int(seq) for seq in re.findall(r"\[t(\d+)\]", text.partition("## Summary")[2])}
    assert referred <= set(range(1, len(STORY) + 1))


def test_markup_from_outside_is_text():
    """A note cannot break the table or bring in HTML."""
    text = markdown(draft(*told(*STORY)))

    assert r"restarted the replica \| with the primary on call \<b\>" in text


def test_still_open():
    """A draft can be read during the incident; it says what is missing."""
    review = draft(*told(*STORY[:5]))

    assert review.resolution[-1].text == "It was not resolved at the last entry of the timeline."
    assert {None} == {span.seconds for span in review.spans if span.name != "detect"}


def test_no_cause_known():
    """Then finding it is the first action."""
    review = draft(*told((0, OPENED)))

    assert review.proximate[0].text == "Unknown: no finding was linked to this incident."
    assert review.actions[0].action.startswith("Find the cause")


def linked(number, kind):
    finding = LinkedFinding(
        f"f{number}", f"k{number}", kind, Relation.SERVICE, CauseDomain.CAPACITY, kind
    )
    return (0, e.FindingLinked(finding))


FRAGMENTED, LOW, RETRIES, BLIND = (
    f"process.memory.{name}" for name in ("fragmentation", "headroom_low", "alloc_retries", "blind")
)

ERRORS, WHY = "service.errors", "service.latency.cause"


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        pytest.param([FRAGMENTED], [FRAGMENTED], id="a cause"),
        pytest.param([LOW, FRAGMENTED, RETRIES], [FRAGMENTED], id="signs beside their cause"),
        pytest.param([LOW, RETRIES], [LOW, RETRIES], id="signs alone are all there is"),
        pytest.param([ERRORS, FRAGMENTED, WHY], [FRAGMENTED], id="what is felt, and who says why"),
        pytest.param([ERRORS], [ERRORS], id="what is felt is all there is"),
        pytest.param([LOW, BLIND], [LOW], id="nothing can be done about what has no action"),
        pytest.param([FRAGMENTED, FRAGMENTED], [FRAGMENTED], id="each kind once"),
    ],
)
def test_what_is_to_be_prevented(kinds, expected):
    """An item for what went wrong, none for how it showed."""
    review = draft(*told((0, OPENED), *(linked(n, kind) for n, kind in enumerate(kinds))))

    prevented = [item.because.text for item in review.actions if item.purpose == "prevent"]
    assert [f"{kind} was found" for kind in expected] == prevented


def test_a_blind_process_is_no_cause():
    review = draft(*told((0, OPENED), linked(1, BLIND)))

    assert review.actions[0].action.startswith("Find the cause")


def test_signs_are_what_agents_only_store_or_users_feel():
    """Names are spelled as agents spell them; what opens an incident is how users feel it."""
    quiet = (SIGNS - EFFECTS) | NO_ACTION

    assert EFFECTS <= KINDS.keys()
    assert {"store"} == {KINDS[kind].default_class.value for kind in quiet}


@pytest.mark.parametrize(
    ("severity", "is_due"),
    [(Severity.SEV1, True), (Severity.SEV2, True), (Severity.SEV3, False), (Severity.SEV4, False)],
)
def test_due_by_peak_severity(severity, is_due):
    """The peak counts: an incident that was lowered later still gets its review."""
    raised = e.SeverityChanged(Severity.SEV4, severity, ("worse",))
    lowered = e.SeverityChanged(severity, Severity.SEV4, ("better",))
    minor = e.Opened("g", "k", "t", Severity.SEV4, CauseDomain.GPU, Rotation.INFRASTRUCTURE)

    found = draft(*told((0, minor), (1, raised), (2, lowered)))

    assert is_due == (not isinstance(found, NotDue))


def test_a_claim_without_an_entry_cannot_be_made():
    """The type itself holds the promise."""
    with pytest.raises(ValueError, match="no timeline entry"):
        Claim("It was the network.", ())


NAME = st.sampled_from([*NAMES, "gpuward", "Dee", "x"])
# No letters: a text cannot happen to be a name.
TEXT = st.text("0123 .|<>[]_*\\#\n\t\u202e", max_size=30)
AT = st.floats(T0, T0 + 1e6)
FINDING = st.builds(
    LinkedFinding,
    st.sampled_from(["f1", "f2", "f3"]),
    TEXT,
    st.sampled_from(["gpu.xid", "driver.unresponsive", "node.overdue"]),
    st.sampled_from(Relation),
    st.sampled_from(CauseDomain),
    TEXT,
    st.floats(0, 1),
)
LEVEL = st.sampled_from(["L1", "L1-repeat", "L2", "L3", "executive", "handover-ml", "L9"])
CHANNEL = st.sampled_from(["console", "webhook"])
EVENT = st.one_of(
    st.builds(e.FindingLinked, FINDING, st.sampled_from(["", "01OTHER"])),
    st.builds(e.FindingCleared, TEXT, TEXT, TEXT),
    st.builds(
        e.SeverityChanged, st.sampled_from(Severity), st.sampled_from(Severity), st.tuples(TEXT)
    ),
    st.builds(
        e.HandedOver,
        st.sampled_from(CauseDomain),
        st.sampled_from(Rotation),
        st.sampled_from(Rotation),
        TEXT,
    ),
    st.builds(e.Acknowledged, NAME, TEXT),
    st.builds(e.Unacknowledged, NAME, TEXT),
    st.builds(e.ImpactBegan, AT, st.tuples(TEXT)),
    st.builds(e.Mitigated, NAME, TEXT),
    st.builds(e.Resolved, NAME, TEXT),
    st.builds(e.Noted, NAME, TEXT),
    st.builds(e.AcknowledgementMissed, AT),
    st.builds(e.StepFired, LEVEL, st.tuples(NAME), st.tuples(CHANNEL)),
    st.builds(e.NobodyOnCall, LEVEL, st.tuples(st.just("primary")), LEVEL),
    st.builds(e.PageSent, LEVEL, NAME, CHANNEL, TEXT, st.integers(1, 9)),
    st.builds(e.PageFailed, LEVEL, NAME, CHANNEL, TEXT),
    st.builds(e.PageFellBack, LEVEL, NAME, CHANNEL, CHANNEL, TEXT),
    st.builds(e.PageSuppressed, LEVEL, NAME, CHANNEL, TEXT),
    st.builds(
        e.MemoryMapTaken,
        TEXT,
        st.integers(0, 2**32 - 1),
        TEXT,
        AT,
        *[st.integers(0, 2**48)] * 5,
        st.booleans(),
        st.booleans(),
    ),
)


@given(st.lists(st.tuples(st.floats(0, 1e6), EVENT), max_size=12))
def test_any_timeline(story):
    """Whatever happened: every claim rests on entries that exist, every action is owned and due."""
    story.sort(key=lambda moment: moment[0])
    incident, entries = told((0, OPENED), *story)

    review = draft(incident, entries)

    known = {entry.seq for entry in entries}
    assert all(set(claim.seqs) <= known for claim in claims(review))
    assert all(set(span.seqs) <= known for span in review.spans)
    assert [moment.seq for moment in review.timeline] == [entry.seq for entry in entries]
    assert review.actions
    assert all(item.owner and item.due for item in review.actions)
    assert markdown(review).endswith("\n")


@given(st.lists(EVENT, max_size=8))
def test_nobody_is_named(story):
    """No name of anybody who was paged or acted is in the document."""
    text = markdown(draft(*told((0, OPENED), *((1, event) for event in story))))

    assert not re.search(r"(?<!\w)(Ann Example|Bo|Cy\.Lead|Dee)(?!\w)", text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (61, "1 min 01 s"),
        (3600, "1 h"),
        (3900, "1 h 05 min"),
        (86400, "1 d"),
        (90000, "1 d 01 h"),
    ],
)
def test_duration(seconds, words):
    """Two units at most, and none that is zero."""
    assert duration(seconds) == words
