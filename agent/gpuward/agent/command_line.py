"""What the subcommands of `gpuward agent` share: the configuration, and how to end with a line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from gpuward.agent.config import AgentConfig
from gpuward.daemon import config as files
from gpuward.daemon.config import ConfigError

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


def load(path: Path, status: int = WRONG_CONFIG) -> AgentConfig:
    """Return the configuration at ``path``; ends with ``status`` where it cannot be used."""
    try:
        return files.load(path, AgentConfig)
    except ConfigError as error:
        exit_with(str(error), status)


def load_or_default(path: Path, status: int = WRONG_CONFIG) -> AgentConfig:
    """Like ``load``; a node without the default file has the defaults."""
    if path == DEFAULT_CONFIG and not path.exists():
        return AgentConfig()
    return load(path, status)


def exit_with(message: str, status: int) -> NoReturn:
    """End the process with one line on standard error."""
    click.echo(f"gpuward agent: {message}", err=True)
    sys.exit(status)
