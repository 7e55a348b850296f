"""kill -9 of any part at any step of the demo: each step decided once, each page delivered."""

from __future__ import annotations

import io
import signal
from collections import Counter

import pytest

from gpuward.daemon.clock import SystemClock
from gpuward.simulator.demo.narrator import Narrator
from gpuward.simulator.demo.story import Story
from gpuward.simulator.demo.world import Plan, World

pytestmark = [pytest.mark.simulator, pytest.mark.timeout(600)]

SPEED = 120.0
STEPS = (
    "healthy",
    "fragmentation",
    "incident",
    "L1",
    "L1-repeat",
    "L2",
    "acknowledged",
    "L3",
    "fix",
)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        pytest.param(["coordinator"], STEPS, id="coordinator at every step"),
        pytest.param(["agent"], STEPS, id="agent at every step"),
        pytest.param(["agent", "coordinator"], STEPS[2:], id="agent and coordinator"),
        pytest.param(["inference-0"], ("healthy", "fragmentation", "L3"), id="an engine"),
    ],
)
async def test_killed_and_started_again(names, steps, tmp_path, left_behind):
    """The story comes to its end all the same.

    Every step fired once; every page reached its channel at least once; what came twice came with
    the same key.
    """
    clock = SystemClock()
    world = World(tmp_path, clock, Plan(speed=SPEED))
    said = io.StringIO()

    async def kill(step: str) -> None:
        for name in names if step in steps else ():
            await world.kill(name, signal.SIGKILL)
            await world.start_again(name)

    story = Story(
        world, Narrator(clock, said, colour=False), clock, SPEED, tmp_path / "review.md", kill
    )
    try:
        await world.start()
        await story.play()
        incident = await world.centre.incident(story.incident_id)
    finally:
        await world.close()

    fired = Counter(entry.event["level"] for entry in incident.events("StepFired"))
    assert {"L1": 1, "L1-repeat": 1, "L2": 1, "L3": 1} == {
        level: times for level, times in fired.items() if level != "executive"
    }
    assert 1 == len(incident.events("AcknowledgementMissed"))
    delivered = [page for page in world.pages() if page["incident_id"] == incident.id]
    wanted = {
        (entry.event["level"], person)
        for entry in incident.events("StepFired")
        for person in entry.event["targets"]
    }
    assert wanted == {(page["level"], page["target"]) for page in delivered}
    keys = {(page["id"], page["dedup_key"]) for page in delivered}
    assert len({page["id"] for page in delivered}) == len(keys)
    assert 1 == len({page["dedup_key"] for page in delivered if page["level"] == "L1"})
    assert (tmp_path / "review.md").exists()
    assert [] == left_behind(tmp_path)
