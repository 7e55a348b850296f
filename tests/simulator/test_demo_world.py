"""What the demo writes is what agent and coordinator read; a story that stalls says where."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from gpuward.agent.config import AgentConfig
from gpuward.coordinator import config as coordinator_config
from gpuward.coordinator.model import CauseDomain, Rotation
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import load
from gpuward.simulator.demo import configs
from gpuward.simulator.demo.narrator import Narrator
from gpuward.simulator.demo.story import StepFailed, Story
from gpuward.simulator.demo.world import Plan, World


def test_the_agent_accepts_its_file(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text(
        configs.agent(
            state=tmp_path / 'a "quoted" place',
            grpc_port=0,
            http_port=1234,
            coordinator="127.0.0.1:9479",
            tap=tmp_path / "tap",
            kmsg=tmp_path / "kmsg",
            engines=["127.0.0.1:1", "127.0.0.1:2"],
            service="chat",
        )
    )

    config = load(path, AgentConfig)

    assert str(tmp_path / 'a "quoted" place') == config.state.directory
    assert ["127.0.0.1:1", "127.0.0.1:2"] == [engine.instance for engine in config.engines]
    assert {"chat"} == {engine.service for engine in config.engines}


def test_the_coordinator_accepts_its_file(tmp_path):
    """Every place of the story is held: two channels for the primary, an expert for capacity."""
    path = tmp_path / "coordinator.toml"
    path.write_text(
        configs.coordinator(
            state=tmp_path, grpc_port=0, web_port=0, pages=tmp_path / "pages", speed=60
        )
    )

    config = coordinator_config.read(path)
    roster = coordinator_config.roster(config)
    team = roster.teams[Rotation.INFRASTRUCTURE]

    assert 60.0 == config.escalation.speed
    assert ("ada", "grace", "edsger") == (team.primary.name, team.secondary.name, team.lead.name)
    assert ("pager", "chat") == team.primary.channels
    assert "barbara" == roster.experts[CauseDomain.CAPACITY].name


def test_a_page_that_is_being_written_is_not_read(tmp_path):
    """Whole lines only."""
    world = World(tmp_path, SystemClock(), Plan())
    (tmp_path / "pages.jsonl").write_text('{"level": "L1"}\n{"lev')

    assert [{"level": "L1"}] == world.pages()


def test_no_pages_yet(tmp_path):
    assert [] == World(tmp_path, SystemClock(), Plan()).pages()


class Hasty(SystemClock):
    """A clock on which a minute passes in a tenth of a second."""

    def mono_s(self) -> float:
        return 600 * super().mono_s()

    async def sleep_until(self, mono_s: float) -> None:
        await super().sleep_until(mono_s / 600)


async def test_a_step_whose_fact_does_not_come_is_named(tmp_path):
    """The step, how long it waited, for what, and what kept it from seeing."""
    clock = Hasty()
    world = SimpleNamespace(agent_address="127.0.0.1:1", check=lambda: None, replicas=("a",))
    story = Story(
        world, Narrator(clock, io.StringIO(), colour=False), clock, 60.0, tmp_path / "review.md"
    )

    with pytest.raises(
        StepFailed,
        match=r"^step healthy: waited 120 s for requests served and memory seen \(GET http://127",
    ):
        await story.play()
