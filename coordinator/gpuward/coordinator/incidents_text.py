"""Write incidents of the JSON API for a terminal: aligned, coloured by severity.

Titles and summaries come from outside, so nothing that a terminal would obey gets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpuward.coordinator.review.wording import duration, plain, utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COLOUR = {"SEV1": "red", "SEV2": "yellow", "SEV3": "cyan", "SEV4": "blue"}
GAP = "  "
DIAGNOSED = {
    "supports": "for",
    "contradicts": "against",
    "ruled_out": "ruled out",
    "suspects": "suspect",
}


def table(
    incidents: Sequence[dict[str, Any]], now_s: float, *, of_a_card: bool = False
) -> Iterator[str]:
    """Yield the lines of a table, one incident each below the head; the title comes last.

    ``of_a_card``: where that card was is told, in place of who is paged next.
    """
    head = ("SEV", "STATE", "AGE", "NODE" if of_a_card else "NEXT PAGE", "ID", "TITLE")
    rows = [head, *(_row(incident, now_s, of_a_card=of_a_card) for incident in incidents)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        yield GAP.join([_coloured(row[0], cells[0]), *cells[1:]]).rstrip()


def _row(incident: dict[str, Any], now_s: float, *, of_a_card: bool) -> tuple[str, ...]:
    return (
        incident["severity"],
        incident["state"],
        duration(now_s - incident["opened_at_s"]),
        plain(incident["node"]) or "-" if of_a_card else _next_page(incident, now_s),
        incident["id"],
        plain(incident["title"]),
    )


def _next_page(incident: dict[str, Any], now_s: float) -> str:
    after = incident["next_page"]
    if after is None:
        return "-"
    left_s = after["due_at_s"] - now_s
    when = f"in {duration(left_s)}" if left_s > 0 else "now"
    return f"{plain(after['level'])} {when}: {plain(after['people'])}"


def details(incident: dict[str, Any], now_s: float) -> Iterator[str]:
    """Yield the lines that show one incident, the newest event last, next to the prompt."""
    severity = incident["severity"]
    yield f"{_coloured(severity, severity)} {click.style(plain(incident['title']), bold=True)}"
    yield from _aligned(_facts(incident, now_s))
    for finding in incident["evidence"]:
        yield ""
        yield f"{plain(finding['kind'])}: {plain(finding['summary'])}"
        yield from _aligned((e["name"], _fact(e)) for e in finding["evidence"])
    yield ""
    for entry in incident["timeline"]:
        yield f"{utc(entry['at_s'])}{GAP}{plain(entry['text'])}"


def _facts(incident: dict[str, Any], now_s: float) -> Iterator[tuple[str, str]]:
    by = incident["resolved_by"] or incident["acknowledged_by"]
    yield "state", incident["state"] + (f" by {plain(by)}" if by else "")
    if incident["began_at_s"] < incident["opened_at_s"]:
        yield "began", utc(incident["began_at_s"])
    since_s = now_s - incident["opened_at_s"]
    yield "opened", f"{utc(incident['opened_at_s'])}, {duration(since_s)} ago"
    yield "rotation", f"{incident['rotation']}, cause domain {incident['domain']}"
    if incident["diagnosis"] is not None:
        yield from _diagnosis(incident["diagnosis"])
    # What the title says already is no news.
    cause = incident["probable_cause"]
    if cause is not None and cause["summary"] != incident["title"]:
        yield "cause", plain(cause["summary"])
    for reason in incident["reasons"]:
        if reason not in incident["title"]:
            yield "because", plain(reason)
    yield "next page", _next_page(incident, now_s)


def _diagnosis(diagnosis: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "why", plain(diagnosis["summary"])
    for name, label in DIAGNOSED.items():
        for line in diagnosis[name]:
            yield label, plain(line)
    if to_do := diagnosis["advice"] or diagnosis["next_test"]:
        yield "do", plain(to_do)


def _fact(evidence: dict[str, Any]) -> str:
    limit = evidence["threshold_text"]
    words = [evidence["value_text"], f"(limit {limit})" if limit else "", evidence["text"]]
    return plain(" ".join(word for word in words if word))


def _aligned(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    pairs = [(plain(name), value) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        yield f"  {name.ljust(width)}{GAP}{value}"


def _coloured(severity: str, text: str) -> str:
    return click.style(text, fg=COLOUR.get(severity), bold=True)
