"""What may be shown of the word that names an engine's model.  Pure.

``meta-llama/Llama-3.1-8B`` is public; where a model lies is not: folders carry names of customers,
and people put tokens into paths.  So of a path only the last part is kept, and of an address, which
may hold a password, nothing.  Hugging Face's cache keeps a model under its commit, a name that
tells nobody anything: there the name is taken from the folder that the cache made for the model.
"""

from __future__ import annotations

import re

LIMIT = 128

_NAME = re.compile(r"[\w./][\w./:+-]*")
_CACHED = re.compile(r"(?:^|/)models--([\w.-]+?)--([\w.-]+)/snapshots/[\w.-]+/?$")


def model_name(word: str) -> str:
    """Return the model's name, at most ``LIMIT`` characters; empty where ``word`` is none.

    A relative path of two parts looks like an organisation and its model, and is kept as such.
    """
    if not _NAME.fullmatch(word) or "://" in word:
        return ""
    if cached := _CACHED.search(word):
        return f"{cached[1]}/{cached[2]}"[:LIMIT]
    parts = [part for part in word.split("/") if part not in ("", ".", "..")]
    is_path = word.startswith((".", "/")) or word.count("/") > 1
    return "/".join(parts[-1:] if is_path else parts)[:LIMIT]
