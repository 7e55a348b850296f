"""How loud a finding is where a person has said otherwise than its agent does."""

import pytest

from gpuward.coordinator import store_kinds
from gpuward.coordinator.intake import Intake
from gpuward.coordinator.kind_classes import Override, Verb, apply, nearest, next_class
from gpuward.coordinator.model import FindingClass, Result

STORE, TICKET, PAGE = FindingClass.STORE, FindingClass.TICKET, FindingClass.PAGE
KIND = "process.memory.fragmentation"


def override(verb, told, *, kind=KIND, reason="it costs us users", at_s=1.0):
    return Override(kind, verb, told, "ann", reason, at_s)


def classes(report):
    return [finding.default_class for finding in report.findings]


@pytest.mark.parametrize(
    ("verb", "told", "default", "expected"),
    [
        pytest.param(Verb.PROMOTE, PAGE, STORE, PAGE, id="an anomaly that pages"),
        pytest.param(Verb.PROMOTE, PAGE, TICKET, PAGE, id="a ticket that pages"),
        pytest.param(Verb.PROMOTE, TICKET, STORE, TICKET, id="evidence that is a ticket"),
        pytest.param(Verb.PROMOTE, TICKET, PAGE, PAGE, id="a promotion makes nothing quieter"),
        pytest.param(Verb.DEMOTE, STORE, PAGE, STORE, id="a page that is kept"),
        pytest.param(Verb.DEMOTE, TICKET, PAGE, TICKET, id="a page that waits"),
        pytest.param(Verb.DEMOTE, TICKET, STORE, STORE, id="a demotion makes nothing louder"),
    ],
)
def test_a_finding_is_as_loud_as_a_person_says(make, verb, told, default, expected):
    report = make.report(1, [make.finding(default_class=default)])

    assert [expected] == classes(apply(report, {KIND: override(verb, told)}))


def test_what_happened_once_is_changed_too(make):
    report = make.report(1, [], [(7, make.finding())])
    ((seq, finding),) = apply(report, {KIND: override(Verb.PROMOTE, PAGE)}).events

    assert (7, PAGE) == (seq, finding.default_class)


def test_it_says_who_and_why(make):
    report = make.report(1, [make.finding()])
    (finding,) = apply(report, {KIND: override(Verb.PROMOTE, PAGE)}).findings

    assert f"{KIND} is promoted to page by ann: it costs us users" == finding.class_note


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"kind": "gpu.xid"}, id="another kind"),
        pytest.param({"result": Result.OK}, id="nothing is at fault"),
        pytest.param({"default_class": PAGE}, id="as loud already"),
    ],
)
def test_it_is_left_alone(make, changes):
    report = make.report(1, [make.finding(**changes)])

    assert report == apply(report, {KIND: override(Verb.PROMOTE, PAGE)})


@pytest.mark.parametrize(
    ("of_cause", "expected"),
    [
        pytest.param({"default_class": PAGE}, STORE, id="its cause pages"),
        pytest.param({"default_class": TICKET}, PAGE, id="its cause is quieter"),
        pytest.param({"default_class": PAGE, "cleared_at_s": 5.0}, PAGE, id="its cause is over"),
        pytest.param({"default_class": PAGE, "dedup_key": "other"}, PAGE, id="no such cause"),
    ],
)
def test_one_trouble_is_told_once(make, of_cause, expected):
    """A promoted consequence stays silent while its cause is as loud."""
    cause = make.finding("cause", **{"kind": "gpu.lost", "dedup_key": "gpu", **of_cause})
    follows = make.finding("follows", default_class=STORE, cause_dedup_keys=("gpu",))

    report = apply(make.report(1, [cause, follows]), {KIND: override(Verb.PROMOTE, PAGE)})

    assert expected is report.findings[1].default_class


def test_planned_work_is_not_promoted(make):
    """What a maintenance explains stays evidence, however loud its kind was made."""
    planned = make.finding(
        "lost", default_class=STORE, cause_dedup_keys=("n1|node.maintenance|||",)
    )

    report = apply(make.report(1, [planned]), {KIND: override(Verb.PROMOTE, PAGE)})

    assert STORE is report.findings[0].default_class


@pytest.mark.parametrize(
    ("current", "verb", "expected"),
    [
        (STORE, Verb.PROMOTE, TICKET),
        (TICKET, Verb.PROMOTE, PAGE),
        (PAGE, Verb.PROMOTE, None),
        (PAGE, Verb.DEMOTE, TICKET),
        (TICKET, Verb.DEMOTE, STORE),
        (STORE, Verb.DEMOTE, None),
    ],
)
def test_one_step(current, verb, expected):
    assert expected is next_class(current, verb)


def test_nearest_names():
    known = ("gpu.xid", "gpu.lost", "process.memory.fragmentation")

    assert ("process.memory.fragmentation",) == nearest("memory.fragmentation", known)
    assert () == nearest("weather", known)


async def say(store, change):
    async with store.writing() as tx:
        await store_kinds.add(tx.connection, change)


async def test_the_newest_word_counts_and_all_are_kept(store):
    words = [
        override(Verb.PROMOTE, PAGE, at_s=1.0),
        override(Verb.DEMOTE, STORE, kind="gpu.xid", at_s=2.0),
        override(Verb.PROMOTE, TICKET, at_s=3.0),
        override(Verb.RESET, None, kind="gpu.xid", at_s=4.0),
    ]
    for word in words:
        await say(store, word)

    async with store.reading() as connection:
        assert {KIND: words[2]} == await store_kinds.load(connection)
        assert tuple(reversed(words)) == await store_kinds.load_history(connection)


async def session(intake, make):
    return await intake.open_session(
        "n1", make.now_s, boot_id="boot", agent_version="1", query_address=""
    )


async def seen(store):
    return [
        (i.severity.name, [entry.event for entry in (await store.get_incident(i.id)).timeline])
        for i in await store.list_incidents()
    ]


async def test_an_anomaly_that_was_promoted_pages(store, make):
    """The incident says who made it page; the kind alone would have opened none."""
    intake = Intake(store)
    await say(store, override(Verb.PROMOTE, PAGE))
    number = await session(intake, make)
    anomaly = make.finding(default_class=STORE)

    await intake.take(number, make.report(1, [anomaly]), make.now_s)

    ((severity, timeline),) = await seen(store)
    assert "SEV2" == severity
    noted = [event.text for event in timeline if type(event).__name__ == "Noted"]
    assert [f"{KIND} is promoted to page by ann: it costs us users"] == noted


async def test_what_is_open_gets_louder_with_its_next_report(store, make):
    """No agent has to be told, and no session to begin anew."""
    intake = Intake(store)
    number = await session(intake, make)
    anomaly = make.finding(default_class=STORE)
    await intake.take(number, make.report(1, [anomaly]), make.now_s)
    assert [] == await seen(store)

    await say(store, override(Verb.PROMOTE, TICKET))
    await intake.flush()
    await intake.take(number, make.report(2, [anomaly]), make.now_s + 10)

    assert ["SEV4"] == [severity for severity, _ in await seen(store)]


async def test_a_demoted_kind_opens_nothing(store, make):
    intake = Intake(store)
    await say(store, override(Verb.DEMOTE, STORE))
    number = await session(intake, make)

    await intake.take(number, make.report(1, [make.finding(default_class=PAGE)]), make.now_s)

    assert [] == await seen(store)
