"""``gpuward simulate``: run any command against simulated GPUs while a scenario plays.

The command loads the simulator's libraries because they come first in ``LD_LIBRARY_PATH``; it
needs no change.  Its exit status is ours, and signals that we get are passed on to it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuward.daemon import log, subprocesses
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError
from gpuward.simulator import scenario as scenarios
from gpuward.simulator.children import RealChildren
from gpuward.simulator.cuda_stubs import torch_environment
from gpuward.simulator.cuda_symbols import TorchError
from gpuward.simulator.libraries import NotBuiltError, environment
from gpuward.simulator.player import Player
from gpuward.simulator.root_tree import RootTree
from gpuward.simulator.state import State, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuward.simulator.profile import Profile

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)

# As a shell reports: a program that cannot run, one that a signal ended.
EXIT_CANNOT_RUN = 127
EXIT_BY_SIGNAL = 128
EXIT_CONFIG = 2

HELP = """Run COMMAND against the simulated GPUs of SCENARIO.

SCENARIO is a TOML file, or the name of a profile whose machine is simulated with nothing
happening to it.
"""


class _Failure(click.ClickException):
    """One line on stderr, and this exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads the instance


@click.command(help=HELP)
@click.argument("scenario")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for dev/kmsg, sys/bus/pci and proc/driver/nvidia.  [default: temporary]",
)
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that all simulated parts share.  [default: temporary]",
)
@click.option(
    "--torch",
    type=click.Path(exists=True, path_type=Path),
    help="Python interpreter whose CUDA build of torch is to run: adds the libraries it lacks.",
)
def simulate(
    scenario: str,
    command: tuple[str, ...],
    root: Path | None,
    state: Path | None,
    torch: Path | None,
) -> None:
    """Read what to play, play it around the command."""
    log.configure(level="warning")
    try:
        story, machine = scenarios.load(scenario, Path(scenario))
        with tempfile.TemporaryDirectory(prefix="gpuward-simulate-") as directory:
            state_file = (state or Path(directory) / "state").resolve()
            root = (root or Path(directory) / "root").resolve()
            base = os.environ if torch is None else torch_environment(torch, os.environ)
            env = environment(state_file, root, base=base)
            with _machine(machine, state_file, root) as (simulated, tree):
                player = Player(
                    story, simulated, tree, clock=SystemClock(), children=RealChildren()
                )
                status = asyncio.run(_play_around(command, env, player))
    except ConfigError as error:
        raise _Failure(str(error), EXIT_CONFIG) from error
    except (NotBuiltError, StateError, TorchError) as error:
        raise _Failure(str(error), 1) from error
    except OSError as error:
        raise _Failure(f"{error.filename}: {error.strerror}", 1) from error
    sys.exit(status)


@contextmanager
def _machine(machine: Profile, state_file: Path, root: Path) -> Iterator[tuple[State, RootTree]]:
    """Make the state file and the tree of a machine on which nothing has happened yet."""
    state = State.create(state_file, len(machine.gpus))
    machine.write_to(state)
    tree = RootTree(root, state)
    tree.create()
    try:
        yield state, tree
    finally:
        # Calls that hang now return to whoever outlives the simulation.
        state.row.closed = 1
        state.close()


async def _play_around(command: Sequence[str], env: dict[str, str], player: Player) -> int:
    try:
        player.begin()
        return await _run(command, env, player)
    finally:
        player.end()


async def _run(command: Sequence[str], env: dict[str, str], player: Player) -> int:
    def forward(number: signal.Signals) -> None:
        subprocesses.kill_group(process.pid, number)

    # Before the start: a signal that comes meanwhile is handled when the loop turns again.
    for number in FORWARDED:
        asyncio.get_running_loop().add_signal_handler(number, forward, number)
    try:
        process = subprocesses.start(command, env=env, stdin=None)
    except OSError as error:
        raise _Failure(f"{command[0]}: {error.strerror}", EXIT_CANNOT_RUN) from error
    try:
        async with asyncio.TaskGroup() as group:
            playing = group.create_task(player.run())
            await _ended(process)
            playing.cancel()
    finally:
        if process.poll() is None:
            subprocesses.kill_group(process.pid)
    status = process.wait()
    return status if status >= 0 else EXIT_BY_SIGNAL - status


async def _ended(process: subprocesses.Child) -> None:
    """Return when the process has exited, without blocking the loop meanwhile."""
    exited = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
