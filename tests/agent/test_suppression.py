"""One trouble is told once: which findings follow from which, and that none of them vanishes."""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.kinds import KINDS
from gpuward.agent.model import Evidence, Finding, FindingClass, OpenFinding, Result, Subject
from gpuward.agent.suppression import RULES, explain
from gpuward.agent.wire import finding_message
from gpuward.v1 import finding_pb2

LOUDNESS = [FindingClass.STORE, FindingClass.TICKET, FindingClass.PAGE]


def finding(kind, result=Result.FAIL, gpu="GPU-1", code=0, evidence=()):
    return Finding(kind, Subject(gpu=gpu), "words", result=result, code=code, evidence=evidence)


def of_service(kind, result=Result.WARN, service="chat"):
    return Finding(kind, Subject(service=service), "words", result=result)


def missing(present, expected):
    fact = Evidence("node_gpus_present", float(present), threshold=float(expected))
    return finding("gpu.missing", gpu="", evidence=(fact,))


def keyed(*findings):
    return {each.dedup_key: each for each in findings}


def loudness(each):
    kind = KINDS[each.kind]
    if each.result is Result.OK:
        return 0
    if each.result is Result.FAIL and kind.page_when_failed:
        return 2
    return LOUDNESS.index(kind.default_class)


LOST = finding("gpu.lost", code=15)
HUNG = finding("driver.unresponsive", gpu="")
STALLED = finding("driver.unresponsive", Result.WARN, gpu="")


@pytest.mark.parametrize(
    ("cause", "effect", "told"),
    [
        pytest.param(LOST, finding("gpu.nvlink.degraded"), True, id="lost GPU, its links"),
        pytest.param(LOST, finding("gpu.pcie.degraded"), True, id="lost GPU, its bus"),
        pytest.param(LOST, finding("gpu.ecc.uncorrected"), True, id="lost GPU, its memory"),
        pytest.param(LOST, finding("gpu.nvlink.degraded", gpu="GPU-2"), None, id="not another's"),
        pytest.param(LOST, missing(7, 8), True, id="the one GPU that is missing is lost by name"),
        pytest.param(LOST, missing(6, 8), None, id="another one is missing too"),
        pytest.param(finding("gpu.xid", code=79), LOST, True, id="fell off the bus"),
        pytest.param(finding("gpu.xid", code=13), LOST, None, id="a program's error"),
        pytest.param(
            finding("gpu.memory.unrepairable"),
            finding("gpu.memory.remap_failed"),
            True,
            id="beyond repair, its rows",
        ),
        pytest.param(HUNG, missing(0, 8), True, id="hung driver, nothing is counted"),
        pytest.param(STALLED, missing(0, 8), False, id="a ticket does not swallow a page"),
        pytest.param(
            STALLED, finding("gpu.stalled", Result.WARN), True, id="but another ticket it does"
        ),
        pytest.param(
            finding("gpu.xid", code=119, gpu="GPU-3"), HUNG, True, id="firmware, then the driver"
        ),
        pytest.param(
            finding("gpu.power.brake"),
            finding("gpu.clock.slow_under_load", Result.WARN),
            True,
            id="brake, then clocks",
        ),
        pytest.param(
            finding("gpu.thermal.slowdown"),
            finding("gpu.clock.slow_under_load", Result.WARN),
            True,
            id="heat, then clocks",
        ),
        pytest.param(
            finding("gpu.thermal.slowdown"),
            finding("service.latency.inter_token", Result.WARN),
            True,
            id="heat, then tokens",
        ),
        pytest.param(
            of_service("service.outage", Result.FAIL),
            of_service("service.endpoint.failing"),
            True,
            id="an outage, the endpoint that shows it",
        ),
        pytest.param(
            of_service("service.outage", Result.FAIL),
            of_service("service.errors", service="search"),
            None,
            id="not another service's errors",
        ),
        pytest.param(
            finding("gpu.power.limit_lowered", Result.OK),
            finding("gpu.clock.slow_under_load", Result.WARN),
            False,
            id="a lowered limit is only linked",
        ),
        pytest.param(
            finding("gpu.xid", Result.OK, code=63),
            finding("gpu.memory.remap_pending", Result.WARN),
            False,
            id="a remapped row is only linked: nobody else says that a reset is due",
        ),
        pytest.param(
            finding("gpu.xid", code=48),
            finding("gpu.ecc.uncorrected"),
            True,
            id="double-bit error, then its count",
        ),
        pytest.param(HUNG, finding("gpu.xid", code=119), None, id="a cause is no effect"),
    ],
)
def test_a_consequence_names_its_cause(cause, effect, told):
    """``told``: whether the effect falls silent; ``None``: the two are strangers."""
    found = explain(keyed(cause, effect)).get(effect.dedup_key)

    assert (told is None) == (found is None)
    if found is not None:
        assert (cause.dedup_key,) == found.causes
        assert told == found.is_told


def test_each_rule_names_kinds_that_there_are():
    """A misspelt name would silence nothing, and nobody would notice."""
    named = {kind for rule in RULES for kind in (rule.cause, *rule.effects)}

    assert [] == sorted(named - KINDS.keys())


def test_nothing_explains_itself_on_a_detour():
    """In a circle two findings could silence one another, and nobody would hear of either."""
    nodes = {}
    for rule in RULES:
        for code in rule.codes or {0}:
            for effect in rule.effects:
                nodes.setdefault((effect, 0), set()).add((rule.cause, code))

    assert list(TopologicalSorter(nodes).static_order())


KIND_NAMES = sorted({kind for rule in RULES for kind in (rule.cause, *rule.effects)})
SOME = st.lists(
    st.builds(
        lambda kind, result, gpu, code: finding(
            kind, result, gpu, code if kind == "gpu.xid" else 0
        ),
        st.sampled_from(KIND_NAMES),
        st.sampled_from([Result.OK, Result.WARN, Result.FAIL]),
        st.sampled_from(["GPU-1", "GPU-2", ""]),
        st.sampled_from([13, 48, 63, 64, 74, 79, 119]),
    ),
    max_size=12,
)


@given(SOME)
def test_what_is_silent_follows_from_something_as_loud_that_is_not(some):
    """However many troubles there are: somebody is told, and as loudly as the worst deserves."""
    known = keyed(*some)
    explained = explain(known)

    for key, why in explained.items():
        assert set(why.causes) <= known.keys() - {key}
        seen, roots = {key}, [key]
        while roots:
            at = roots.pop()
            if at not in explained or not explained[at].is_told:
                break
            assert any(loudness(known[c]) >= loudness(known[at]) for c in explained[at].causes)
            new = [
                c
                for c in explained[at].causes
                if c not in seen and loudness(known[c]) >= loudness(known[key])
            ]
            seen.update(new)
            roots += new
        else:
            pytest.fail(f"{key} is silent, and so is all that explains it")


@given(SOME, st.data())
def test_more_trouble_never_hides_trouble(some, data):
    """The loudest thing that is told is no quieter with another finding than without it."""
    known = keyed(*some)
    fewer = dict(known)
    if fewer:
        fewer.pop(data.draw(st.sampled_from(sorted(fewer))))

    def loudest(findings):
        silent = {key for key, why in explain(findings).items() if why.is_told}
        return max((loudness(f) for key, f in findings.items() if key not in silent), default=-1)

    assert loudest(known) >= loudest(fewer)


def play(ticks):
    """Return the state and the changes after ticks, each the findings that are bad then."""
    state, changes = State("i"), []
    for second, bad in enumerate(ticks):
        state, changed = fold(state, [Verdict("detector.x", tuple(bad))], float(second))
        changes += [(second, change, opened.finding.kind) for change, opened in changed]
    return state, changes


BRAKE, SLOW = finding("gpu.power.brake"), finding("gpu.clock.slow_under_load", Result.WARN)


@given(st.lists(st.lists(st.sampled_from([LOST, BRAKE, SLOW, HUNG]), unique=True), max_size=150))
def test_no_finding_vanishes(ticks):
    """What is open with the graph is what is open without it: each kind on its own."""
    state, _ = play(ticks)
    alone = {
        each.dedup_key
        for one in (LOST, BRAKE, SLOW, HUNG)
        for each in (
            f.finding
            for f in play([[f for f in bad if f is one] for bad in ticks])[0].open_findings
        )
    }

    assert alone == {opened.finding.dedup_key for opened in state.open_findings}


def test_it_is_told_again_once_its_cause_is_gone():
    """Slow under the brake for two minutes, and still slow when the brake has been let go."""
    both, alone = [[BRAKE, SLOW]] * 120, [[SLOW]] * 61
    state, changes = play(both)
    silent = next(f for f in state.open_findings if f.finding.kind == SLOW.kind)
    state, changes = play(both + alone)
    (told,) = state.open_findings

    assert silent.suppressed
    assert (BRAKE.dedup_key,) == silent.explained_by
    assert not told.suppressed
    assert () == told.explained_by
    assert [
        (0, Change.RAISED, BRAKE.kind),
        (60, Change.RAISED, SLOW.kind),
        (180, Change.UPDATED, SLOW.kind),
        (180, Change.CLEARED, BRAKE.kind),
    ] == changes


def test_a_consequence_that_is_over_is_told_to_nobody():
    """Both end at once, the cause clears a minute earlier: that makes no news of the other."""
    _, changes = play([[BRAKE, SLOW]] * 120 + [[]] * 122)

    assert [
        (0, Change.RAISED, BRAKE.kind),
        (60, Change.RAISED, SLOW.kind),
        (180, Change.CLEARED, BRAKE.kind),
        (240, Change.CLEARED, SLOW.kind),
    ] == changes


def test_it_is_stored_for_the_coordinator_with_its_causes():
    opened = OpenFinding("i-1", SLOW, 0.0, 0.0, 0.0, 1, (BRAKE.dedup_key,), suppressed=True)
    message = finding_message(
        opened, node="n1", wall_offset_s=0.0, state=finding_pb2.FINDING_STATE_RAISED
    )

    assert message.default_class == finding_pb2.FINDING_CLASS_STORE
    assert ["n1|gpu.power.brake||GPU-1||"] == list(message.cause_dedup_keys)
