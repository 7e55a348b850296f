"""Bring a database to the schema of this version: at start, or by `coordinator db upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from gpuward.coordinator.store_dialect import begin, probe

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

SCRIPTS = Path(__file__).parent / "migrations"


class DatabaseError(Exception):
    """The database cannot be used; the message is one line and names it."""


async def upgrade(engine: AsyncEngine) -> None:
    """Apply every migration that is missing, all or none; raises ``DatabaseError``."""
    try:
        probe(engine)
        async with engine.begin() as connection:
            await begin(connection, write=True)
            await connection.run_sync(_run, "head")
    except (CommandError, SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise DatabaseError(f"database {engine.url}: {reason}") from error


def _run(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
