"""`gpuward agent`: run the agent of this node, check its configuration, or ask it for a map."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, WRONG_CONFIG, exit_with, load
from gpuward.agent.config import GrpcConfig
from gpuward.agent.history_command import history
from gpuward.agent.people_commands import bundle, doctor, inject, scan, top
from gpuward.agent.record_command import record
from gpuward.agent.release_command import release
from gpuward.agent.replay_command import replay
from gpuward.agent.why_command import why
from gpuward.daemon import log, serve
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError
from gpuward.daemon.notify import Notifier

DEFAULT_GRPC_ADDRESS = GrpcConfig().address


@click.group()
def agent() -> None:
    """Watch this node."""


@agent.command()
@CONFIG_OPTION
def run(path: Path) -> None:
    """Run until SIGTERM."""
    config = load(path)
    # A port that is taken, a peer that goes away: we say it once; grpc's own lines go past our log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    log.configure()
    # Loaded here: to check a configuration takes none of it.
    from gpuward.agent.beat_clock import BeatClock
    from gpuward.agent.nvml_ahead import nvml_sampler

    clock = BeatClock(SystemClock())
    # Its child takes as long to start as all that follows takes to load.
    nvml = nvml_sampler(config, clock)
    nvml.start_child()
    from gpuward.agent.app import App
    from gpuward.agent.starting import StartError

    try:
        serve.run(App(config, clock=clock, notifier=Notifier(), nvml=nvml).run)
    except* StartError as errors:
        exit_with(str(_first(errors)), CANNOT_START)


@agent.command("check-config")
@CONFIG_OPTION
def check_config(path: Path) -> None:
    """Say whether the configuration can be used; changes nothing."""
    web_config = load(path).http.web_config
    if web_config:
        from gpuward.agent.web_guard import WebGuard

        try:
            WebGuard(Path(web_config))
        except ConfigError as error:
            exit_with(f"[http] web_config: {error}", WRONG_CONFIG)
    click.echo(f"{path}: ok")


@agent.command("map")
@click.option("--gpu", default="", metavar="UUID|INDEX", help="Where there are several.")
@click.option("--process", "process_key", default="", metavar="KEY", help="Its key in metrics.")
@click.option("--pid", default=0, help="Its pid on the node.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write a picture to this file.")
@click.option(
    "--address",
    default=DEFAULT_GRPC_ADDRESS,
    show_default=True,
    help="The agent's [grpc] address: host:port or unix:/path.",
)
def map_command(*, gpu: str, process_key: str, pid: int, svg: Path | None, address: str) -> None:
    """Draw the GPU memory of a process: what is allocated, and what is lost where.

    Asks the process itself, which stops its Python for some milliseconds: not more often than every
    30 seconds.
    """
    from gpuward.agent import map_command as command

    try:
        memory_map = command.fetch(address, command.Choice(gpu, process_key, pid))
        if svg is None:
            click.echo(command.picture(memory_map))
        else:
            svg.write_text(command.svg(memory_map), encoding="utf-8")
            click.echo(f"{svg}: written")
    except command.NoMapError as error:
        exit_with(str(error), CANNOT_START)
    except OSError as error:
        exit_with(f"--svg {svg}: {error.strerror}", CANNOT_START)


def _first(errors: BaseExceptionGroup) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


agent.add_command(history)
agent.add_command(release)
agent.add_command(scan)
agent.add_command(top)
agent.add_command(doctor)
agent.add_command(bundle)
agent.add_command(inject)
agent.add_command(record)
agent.add_command(replay)
agent.add_command(why)

if __name__ == "__main__":
    agent()
