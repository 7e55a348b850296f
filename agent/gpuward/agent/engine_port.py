"""Say on which port an engine shows its metrics page, by its command line.  Pure.

An engine holds many sockets, and most are not for HTTP: ranks meet each other there, caches are
handed over.  Speaking HTTP to those could harm, so the one port is taken from the flag that sets
it, or is the engine's default; who finds nobody listening there leaves it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HIGHEST = 65_535

# The flag that sets the port of the page, and what it is without: each engine's documentation.
PORTS = {
    "vllm": ("--port", 8_000),
    "sglang": ("--port", 30_000),
    "tgi": ("--port", 3_000),
    "trtllm": ("--port", 8_000),
    # The page has a port of its own.
    "triton": ("--metrics-port", 8_002),
    "llama.cpp": ("--port", 8_080),
}


def default_port(engine: str) -> int:
    """Return the port that ``engine`` has its page on when nobody sets one, 0 for others."""
    return PORTS[engine][1] if engine in PORTS else 0


def port_in(engine: str, words: Sequence[str]) -> int:
    """Return the port that the command line ``words`` of ``engine`` sets, 0 where it sets none."""
    flag = PORTS[engine][0] if engine in PORTS else ""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if flag and name == flag:
            following = words[place + 1] if place + 1 < len(words) else ""
            return _port(value if equals else following)
    return 0


def _port(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST))
    return int(text) if is_number and int(text) <= HIGHEST else 0
