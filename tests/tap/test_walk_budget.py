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
