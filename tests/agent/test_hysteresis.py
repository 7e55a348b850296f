"""The life of a finding: when it raises, when it clears, and what proves nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.hysteresis import Change, State, Verdict, fold
from gpuward.agent.model import Finding, Outcome, Result, Subject

# Of this kind: raised after 5 s, cleared after 30 s.
KIND = "gpu.memory.saturation"
RAISE_AFTER_S = 5
CLEAR_AFTER_S = 30

# What one tick says of the condition: its outcome, nothing, or the detector failed.
BAD, DOUBTFUL, UNKNOWN, GONE, FAILED = "B", "D", "U", ".", "!"
OUTCOMES = {BAD: Outcome.BAD, DOUBTFUL: Outcome.DOUBTFUL, UNKNOWN: Outcome.UNKNOWN}


def finding(outcome=Outcome.BAD, gpu="GPU-1", **fields):
    return Finding(KIND, Subject(gpu=gpu), "full", outcome=outcome, **fields)


def play(script, state=None, start_s=100):
    """Return (second, change) for each change of a script with one letter a second."""
    state = state or State("i")
    changes = []
    for second, letter in enumerate(script):
        said = (finding(OUTCOMES[letter]),) if letter in OUTCOMES else ()
        verdict = Verdict("detector.x", None if letter == FAILED else said)
        state, changed = fold(state, [verdict], float(start_s + second))
        changes += [(second, change) for change, _ in changed]
    return changes, state


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("BBBBB", [], id="4 s is not long enough"),
        pytest.param("BBBBBB", [(5, Change.RAISED)], id="5 s is"),
        pytest.param("BBBBBBBBB", [(5, Change.RAISED)], id="raised once"),
        pytest.param("BBB.BBBBB", [], id="a gap begins anew"),
        pytest.param("BBBDBBBBB", [], id="a doubt begins anew"),
        pytest.param("BBBUBBB", [(6, Change.RAISED)], id="the unseen does not count, nor undo"),
        pytest.param("BBB!BBB", [(6, Change.RAISED)], id="nor does a failed detector"),
        pytest.param("BUUUUUUUUB", [], id="unseen time is not time"),
        pytest.param("D" * 60, [], id="doubt never raises"),
        pytest.param("U" * 60, [], id="unknown never raises"),
        pytest.param("BBBBBB" + "." * 30, [(5, Change.RAISED)], id="gone for 29 s"),
        pytest.param(
            "BBBBBB" + "." * 31, [(5, Change.RAISED), (36, Change.CLEARED)], id="gone for 30 s"
        ),
        pytest.param("BBBBBB" + "D" * 99, [(5, Change.RAISED)], id="doubt holds open"),
        pytest.param("BBBBBB" + "U" * 99, [(5, Change.RAISED)], id="unknown never clears"),
        pytest.param("BBBBBB" + "!" * 99, [(5, Change.RAISED)], id="a failed detector neither"),
        pytest.param(
            "BBBBBB" + "." * 29 + "U" + "." * 30, [(5, Change.RAISED)], id="must be seen to be gone"
        ),
        pytest.param(
            "BBBBBB" + "." * 20 + "B" + "." * 30, [(5, Change.RAISED)], id="back in time: the same"
        ),
        pytest.param(
            "BBBBBB" + "." * 31 + "BBBBBB",
            [(5, Change.RAISED), (36, Change.CLEARED), (42, Change.RAISED)],
            id="back later: a new one",
        ),
    ],
)
def test_life(script, expected):
    assert play(script)[0] == expected


letters = st.text(alphabet=BAD + DOUBTFUL + UNKNOWN + GONE + FAILED, max_size=120)


@given(letters)
def test_nothing_raises_before_it_has_lasted(script):
    """In the seconds before a raise the condition was bad for long enough, and never not."""
    for second, change in play(script)[0]:
        if change is Change.RAISED:
            run = script[: second + 1]
            bad = len(run) - len(run.rstrip(BAD + UNKNOWN + FAILED))
            assert run[-bad:].count(BAD) >= RAISE_AFTER_S + 1


@given(letters)
def test_nothing_clears_before_it_was_seen_gone(script):
    for second, change in play(script)[0]:
        if change is Change.CLEARED:
            assert script[: second + 1].endswith(GONE * (CLEAR_AFTER_S + 1))


@given(letters)
def test_raise_and_clear_alternate(script):
    """A clear is explicit and belongs to one raise; what is open is what was raised last."""
    changes, state = play(script)
    kinds = [change for _, change in changes]

    assert kinds == ([Change.RAISED, Change.CLEARED] * len(kinds))[: len(kinds)]
    assert len(state.open_findings) == len(kinds) % 2


@given(letters)
def test_more_trouble_never_hides_trouble(script):
    """A second GPU in trouble changes nothing for the first."""
    state, alone = State("i"), play(script)[0]
    seen = []
    for second, letter in enumerate(script):
        said = (finding(OUTCOMES[letter]),) if letter in OUTCOMES else ()
        other = Verdict("detector.y", (finding(gpu="GPU-2"),))
        verdict = Verdict("detector.x", None if letter == FAILED else said)
        state, changed = fold(state, [verdict, other], float(100 + second))
        seen += [(second, c) for c, opened in changed if opened.finding.subject.gpu == "GPU-1"]

    assert seen == alone


@given(st.lists(st.tuples(st.sampled_from("12"), st.sampled_from("BDU")), max_size=6))
def test_one_key_is_open_once_and_the_order_does_not_matter(said):
    """Of several findings with one key the worst counts, whichever came first."""
    findings = [finding(OUTCOMES[letter], gpu=f"GPU-{gpu}") for gpu, letter in said]
    folds = []
    for order in (findings, findings[::-1]):
        state = State("i")
        for second in range(8):
            state, _ = fold(state, [Verdict("detector.x", tuple(order))], 100.0 + second)
        folds.append([opened.finding.dedup_key for opened in state.open_findings])

    assert folds[0] == folds[1]
    assert len(set(folds[0])) == len(folds[0])


def test_a_new_raise_has_a_new_id():
    _, state = play("BBBBBB")
    first = state.open_findings[0].finding_id
    _, state = play("." * 31 + "BBBBBB", state, start_s=106)

    assert (first, state.open_findings[0].finding_id) == ("i-1", "i-2")


@pytest.mark.parametrize(
    ("since_s", "expected_s"),
    [
        pytest.param(None, 100.0, id="the first tick that saw it"),
        pytest.param(40.0, 40.0, id="the detector knows better"),
        pytest.param(999.0, 100.0, id="never later"),
    ],
)
def test_since(since_s, expected_s):
    state = State("i")
    for second in range(100, 110):
        verdict = Verdict("detector.x", (finding(since_s=since_s),))
        state, _ = fold(state, [verdict], float(second))

    assert state.open_findings[0].since_s == expected_s


def test_an_open_finding_counts_and_keeps_its_last_evidence():
    """While in doubt it shows what was last seen for certain."""
    state = State("i")
    for second, summary in enumerate(["1", "2", "3", "4", "5", "6", "7"]):
        seen = Finding(KIND, Subject(gpu="GPU-1"), summary)
        state, _ = fold(state, [Verdict("detector.x", (seen,))], 100.0 + second)
    doubt = Finding(KIND, Subject(gpu="GPU-1"), "?", outcome=Outcome.DOUBTFUL)
    state, _ = fold(state, [Verdict("detector.x", (doubt,))], 107.0)

    opened = state.open_findings[0]
    assert (opened.finding.summary, opened.count) == ("7", 2)
    assert (opened.raised_s, opened.last_seen_s) == (105.0, 106.0)


def test_a_change_of_result_is_told():
    """From ticket to page is news."""
    state, told = State("i"), []
    for second in range(9):
        result = Result.WARN if second < 7 else Result.FAIL
        verdict = Verdict("detector.x", (finding(result=result),))
        state, changed = fold(state, [verdict], 100.0 + second)
        told += [(second, change) for change, _ in changed]

    assert told == [(5, Change.RAISED), (7, Change.UPDATED)]


@pytest.mark.parametrize(
    ("script", "failed_at"),
    [
        pytest.param("BBBBBBBBBB", None, id="9 s of 10"),
        pytest.param("BBBBBBBBBBB", 10, id="10 s"),
        pytest.param("BBBBBB" + "U" * 60 + "BBBB", None, id="what nobody saw does not age it"),
        pytest.param("BBBBBB" + "U" * 60 + "BBBBB", 70, id="and what is seen after that does"),
        pytest.param("BBBBBB" + "." * 31 + "BBBBBB", None, id="a new one begins anew"),
    ],
)
def test_a_warning_that_lasts_becomes_a_failure(script, failed_at):
    """The tick before its time is a warning still; the change is told once."""
    state, failed = State("i"), []
    for second, letter in enumerate(script):
        said = finding(OUTCOMES.get(letter, Outcome.BAD), result=Result.WARN, fails_after_s=10.0)
        verdict = Verdict("detector.x", (said,) if letter in OUTCOMES else ())
        state, changed = fold(state, [verdict], 100.0 + second)
        failed += [second for change, it in changed if it.finding.result is Result.FAIL]

    assert failed == ([] if failed_at is None else [failed_at])


def test_a_warning_without_such_a_time_stays_one():
    state = State("i")
    for second in range(0, 86_400, 60):
        verdict = Verdict("detector.x", (finding(result=Result.WARN),))
        state, _ = fold(state, [verdict], 100.0 + second)

    assert [it.finding.result for it in state.open_findings] == [Result.WARN]


@pytest.mark.parametrize("script", ["BBBBBB", "BBB", "BBBBBB....", "BBBBBBUU"])
def test_what_a_resting_detector_said_stands(script):
    """Not asked, it has said neither that it is there nor that it is gone, for however long."""
    _, before = play(script)

    after, changed = fold(before, [], 10_000.0, resting=frozenset({"detector.x"}))

    assert before.conditions == after.conditions
    assert () == changed


def test_another_detector_rests_alone():
    """Who was asked and said nothing has said that it is gone."""
    _, before = play("BBBBBB")

    for second in (200.0, 230.0):
        before, _ = fold(before, [Verdict("detector.x", ())], second, resting=frozenset({"other"}))

    assert () == before.open_findings
