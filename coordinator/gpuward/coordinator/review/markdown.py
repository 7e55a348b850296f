"""Show a review as Markdown that any tracker takes; ``[t7]`` is entry 7 of its timeline.

Titles, summaries and notes come from outside, so what Markdown or HTML would read as markup is
escaped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpuward.coordinator.review.wording import duration, plain, utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuward.coordinator.review.model import Claim, Review

MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(review: Review) -> str:
    """Return the review as one document that ends with a newline."""
    return "\n".join(_lines(review)) + "\n"


def _lines(review: Review) -> Iterator[str]:
    yield f"# Review of incident {_plain(review.incident_id)}: {_plain(review.title)}"
    yield ""
    yield "Draft, written from the timeline; [t7] is entry 7. Blameless: people appear as roles."
    yield from _section("Summary", review.summary)
    yield from _table(
        "Timeline",
        ("entry", "time", "after", "what"),
        ((f"t{m.seq}", utc(m.at_s), _after(m.after_s), _plain(m.text)) for m in review.timeline),
    )
    yield from ("", "## Root cause")
    yield from _section("Proximate cause", review.proximate, level="###")
    yield from _section("Contributing factors", review.contributing, level="###")
    yield from _section("Detection", review.detection)
    yield from _section("Resolution", review.resolution)
    yield from _table(
        "Durations",
        ("time to", "measured from", "took", "shown by"),
        ((s.name, s.meaning, _took(s.seconds), _entries(s.seqs)) for s in review.spans),
    )
    yield from _table(
        "Action items (proposed)",
        ("purpose", "action", "owner", "deadline", "because"),
        (
            (a.purpose, _plain(a.action), a.owner, a.due.isoformat(), _claim(a.because))
            for a in review.actions
        ),
    )
    yield from _section("Questions for the review", review.questions)


def _section(title: str, claims: Iterable[Claim], level: str = "##") -> Iterator[str]:
    yield from ("", f"{level} {title}", "")
    yield from [f"- {_claim(claim)}" for claim in claims] or ["- None that the timeline shows."]


def _table(title: str, head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    head = tuple(head)
    yield from ("", f"## {title}", "", _row(head), _row("---" for _ in head))
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _claim(claim: Claim) -> str:
    return f"{_plain(claim.text)} {_entries(claim.seqs)}"


def _entries(seqs: Iterable[int]) -> str:
    return " ".join(f"[t{seq}]" for seq in seqs)


def _after(seconds: float) -> str:
    return f"{'−' if seconds < 0 else '+'}{duration(abs(seconds))}"  # noqa: RUF001 - a minus sign


def _took(seconds: float | None) -> str:
    return "not yet" if seconds is None else duration(seconds)


def _plain(text: str) -> str:
    """Return ``text`` on one line, meaning nothing to Markdown or HTML."""
    return MARKUP.sub(r"\\\1", plain(text))
