"""`gpuward agent why`: why is a service slow, as the running agent of this node sees it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpuward.agent.agent_client import Agent

WIDTH_WITHOUT_TERMINAL = 80
WIDEST = 120
CAUSE = "service.latency.cause"


class NoSuchServiceError(Exception):
    """The agent does not know the service; the message says which it knows."""


@click.command()
@click.argument("service", default="")
@CONFIG_OPTION
@click.option("--address", default="", help="The agent's [grpc] address; found where left out.")
def why(*, service: str, path: Path, address: str) -> None:
    """Say why SERVICE is slow, or every service in trouble: the evidence for and against.

    The questions are those of the runbook for a latency spike, in its order.
    """
    from gpuward.agent.agent_client import NoAnswerError, address_of, connected

    columns, _ = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0))
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    try:
        with connected(address or address_of(load_or_default(path))) as agent:
            for line in lines(agent, service, width=min(columns, WIDEST), colours=colours):
                click.echo(line)
    except (NoAnswerError, NoSuchServiceError) as error:
        exit_with(str(error), CANNOT_START)


def lines(agent: Agent, service: str, *, width: int, colours: bool) -> Iterator[str]:
    """Yield what to print; raises ``NoSuchServiceError``."""
    from gpuward.agent.why_text import verdict_lines

    snapshot = agent.snapshot()
    known = sorted({totals.service for totals in snapshot.service_totals})
    if service and service not in known:
        names = ", ".join(known) or "none: see [[engines]] in its configuration"
        raise NoSuchServiceError(f"no service {service!r} on this node; there is {names}")
    at_s = snapshot.at.ToNanoseconds() / 1e9
    verdicts = [
        finding
        for finding in snapshot.findings
        if finding.kind == CAUSE and service in ("", finding.subject.service)
    ]
    for place, finding in enumerate(verdicts):
        if place:
            yield ""
        yield from verdict_lines(finding, at_s, width=width, colours=colours)
    if not verdicts:
        yield f"No trouble is seen with {service or ', '.join(known) or 'any service'}."
