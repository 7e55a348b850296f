"""Load a TOML file into a typed, frozen configuration; an error names the file and the path in it.

Types are ``msgspec.Struct(frozen=True, forbid_unknown_fields=True, kw_only=True)`` and live beside
the code that they configure.  Secrets are never values here, only paths of files.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line and names the place."""


def load(path: Path, kind: type[T]) -> T:
    """Return the file at ``path`` as ``kind``; raises ``ConfigError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    return parse(text, kind, name=str(path))


def parse(text: str, kind: type[T], *, name: str) -> T:
    """Return TOML ``text`` as ``kind``; ``name`` is what errors call it; raises ``ConfigError``."""
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from error
