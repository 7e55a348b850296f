"""What a page says, by name: for providers that show a table beside the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.coordinator.page import Message


def facts(message: Message) -> dict[str, str]:
    """Return name and text of whatever ``message`` knows, the most useful first."""
    said = {
        "impact": "\n".join(message.reasons),
        "why": message.diagnosis,
        "for": "\n".join(message.supports),
        "against": "\n".join(message.contradicts),
        "ruled out": "\n".join(message.ruled_out),
        "suspects": "\n".join(message.suspects),
        "findings": "\n".join(message.causes),
        "next": ": ".join(filter(None, (message.action.replace("_", " "), message.advice))),
        "level": message.level,
        "for whom": message.target,
        "incident": message.url,
    }
    return {name: text for name, text in said.items() if text}


def cut(text: str, limit: int) -> str:
    """Return ``text`` in at most ``limit`` characters, with dots where some are missing."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
