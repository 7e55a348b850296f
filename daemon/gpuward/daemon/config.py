"""Load a TOML file into a typed, frozen configuration; an error names the file and the path in it.

Types are ``msgspec.Struct(frozen=True, forbid_unknown_fields=True, kw_only=True)`` and live beside
the code that they configure.  Secrets are never values here, only paths of files.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
# Where msgspec says that it is, and a step of that: a field, an item of a list, a key of a table.
_PLACE = re.compile(r"^Invalid enum value .* - at `\$(?P<steps>.*)`$")
_STEP = re.compile(r"\.(?P<field>\w+)|\[[^\]]*\]")


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
        raise ConfigError(f"{name}: {error}{_choices(str(error), kind)}") from error


def _choices(words: str, kind: type) -> str:
    """Return what may stand where ``words``, msgspec's, say that something else does."""
    place = _PLACE.match(words)
    if place is None:
        return ""
    found: Any = inspect.type_info(kind)
    for step in _STEP.finditer(place["steps"]):
        found = _below(found, step["field"])
    values = [value for value in getattr(found, "values", ()) if value]
    return f"; it may be {', '.join(values)}" if values else ""


def _below(of: Any, field: str | None) -> Any:
    """Return the type of the field, without its description, or of any item; ``None``: unclear."""
    if field is None:
        below = getattr(of, "item_type", None) or getattr(of, "value_type", None)
    else:
        fields = getattr(of, "fields", ())
        below = next((one.type for one in fields if one.encode_name == field), None)
    return below.type if isinstance(below, inspect.Metadata) else below
