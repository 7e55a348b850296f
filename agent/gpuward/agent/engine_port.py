"""Say where an engine shows its metrics page: by its command line and its environment.  Pure.

An engine holds many sockets, and most are not for HTTP: ranks meet each other there, caches are
handed over.  Speaking HTTP to those could harm, so the one port is taken from the flag that sets
it, else from the variable that does, or is the engine's default; who finds nobody listening there
leaves it alone.  Variables are those of the engines' own sources: TGI's launcher has ``PORT`` (its
image sets it to 80), llama.cpp's server ``LLAMA_ARG_PORT``.  vLLM's ``VLLM_PORT`` is none: it is
where ranks meet.  SGLang, TensorRT-LLM and Triton have flags alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HIGHEST = 65_535


class Listening(NamedTuple):
    """A port, 0 where nothing says which, and whether it is one of TLS."""

    port: int = 0
    is_tls: bool = False


@dataclass(frozen=True, slots=True)
class _Settings:
    """How an engine is told where to listen, each engine's documentation; ``port``: by default."""

    port: int
    flags: tuple[str, ...] = ("--port",)
    variable: str = ""
    # Either says that there is a certificate.
    tls_flags: tuple[str, ...] = ()
    tls_variable: str = ""


SETTINGS = {
    "vllm": _Settings(8_000, tls_flags=("--ssl-certfile",)),
    "sglang": _Settings(30_000, tls_flags=("--ssl-certfile",)),
    "tgi": _Settings(3_000, flags=("--port", "-p"), variable="PORT"),
    "trtllm": _Settings(8_000),
    # The page has a port of its own.
    "triton": _Settings(8_002, flags=("--metrics-port",)),
    "llama.cpp": _Settings(
        8_080,
        variable="LLAMA_ARG_PORT",
        tls_flags=("--ssl-cert-file",),
        tls_variable="LLAMA_ARG_SSL_CERT_FILE",
    ),
}


def variables(engine: str) -> frozenset[str]:
    """Return the variables that matter, none of most engines; the rest of them is not read."""
    settings = SETTINGS.get(engine)
    if settings is None:
        return frozenset()
    return frozenset({settings.variable, settings.tls_variable} - {""})


def listening_in(engine: str, words: Sequence[str]) -> Listening:
    """Return where the command line ``words`` of ``engine`` says that it listens."""
    settings = SETTINGS.get(engine)
    if settings is None:
        return Listening()
    names = {word.partition("=")[0] for word in words}
    return Listening(_port_in(settings.flags, words), not names.isdisjoint(settings.tls_flags))


def listening(engine: str, told: Listening, environment: Mapping[str, str]) -> Listening:
    """Return where ``engine`` listens: as it was told by flags, else by variables or default."""
    settings = SETTINGS.get(engine)
    if settings is None:
        return Listening()
    port = told.port or _port(environment.get(settings.variable, "")) or settings.port
    return Listening(port, told.is_tls or bool(environment.get(settings.tls_variable)))


def _port_in(flags: Sequence[str], words: Sequence[str]) -> int:
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags:
            following = words[place + 1] if place + 1 < len(words) else ""
            return _port(value if equals else following)
    return 0


def _port(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(HIGHEST))
    return int(text) if is_number and int(text) <= HIGHEST else 0
