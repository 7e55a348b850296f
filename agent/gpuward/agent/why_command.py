"""`gpuward agent why`: why is a service slow, as the running agent of this node sees it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.agent_client import Agent
    from gpuward.v1.agent_pb2 import ReplicaCauses
    from gpuward.v1.finding_pb2 import Finding

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

    The questions are those of the runbook for a latency spike, in its order.  Of SERVICE also what
    is ruled out, and what nobody can say, whether or not anything is wrong.
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
    """Yield what to print: of a service that was asked for also what its trouble is not.

    Raises ``NoSuchServiceError``.
    """
    from gpuward.agent.why_considered import (
        impossible_lines,
        not_raised_lines,
        possible_lines,
        well_line,
    )
    from gpuward.agent.why_text import verdict_lines

    snapshot = agent.snapshot()
    known = sorted({totals.service for totals in snapshot.service_totals})
    if service and service not in known:
        names = ", ".join(known) or "none: see [[engines]] in its configuration"
        raise NoSuchServiceError(f"no service {service!r} on this node; there is {names}")
    at_s = snapshot.at.ToNanoseconds() / 1e9
    verdicts = (it for it in snapshot.findings if it.kind == CAUSE)
    raised = {_of(it): it for it in verdicts if service in ("", it.subject.service)}
    looks = {_of(it): it for it in _looks(agent, service)}
    replicas = raised.keys() | looks.keys()
    # Those in trouble first.
    for place, replica in enumerate(sorted(replicas, key=lambda it: (it not in raised, it))):
        if place:
            yield ""
        finding, look = raised.get(replica), looks.get(replica)
        if finding is not None:
            yield from verdict_lines(finding, at_s, width=width, colours=colours)
        elif look is not None and look.in_trouble:
            yield from not_raised_lines(look, width=width, colours=colours)
        elif look is not None:
            yield well_line(look)
        if look is not None and look.in_trouble:
            yield from possible_lines(look, width=width, colours=colours)
        if look is not None and service:
            yield from impossible_lines(look, width=width, colours=colours)
    if not replicas:
        yield f"No replica is seen of {service or 'any service'}: see [[engines]]."


def _of(about: Finding | ReplicaCauses) -> tuple[str, str]:
    return (about.subject.service, about.subject.endpoint)


def _looks(agent: Agent, service: str) -> Sequence[ReplicaCauses]:
    from gpuward.v1 import agent_pb2

    request = agent_pb2.GetCausesRequest(service=service)
    answer: agent_pb2.GetCausesResponse = agent.ask(agent.stub.GetCauses, request)
    return answer.replicas
