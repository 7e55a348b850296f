"""Draw a page as a Slack card: Block Kit, within its limits, with nothing that Slack would obey.

Limits: header 150 characters of plain text, a section 3,000 of mrkdwn, ten fields of 2,000; text
from outside has ``&``, ``<`` and ``>`` escaped, so that it can neither link nor call a channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuward.coordinator.notifiers.facts import cut, facts

if TYPE_CHECKING:
    from gpuward.coordinator.page import Message

HEADER_LIMIT = 150
FIELD_LIMIT = 2_000
SECTION_LIMIT = 3_000
# An escaped character has five at most.
GROWTH = 5


def card(message: Message) -> dict[str, Any]:
    """Return the part of a Slack message that shows ``message``; ``text`` is what a phone reads."""
    blocks = [
        {"type": "header", "text": _plain(cut(message.summary, HEADER_LIMIT))},
        {
            "type": "section",
            "fields": [
                _mrkdwn("Severity", message.severity, FIELD_LIMIT),
                _mrkdwn("State", _state(message), FIELD_LIMIT),
            ],
        },
        *(
            {"type": "section", "text": _mrkdwn(name.capitalize(), text, SECTION_LIMIT)}
            for name, text in facts(message).items()
            if name != "incident"
        ),
        {"type": "section", "text": {"type": "mrkdwn", "text": _link(message.url)}},
    ]
    return {"text": _escaped(f"{message.summary}: {_state(message)}"), "blocks": blocks}


def _state(message: Message) -> str:
    by = message.resolved_by or message.acknowledged_by
    return f"{message.state} by {by}" if by else message.state


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _mrkdwn(name: str, text: str, limit: int) -> dict[str, Any]:
    head = f"*{name}*\n"
    room = limit - len(head)
    whole = _escaped(text)
    # Cut before it is escaped: half an escape would be shown as it is.
    return {
        "type": "mrkdwn",
        "text": head + (whole if len(whole) <= room else _escaped(cut(text, room // GROWTH))),
    }


def _link(url: str) -> str:
    return f"<{_escaped(url).replace('|', '%7C')}|Incident in gpuward>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
