"""Golden tokens: learnt, compared, and believed only when they lastingly differ."""

from __future__ import annotations

import json
import random

import pytest
from structlog.testing import capture_logs

from gpuward.agent.samplers.endpoint_canary import Canaries, agreement

GOOD = ("52", "94", "26", "71", "38", "65", "49", "12")
BUILD = ("completions", "m", "v1")


@pytest.fixture
def canaries(tmp_path):
    return Canaries(tmp_path / "canary.json")


def note(canaries, words=GOOD, *, endpoint="a:1", build=BUILD, times=1):
    found = None
    for _ in range(times):
        found = canaries.note("chat", endpoint, build, words)
    return found


@pytest.mark.parametrize(
    ("golden", "answer", "expected"),
    [
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4], 1.0, id="all"),
        pytest.param([1, 2, 3, 4], [1, 2, 9, 4], 0.5, id="what follows a difference is chance"),
        pytest.param([1, 2, 3, 4], [1, 2], 0.5, id="shorter"),
        pytest.param([1, 2], [1, 2, 3], 1.0, id="longer"),
        pytest.param([1, 2], [9, 2], 0.0, id="none"),
        pytest.param([], [], 1.0, id="nothing, as before"),
        pytest.param([], [1], 0.0, id="nothing before"),
    ],
)
def test_agreement(golden, answer, expected):
    assert expected == agreement(golden, answer)


def test_five_answers_are_learnt_from(canaries):
    assert note(canaries, times=5) is None
    found = note(canaries)

    assert (found.ratio, found.usual_ratio, found.evidence_ratio) == (1.0, 1.0, 0.0)


def test_the_golden_answer_is_the_one_that_most_agree_with(canaries):
    note(canaries, ("garbage",))
    note(canaries, times=4)

    assert note(canaries).ratio == 1.0


@pytest.mark.parametrize(
    ("known", "lows"),
    [
        pytest.param(5, 8, id="little is known of what is usual"),
        pytest.param(49, 4, id="more"),
        pytest.param(200, 4, id="as much as is kept"),
    ],
)
def test_how_many_lows_are_evidence_enough(canaries, known, lows):
    """So many that chance brings them together once in a million canaries."""
    note(canaries, times=known)
    before = note(canaries, ("garbage",), times=lows - 1)
    after = note(canaries, ("garbage",))

    assert before.evidence_ratio < 1.0 <= after.evidence_ratio


def test_one_good_answer_ends_it(canaries):
    note(canaries, times=20)
    note(canaries, ("garbage",), times=3)

    assert note(canaries).evidence_ratio == 0.0


@pytest.mark.parametrize(
    ("words", "is_low"),
    [
        pytest.param((*GOOD[:6], "x"), False, id="a quarter less: 6 of 8"),
        pytest.param((*GOOD[:5], "x"), True, id="5 of 8"),
    ],
)
def test_margin(canaries, words, is_low):
    note(canaries, times=20)

    assert is_low == (note(canaries, words).evidence_ratio > 0)


def test_batching_that_flips_tokens_now_and_then_is_usual(canaries):
    """A tenth of all answers differ after the first word, in any order: never a finding."""
    chance = random.Random(7)
    other = ("52", "0")
    worst = 0.0
    for _ in range(20_000):
        found = note(canaries, other if chance.random() < 0.1 else GOOD)
        worst = max(worst, found.evidence_ratio if found else 0.0)

    assert worst < 1.0


def test_a_sick_replica_is_measured_by_its_siblings(canaries):
    note(canaries, times=50, endpoint="a:1")
    sick = note(canaries, ("garbage",), times=5, endpoint="a:2")
    well = note(canaries, endpoint="a:1")

    assert sick.evidence_ratio >= 1.0
    assert (well.ratio, well.evidence_ratio) == (1.0, 0.0)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(("completions", "m2", "v1"), id="another model"),
        pytest.param(("completions", "m", "v2"), id="another version"),
    ],
)
def test_a_change_begins_anew(canaries, build):
    note(canaries, times=50)
    note(canaries, ("garbage",), times=4)

    assert note(canaries, ("other",), times=5, build=build) is None
    assert note(canaries, ("other",), build=build).evidence_ratio == 0.0


def test_it_outlives_a_restart_and_holds_no_word(canaries, tmp_path, written):
    note(canaries, times=30)
    written()
    text = (tmp_path / "canary.json").read_text()
    again = Canaries(tmp_path / "canary.json")

    assert not any(f'"{word}"' in text for word in GOOD)
    assert "m" not in {part for key in json.loads(text) for part in key.split()}
    assert note(again, ("garbage",), times=5).evidence_ratio >= 1.0


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1}', b"\xff" * 9])
def test_a_file_that_cannot_be_read_is_begun_anew(tmp_path, content):
    path = tmp_path / "canary.json"
    path.write_bytes(content)
    with capture_logs() as logs:
        canaries = Canaries(path)

    assert logs[0]["event"] == "learned.forgotten"
    assert note(canaries, times=5) is None


def test_a_full_disk_loses_nothing_yet(tmp_path, written):
    canaries = Canaries(tmp_path / "gone" / "canary.json")
    with capture_logs() as logs:
        note(canaries, times=30)
        written()

    assert {entry["event"] for entry in logs} == {"state_file.not_written"}
    assert note(canaries, ("garbage",), times=6).evidence_ratio >= 1.0


def test_models_that_are_gone_are_forgotten(tmp_path, written):
    canaries = Canaries(tmp_path / "canary.json")
    for number in range(70):
        note(canaries, build=("completions", f"m{number}", ""), times=5)
    written()

    assert len(json.loads((tmp_path / "canary.json").read_text())) == 64
