"""Read the key that requests need, for each of them anew, and keep it nowhere.

What is wrong with a key is told without a character of it.
"""

from __future__ import annotations

import os
from pathlib import Path

KEY_LIMIT = 4_096


class KeyUnreadableError(Exception):
    """The key cannot be had; the message names the place, never what is in it."""


def read_key(file: str, env: str) -> str:
    """Return the key to send, empty where neither is named; raises ``KeyUnreadableError``."""
    if env:
        place, key = env, os.environ.get(env, "")
    elif file:
        place, key = file, _text_of(Path(file))
    else:
        return ""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise KeyUnreadableError(f"{place}: holds no key: one line of ASCII is expected")
    return key


def _text_of(path: Path) -> str:
    try:
        with path.open(encoding="ascii") as file:
            return file.read(KEY_LIMIT)
    except OSError as error:
        raise KeyUnreadableError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        # The error itself quotes what it could not read.
        raise KeyUnreadableError(f"{path}: holds no key: one line of ASCII is expected") from None
