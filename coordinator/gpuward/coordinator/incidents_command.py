"""`gpuward incidents`: what is open, what is known of it, acknowledge it, resolve it.

A client of the coordinator's JSON API; it needs no access to the database.  Colours appear on a
terminal only, which click sees to.
"""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from gpuward.coordinator.api_client import ask, json_option, print_json, url_option
from gpuward.coordinator.incidents_text import details, table
from gpuward.coordinator.review.wording import plain
from gpuward.daemon.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable


def acting(function: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and the options of a command that changes an incident."""
    for option in (
        click.argument("incident_id", metavar="ID"),
        click.option("--by", default=getpass.getuser, help="Your name; by default your login."),
        click.option("--note", default="", help="What the timeline shall say."),
        url_option,
        json_option,
    ):
        function = option(function)
    return function


@click.group()
def incidents() -> None:
    """List, show, acknowledge, resolve."""


@incidents.command("list")
@click.option("--all", "with_resolved", is_flag=True, help="Show resolved ones too.")
@click.option(
    "--gpu",
    default="",
    metavar="SERIAL|UUID",
    help="Show all of this card, on whichever node it was.",
)
@url_option
@json_option
def list_command(*, with_resolved: bool, gpu: str, url: str, as_json: bool) -> None:
    """List incidents, newest first; only open ones, unless --all or --gpu."""
    query = f"?gpu={quote(gpu, safe='')}" if gpu else ""
    answer = ask(url, "GET", f"/api/v1/incidents{query}")
    is_wanted = with_resolved or bool(gpu)
    found = [i for i in answer["incidents"] if is_wanted or i["state"] != "resolved"]
    if as_json:
        print_json({"incidents": found})
    elif not found:
        click.echo(f"No incident is known of GPU {plain(gpu)}." if gpu else "Nothing is open.")
    else:
        click.echo("\n".join(table(found, SystemClock().wall_s(), of_a_card=bool(gpu))))


@incidents.command()
@click.argument("incident_id", metavar="ID")
@url_option
@json_option
def show(*, incident_id: str, url: str, as_json: bool) -> None:
    """Show one incident with its evidence and timeline."""
    incident = ask(url, "GET", _path(incident_id))
    if as_json:
        print_json(incident)
    else:
        click.echo("\n".join(details(incident, SystemClock().wall_s())))


@incidents.command()
@acting
def ack(*, incident_id: str, by: str, note: str, url: str, as_json: bool) -> None:
    """Acknowledge: the secondary is not paged; later steps wait for resolution."""
    _act(incident_id, "ack", by, note, url, as_json=as_json)


@incidents.command()
@acting
def resolve(*, incident_id: str, by: str, note: str, url: str, as_json: bool) -> None:
    """Resolve: the trouble and its cause are gone; every step stops."""
    _act(incident_id, "resolve", by, note, url, as_json=as_json)


def _act(incident_id: str, verb: str, by: str, note: str, url: str, *, as_json: bool) -> None:
    body = {"by": by, "note": note}
    incident = ask(url, "POST", f"{_path(incident_id)}/{verb}", body)
    if as_json:
        print_json(incident)
    else:
        who = incident["resolved_by"] or incident["acknowledged_by"]
        click.echo(f"{incident['id']}: {incident['state']} by {plain(who)}")


def _path(incident_id: str) -> str:
    return f"/api/v1/incidents/{quote(incident_id, safe='')}"
