"""Replicas of the benchmark's node answer the canary; a sick one shows there, and nowhere else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gpuward.simulator.llm.faults import Conditions

FOLDER = Path(__file__).parent
ONSET_S, END_S = 1_200, 1_800


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Return what tells the canary's figures by replica, the first of which is in such trouble."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from diagnosis_answers import CanaryAnswers
    from diagnosis_node import Node
    from diagnosis_scenarios import plan_of

    async def live(trouble, figure):
        plan = plan_of(("corrupt answers",), 1, 0)
        replicas = Node(plan).replicas
        sampler = CanaryAnswers(tmp_path / "canary.json", plan, replicas)
        samples = []
        for second in range(1, END_S):
            if second == ONSET_S:
                replicas[0].engine.conditions = trouble
            samples += (await sampler.sample(float(second))).samples
        keys = [one.key(f"endpoint_canary_{figure}_ratio") for one in replicas]
        return [{it.at_s: it.value for it in samples if it.key == key} for key in keys]

    return lambda trouble, figure: asyncio.run(live(trouble, figure))


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_wrong_tokens_of_one_replica_are_evidence_within_minutes(told, share):
    sick, well = told(Conditions(corrupt_share=share), "evidence")

    assert max(value for at_s, value in sick.items() if at_s < ONSET_S) < 1.0
    assert sick[max(sick)] >= 1.0
    assert max(well.values()) < 1.0


def test_a_replica_that_hangs_answers_nothing(told):
    hung, well = told(Conditions(hangs=True), "agreement")

    assert max(hung) < ONSET_S < max(well)
