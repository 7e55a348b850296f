"""`gpuward coordinator`: run the centre, check its configuration, upgrade its database."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from gpuward.coordinator import config as configuration
from gpuward.coordinator import notifiers
from gpuward.coordinator.kinds_command import kinds
from gpuward.daemon import log, serve
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import ConfigError
from gpuward.daemon.notify import Notifier

if TYPE_CHECKING:
    from gpuward.coordinator.config_tables import CoordinatorConfig

DEFAULT_CONFIG = Path("/etc/gpuward/coordinator.toml")
CANNOT_START = 1
WRONG_CONFIG = 2

CONFIG_OPTION = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help=f"The coordinator's TOML file; {DEFAULT_CONFIG} where there is one, else defaults.",
)


@click.group()
def coordinator() -> None:
    """Correlate findings, page people."""


@coordinator.command()
@CONFIG_OPTION
def run(path: Path | None) -> None:
    """Run until SIGTERM."""
    config = _read(path)
    # The library writes lines of its own about what we report in ours; it reads this when loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Loaded here: to check a configuration takes none of it.
    from gpuward.coordinator.app import App, StartError

    log.configure()
    try:
        serve.run(App(config, SystemClock(), Notifier()).run)
    except* (StartError, ConfigError) as errors:
        _exit(str(_first(errors)), CANNOT_START)


@coordinator.command("check-config")
@CONFIG_OPTION
def check_config(path: Path | None) -> None:
    """Say whether the configuration can be used; changes nothing."""
    _read(path)
    click.echo(f"{_used(path) or 'defaults'}: ok")


coordinator.add_command(kinds)


@coordinator.group()
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@CONFIG_OPTION
def db_upgrade(path: Path | None) -> None:
    """Bring the database to this version's schema, as `run` does at start."""
    config = _read(path)
    from gpuward.coordinator.app import StartError, open_engine

    async def upgrade() -> None:
        engine = await open_engine(config)
        await engine.dispose()

    try:
        asyncio.run(upgrade())
    except StartError as error:
        _exit(str(error), CANNOT_START)
    click.echo("database: up to date")


def _read(path: Path | None) -> CoordinatorConfig:
    try:
        config = configuration.read(_used(path))
        # Also reads the secret files: a missing one is found now, not with the first page.
        for notifier in config.notifiers:
            notifiers.create(notifier, SystemClock())
    except ConfigError as error:
        _exit(str(error), WRONG_CONFIG)
    return config


def _used(path: Path | None) -> Path | None:
    if path is None and DEFAULT_CONFIG.exists():
        return DEFAULT_CONFIG
    return path


def _first(errors: BaseExceptionGroup) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _exit(message: str, status: int) -> NoReturn:
    click.echo(f"gpuward coordinator: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    coordinator()
