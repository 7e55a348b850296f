"""Play the story in a directory, tell how it went, and leave nothing running."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gpuward.daemon.config import ConfigError
from gpuward.simulator.cuda_symbols import TorchError
from gpuward.simulator.demo import real_driver
from gpuward.simulator.demo.centre import Refused
from gpuward.simulator.demo.narrator import Narrator, Tone
from gpuward.simulator.demo.parts import PartFailed
from gpuward.simulator.demo.story import StepFailed, Story
from gpuward.simulator.demo.world import Plan, World
from gpuward.simulator.libraries import NotBuiltError
from gpuward.simulator.state import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from gpuward.daemon.clock import Clock

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


async def run(
    root: Path, clock: Clock, plan: Plan, narrator: Narrator, stop: asyncio.Event, *, once: bool
) -> int:
    """Play in ``root``; return the exit status."""
    world = World(root, clock, plan)
    story = Story(world, narrator, clock, plan.speed, root / "review.md")
    narrator.heading("gpuward demo: one node, one fault, one page")
    narrator.tell("demo", f"logs, pages and review: {root}")
    if not await _offer_real_driver(plan, narrator):
        return 1
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
        try:
            narrator.tell("demo", "ending every part", Tone.QUIET)
        finally:
            # Also when nobody reads any more: a closed terminal, a pipe into head.
            await world.close()
    return 0 if playing.result() else 1


async def _offer_real_driver(plan: Plan, narrator: Narrator) -> bool:
    """Return false when the real driver is wanted and there is none."""
    gpus = await real_driver.gpu_count()
    if plan.real_driver and not gpus:
        what = "failed: --real: no NVIDIA driver on this machine answers with a GPU"
        narrator.tell("demo", what, Tone.ALARM)
        return False
    if plan.real_driver:
        what = f"the agent watches this machine's {gpus} GPUs; the engines' memory is simulated"
        narrator.tell("demo", what)
    elif gpus:
        narrator.tell("demo", f"this machine has {gpus} GPUs: --real lets the agent watch them")
    return True


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
