"""Write a request of few tokens for each kind of endpoint, and read what came back.  Pure.

Paths and fields are those of OpenAI's API reference (/v1/completions, /v1/chat/completions), of
SGLang's native API (/generate) and of Triton's generate extension.  All are asked to stream, so
that the first token can be timed; who answers in one piece is understood too.  The prompt is a
table that repeats itself: whatever model goes on with it is sure of each token, so that greedy
answers agree however requests are batched; and it says nothing of anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.agent.samplers.endpoint_config import Kind

CANARY_TOKENS = 16
# Two-digit numbers without a rule: the third time round, only what came before tells the next.
_ROUND = "83 17 52 94 26 71 38 65 49 12 97 30 58 84 23 76"
PROMPT = f"{_ROUND}\n{_ROUND}\n83 17"
# A token's text, somewhere in a part of an answer; an empty one is no token yet.
_TEXT = re.compile(rb'"(?:text|content|text_output)"\s*:\s*"(?!")')
# Of what an endpoint says is wrong, a person reads so much.
REASON_LENGTH = 120


class AnswerError(ValueError):
    """What came back, with a good status, is an error or no answer; the message is one line."""


@dataclass(frozen=True, slots=True)
class Written:
    """A request: where to, and what it says; a GET where that is nothing."""

    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Said:
    """What an endpoint answered: its words in order, and how it calls its model."""

    words: tuple[str, ...]
    model: str = ""


def write(kind: Kind, model: str, tokens: int) -> Written:
    """Return the request for ``tokens`` greedy tokens."""
    named = {"model": model} if model else {}
    openai = {**named, "max_tokens": tokens, "temperature": 0, "seed": 0, "stream": True}
    sampling = {"max_new_tokens": tokens, "temperature": 0}
    match kind:
        case "completions":
            path, body = "/v1/completions", {**openai, "prompt": PROMPT}
        case "chat":
            said = [{"role": "user", "content": PROMPT}]
            path, body = "/v1/chat/completions", {**openai, "messages": said}
        case "sglang":
            path = "/generate"
            body = {"text": PROMPT, "sampling_params": sampling, "stream": True}
        case "triton":
            path = f"/v2/models/{quote(model, safe='')}/generate_stream"
            body = {
                "text_input": PROMPT,
                "max_tokens": tokens,
                "temperature": 0,
                "random_seed": 0,
                "stream": True,
            }
    return Written(path, msgspec.json.encode(body))


def ask_build(kind: Kind, model: str) -> Written:
    """Return the request for what tells one build of engine and model from another."""
    match kind:
        case "sglang":
            return Written("/get_model_info")
        case "triton":
            return Written(f"/v2/models/{quote(model, safe='')}")
        case _:
            return Written("/version")


def has_token(part: bytes) -> bool:
    """Return whether ``part`` of an answer, as it came off the wire, holds a token."""
    return _TEXT.search(part) is not None


def read(body: bytes) -> Said:
    """Return what the body of an answer says, streamed or not; raises ``AnswerError``."""
    try:
        parts = [_object(part) for part in _parts(body)]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerError(f"not JSON: {error}"[:REASON_LENGTH]) from error
    if any(part.get("error") for part in parts):
        # The words of an error may quote a request; ours says nothing, another's might.
        raise AnswerError("an error instead of a token")
    texts = [text for part in parts if (text := _text(part)) is not None]
    if not texts:
        raise AnswerError("no token")
    # SGLang repeats all that it has said in each part.
    text = texts[-1] if "meta_info" in parts[-1] else "".join(texts)
    return Said(tuple(text.split()), _name(parts))


def _parts(body: bytes) -> Iterable[bytes]:
    """Return each JSON text of ``body``: those of its events, or all of it."""
    if body.lstrip().startswith((b"{", b"[")):
        return (body,)
    lines = (line.strip() for line in body.splitlines() if line.startswith(b"data:"))
    data = (line.removeprefix(b"data:").strip() for line in lines)
    return (part for part in data if part and part != b"[DONE]")


def _object(text: bytes) -> dict[str, Any]:
    found = msgspec.json.decode(text)
    return found if isinstance(found, dict) else {}


def _text(part: dict[str, Any]) -> str | None:
    """Return the text that ``part`` adds, ``None`` where it is no part of an answer."""
    choices = part.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        choice = choices[0]
        message = choice.get("delta") or choice.get("message") or {}
        text = message.get("content") if isinstance(message, dict) else None
        return _string(choice.get("text") or text)
    for name in ("text", "text_output"):
        if name in part:
            return _string(part[name])
    return None


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(parts: Iterable[dict[str, Any]]) -> str:
    """Return what the endpoint calls its model and its build, where it says."""
    for part in parts:
        names = (part.get("model") or part.get("model_name"), part.get("system_fingerprint"))
        if any(names):
            return " ".join(_string(name)[:200] for name in names if name)
    return ""
