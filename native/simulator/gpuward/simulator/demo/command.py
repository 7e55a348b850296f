"""``gpuward demo``: one incident from the first fault to its review, on real parts.

``--once`` plays it through, checks each step and exits; without it the world keeps running, with
its web pages, until Ctrl-C.  Nothing is left behind in either case but the directory, which holds
the logs, the pages and the review.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuward.daemon import serve
from gpuward.daemon.clock import SystemClock
from gpuward.simulator.demo.interpreter import NoTorch, torch_interpreter
from gpuward.simulator.demo.narrator import Narrator
from gpuward.simulator.demo.play import run
from gpuward.simulator.demo.world import Plan

if TYPE_CHECKING:
    import asyncio

NEEDED = {
    "gpuward.agent": "gpuward[agent]",
    "gpuward.coordinator": "gpuward[coordinator]",
    "gpuward.tap": "gpuward-tap",
}


@click.command()
@click.option("--once", is_flag=True, help="Play to the review, check each step, exit 0 or 1.")
@click.option(
    "--speed",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=1.0),
    help="Divides every delay of the escalation policy.",
)
@click.option(
    "--port",
    "web_port",
    default=0,
    type=click.IntRange(0, 65_535),
    help="Port of the web pages; 0 takes a free one.",
)
@click.option("--torch", "use_torch", is_flag=True, help="Let torch's own allocator fragment.")
@click.option("--real", "real_driver", is_flag=True, help="Let the agent watch the real driver.")
def demo(*, once: bool, speed: float, web_port: int, use_torch: bool, real_driver: bool) -> None:
    """Play one incident, end to end, on simulated GPUs."""
    for module, distribution in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise click.ClickException(f"the demo needs {module}: pip install '{distribution}'")
    try:
        torch_python = torch_interpreter() if use_torch else None
    except NoTorch as error:
        raise click.ClickException(str(error)) from error
    plan = Plan(speed=speed, web_port=web_port, torch_python=torch_python, real_driver=real_driver)
    root = Path(tempfile.mkdtemp(prefix="gpuward-demo-"))
    narrator = Narrator(clock := SystemClock(), sys.stdout, colour=sys.stdout.isatty())
    outcome: list[int] = []

    async def main(stop: asyncio.Event) -> None:
        outcome.append(await run(root, clock, plan, narrator, stop, once=once))

    serve.run(main, stop_within_s=30.0)
    sys.exit(outcome[0])
