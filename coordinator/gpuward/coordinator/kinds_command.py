"""`gpuward coordinator kinds`: which kinds of findings page, and who decided that.

A client of the coordinator's JSON API, as `gpuward incidents` is.
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from gpuward.coordinator.api_client import ask, json_option, print_json, url_option
from gpuward.coordinator.model import FindingClass
from gpuward.coordinator.review.wording import plain, utc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLASSES = [each.value for each in FindingClass]


def changing(function: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and the options of a command that changes a kind."""
    for option in (
        click.argument("kind"),
        click.option("--reason", default="", help="Why, for those who come after you."),
        click.option("--by", default=getpass.getuser, help="Your name; by default your login."),
        url_option,
        json_option,
    ):
        function = option(function)
    return function


to_option = click.option(
    "--to", type=click.Choice(CLASSES), help="The class; without it, one step from what it is now."
)


@click.group()
def kinds() -> None:
    """Say which kinds of findings page, which are tickets, which are kept."""


@kinds.command("list")
@click.option("--changed", is_flag=True, help="Only kinds that are told otherwise than agents say.")
@url_option
@json_option
def list_command(*, changed: bool, url: str, as_json: bool) -> None:
    """List every kind: how it is told, what agents say, who changed it and why."""
    answer = ask(url, "GET", "/api/v1/kinds")
    if as_json:
        print_json(answer)
        return
    rows = [row for row in answer["kinds"] if row["override"] or not changed]
    click.echo("\n".join(_table(rows)) if rows else "No kind was changed.")


@kinds.command()
@to_option
@changing
def promote(*, kind: str, to: str | None, **options: Any) -> None:
    """Make KIND at least this loud: promote gpu.pcie.replays --to page."""
    _change(kind, "promote", to, **options)


@kinds.command()
@to_option
@changing
def demote(*, kind: str, to: str | None, **options: Any) -> None:
    """Make KIND at most this loud: demote gpu.memory.unattributed --to store."""
    _change(kind, "demote", to, **options)


@kinds.command()
@changing
def reset(*, kind: str, **options: Any) -> None:
    """Let KIND be as loud as agents say again."""
    _change(kind, "reset", None, **options)


def _change(
    kind: str, verb: str, to: str | None, *, reason: str, by: str, url: str, as_json: bool
) -> None:
    body = {"verb": verb, "by": by, "reason": reason, **({"to": to} if to else {})}
    row = ask(url, "POST", f"/api/v1/kinds/{quote(kind, safe='')}", body)
    if as_json:
        print_json(row)
    else:
        told = row["told"] or "as a newer agent says"
        click.echo(f"{plain(row['kind'])}: told {told} from now on; agents say {row['default']}")


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    width = max(len(row["kind"]) for row in rows)
    yield f"{'kind':{width}}  {'told':6}  {'agents':6}  changed"
    for row in rows:
        change = row["override"]
        words = ""
        if change:
            why = f": {change['reason']}" if change["reason"] else ""
            words = plain(f"{change['verb']}d by {change['by']}, {utc(change['at_s'])}{why}")
        told, default = row["told"] or "", row["default"] or ""
        yield f"{plain(row['kind']):{width}}  {told:6}  {default:6}  {words}".rstrip()
