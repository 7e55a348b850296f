"""Both sides of each limit of a walk."""

from __future__ import annotations

import pytest

from gpuward.tap.walk_budget import WalkBudget, predicted_blocks

S = 10**9


@pytest.mark.parametrize(
    ("cost_ns", "now_ns", "blocks", "refusal", "retry_ms"),
    [
        pytest.param(None, 0, 10_000, 0, 0, id="the first"),
        pytest.param(None, 0, 10_001, 3, 0, id="too many blocks"),
        pytest.param(0, 30 * S - 1, 1, 2, 1, id="less than half a minute after the last"),
        pytest.param(0, 30 * S, 1, 0, 0, id="half a minute"),
        pytest.param(S // 50, 40 * S - 1, 1, 2, 1, id="less than 2000 times the last"),
        pytest.param(S // 50, 40 * S, 1, 0, 0, id="2000 times"),
        pytest.param(0, 0, 1, 2, 30_000, id="at once"),
        pytest.param(0, 0, 10_001, 3, 30_000, id="size counts before time"),
    ],
)
def test_refusal(cost_ns, now_ns, blocks, refusal, retry_ms):
    budget = WalkBudget()
    if cost_ns is not None:
        budget.spend(0, cost_ns)

    assert (refusal, retry_ms) == (
        budget.refusal(now_ns, blocks),
        budget.retry_after_ms(now_ns),
    )


def test_predicted_blocks():
    stats = {
        family: {"all": {"current": number}}
        for number, family in enumerate(["active", "inactive_split", "segment", "allocation"], 1)
    }

    assert (6, 0) == (predicted_blocks(stats), predicted_blocks({}))


@pytest.mark.parametrize(
    ("predicted", "met", "blocks", "refusal"),
    [
        pytest.param(100, 200, 5_000, 0, id="twice as many as predicted, just allowed"),
        pytest.param(100, 200, 5_001, 3, id="twice as many as predicted, one too many"),
        pytest.param(100, 50, 10_000, 0, id="fewer than predicted"),
        pytest.param(100, 50, 10_001, 3, id="fewer: what is predicted still counts"),
        pytest.param(0, 3, 3_333, 0, id="nothing predicted"),
        pytest.param(0, 3, 3_334, 3, id="nothing predicted, one too many"),
    ],
)
def test_a_walk_that_met_more_blocks_makes_the_next_prediction_larger(
    predicted, met, blocks, refusal
):
    budget = WalkBudget()
    budget.learn(predicted, met)

    assert refusal == budget.refusal(0, blocks)
