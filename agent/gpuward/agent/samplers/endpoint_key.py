"""Read the key that an endpoint's requests need, for each of them anew, and keep it nowhere.

What is wrong with a key is told without a character of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.samplers.endpoint_config import EndpointConfig

KEY_LIMIT = 4_096


class KeyUnreadableError(Exception):
    """The key cannot be had; the message names the place, never what is in it."""


def key_of(config: EndpointConfig) -> str:
    """Return the key to send, empty for none; raises ``KeyUnreadableError``."""
    if config.api_key_env:
        place, key = config.api_key_env, os.environ.get(config.api_key_env, "")
    elif config.api_key_file:
        place, key = config.api_key_file, _text_of(Path(config.api_key_file))
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
