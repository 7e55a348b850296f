"""What share is usual, and when more is no chance."""

from __future__ import annotations

import pytest

from gpuward.agent.detection.usual_ratio import UsualRatio, is_unusual


@pytest.mark.parametrize(
    ("counted", "events", "usual", "expected"),
    [
        pytest.param(0, 0, 0.01, False, id="nothing happened"),
        pytest.param(0, 1_000, 0.01, False, id="none"),
        pytest.param(10, 1_000, 0.01, False, id="as many as usual"),
        pytest.param(28, 1_000, 0.01, False, id="chance still makes 28 of 10"),
        pytest.param(29, 1_000, 0.01, True, id="and 29 once in a million"),
        pytest.param(2, 2, 0.0, False, id="two of two"),
        pytest.param(3, 3, 0.0, True, id="three of three"),
        pytest.param(1, 1, 0.0, False, id="never, and now once"),
    ],
)
def test_is_unusual(counted, events, usual, expected):
    """P(N >= counted) < 1e-6, and never is taken to be one in a thousand."""
    assert expected is is_unusual(counted, events, usual)


def test_it_begins_at_one_in_a_thousand():
    assert UsualRatio().value == pytest.approx(0.001)


def test_it_becomes_what_is_seen():
    """Two in a hundred, for two days."""
    usual = UsualRatio()
    for _ in range(2 * 17_280):
        usual.learn(50, 1)

    assert usual.value == pytest.approx(0.02, rel=0.01)


def test_a_quiet_week_makes_it_forget_but_not_doubt():
    """After it nothing is left but what is believed of any service."""
    usual = UsualRatio()
    usual.learn(10_000, 500)
    before = usual.value
    for _ in range(7 * 17_280):
        usual.learn(0, 0)

    assert before == pytest.approx(501 / 11_000)
    assert usual.value == pytest.approx(0.0015, abs=0.0005)


@pytest.mark.parametrize(
    ("events", "counted"),
    [(-1.0, 0.0), (5.0, 6.0), (5.0, -1.0), (1e300, 1.0), (float("inf"), 1.0)],
)
def test_what_no_engine_can_have_served_is_not_learned(events, counted):
    usual = UsualRatio()
    usual.learn(events, counted)

    assert usual == UsualRatio()
