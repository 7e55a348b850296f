"""`gpuward agent`: run the agent of this node, or check its configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from gpuward.agent.config import AgentConfig
from gpuward.daemon import config as files
from gpuward.daemon import log, serve
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError
from gpuward.daemon.notify import Notifier

DEFAULT_CONFIG = Path("/etc/gpuward/agent.toml")
CANNOT_START = 1
WRONG_CONFIG = 2

CONFIG_OPTION = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The agent's TOML file.",
)


@click.group()
def agent() -> None:
    """Watch this node."""


@agent.command()
@CONFIG_OPTION
def run(path: Path) -> None:
    """Run until SIGTERM."""
    config = _load(path)
    # A peer that goes away is said once, by us; grpc's own lines go to stderr past our log.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Loaded here: to check a configuration takes none of it.
    from gpuward.agent.app import App, StartError

    log.configure()
    try:
        serve.run(App(config, clock=SystemClock(), notifier=Notifier()).run)
    except* StartError as errors:
        _exit(str(_first(errors)), CANNOT_START)


@agent.command("check-config")
@CONFIG_OPTION
def check_config(path: Path) -> None:
    """Say whether the configuration can be used; changes nothing."""
    _load(path)
    click.echo(f"{path}: ok")


def _load(path: Path) -> AgentConfig:
    try:
        return files.load(path, AgentConfig)
    except ConfigError as error:
        _exit(str(error), WRONG_CONFIG)


def _first(errors: BaseExceptionGroup) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _exit(message: str, status: int) -> NoReturn:
    click.echo(f"gpuward agent: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    agent()
