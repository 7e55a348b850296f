"""``gpuward demo``: one incident from the first fault to its review, on real parts.

``--once`` plays it through, checks each step and exits; without it the world keeps running, with
its web pages, until Ctrl-C.  Nothing is left behind in either case but the directory, which holds
the logs, the pages and the review.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuward.daemon import serve
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError
from gpuward.simulator.cuda_stubs import TorchError
from gpuward.simulator.demo.centre import Refused
from gpuward.simulator.demo.interpreter import NoTorch, torch_interpreter
from gpuward.simulator.demo.narrator import Narrator, Tone
from gpuward.simulator.demo.parts import PartFailed
from gpuward.simulator.demo.story import StepFailed, Story
from gpuward.simulator.demo.world import Plan, World
from gpuward.simulator.libraries import NotBuiltError
from gpuward.simulator.state import StateError

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock

NEEDED = {
    "gpuward.agent": "gpuward[agent]",
    "gpuward.coordinator": "gpuward[coordinator]",
    "gpuward.tap": "gpuward-tap",
}
# As a shell reports a program that Ctrl-C ended.
INTERRUPTED = 130
TROUBLE = (
    StepFailed,
    PartFailed,
    Refused,
    NotBuiltError,
    TorchError,
    ConfigError,
    StateError,
    OSError,
)


@click.command()
@click.option("--once", is_flag=True, help="Play to the review, check each step, exit 0 or 1.")
@click.option(
    "--speed",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1.0),
    help="Divides every delay of the escalation policy.",
)
@click.option("--port", "web_port", default=0, help="Port of the web pages; 0 takes a free one.")
@click.option("--torch", "use_torch", is_flag=True, help="Let torch's own allocator fragment.")
def demo(*, once: bool, speed: float, web_port: int, use_torch: bool) -> None:
    """Play one incident, end to end, on simulated GPUs."""
    for module, distribution in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f"the demo needs {module}: pip install '{distribution}'")
    try:
        torch_python = torch_interpreter() if use_torch else None
    except NoTorch as error:
        raise click.ClickException(str(error)) from error
    plan = Plan(speed=speed, web_port=web_port, torch_python=torch_python)
    root = Path(tempfile.mkdtemp(prefix="gpuward-demo-"))
    narrator = Narrator(clock := SystemClock(), sys.stdout, colour=sys.stdout.isatty())
    outcome: list[int] = []

    async def main(stop: asyncio.Event) -> None:
        outcome.append(await run(root, clock, plan, narrator, stop, once=once))

    serve.run(main, stop_within_s=30.0)
    sys.exit(outcome[0])


async def run(
    root: Path, clock: Clock, plan: Plan, narrator: Narrator, stop: asyncio.Event, *, once: bool
) -> int:
    """Play in ``root``; return the exit status."""
    world = World(root, clock, plan)
    story = Story(world, narrator, clock, plan.speed, root / "review.md")
    narrator.heading("gpuward demo: one node, one fault, one page")
    narrator.tell("demo", f"logs, pages and review: {root}")
    try:
        async with asyncio.TaskGroup() as group:
            playing = group.create_task(_play(world, story, narrator))
            guard = group.create_task(_cancel_when(stop, playing))
            playing.add_done_callback(lambda _: guard.cancel())
        if playing.cancelled():
            return INTERRUPTED
        if not once and playing.result():
            narrator.tell("demo", f"runs on: http://{world.centre.address}/ (Ctrl-C ends it)")
            await stop.wait()
    finally:
        narrator.tell("demo", "ending every part", Tone.QUIET)
        await world.close()
    return 0 if playing.result() else 1


async def _play(world: World, story: Story, narrator: Narrator) -> bool:
    """Return whether every step was as it should be; say which was not, and where the logs are."""
    try:
        await world.start()
        narrator.tell("demo", f"coordinator: http://{world.centre.address}/")
        narrator.tell("demo", f"agent: http://{world.agent_address}/metrics")
        await story.play()
    except TROUBLE as error:
        narrator.tell("demo", f"failed: {error}", Tone.ALARM)
        narrator.tell("demo", f"the logs are in {world.root}", Tone.ALARM)
        return False
    narrator.tell("demo", "every step was checked", Tone.GOOD)
    return True


async def _cancel_when(stop: asyncio.Event, playing: asyncio.Task[bool]) -> None:
    await stop.wait()
    playing.cancel()
