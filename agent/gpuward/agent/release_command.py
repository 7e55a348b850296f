"""`gpuward agent release`: make the running agent let go of the driver, and say what else holds it.

For an upgrade of the driver, and for the reset of a GPU: neither is possible while a process has
the driver open.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.device_holders import DeviceHolders
    from gpuward.v1 import agent_pb2

PROC = Path("/proc")

# The agent ends its children, then its workers close their GPUs.
ANSWERED_WITHIN_S = 20.0
STILL_HELD = 3
SECONDS = {"s": 1, "m": 60, "h": 3_600}
AT_MOST_S = 86_400
_DURATION = re.compile(r"(\d{1,5})([smh])")


def to_seconds(_context: click.Context, _option: click.Parameter, words: str) -> int:
    """Return ``90s``, ``30m`` or ``2h`` in seconds; raises ``click.BadParameter``."""
    found = _DURATION.fullmatch(words)
    if found is None:
        raise click.BadParameter(f"{words!r} is not like 90s, 30m or 2h")
    duration_s = int(found[1]) * SECONDS[found[2]]
    if not 0 < duration_s <= AT_MOST_S:
        raise click.BadParameter(f"{words} is not within 1s..24h")
    return duration_s


@click.command()
@CONFIG_OPTION
@click.option("--address", default="", help="The agent's [grpc] address; found where left out.")
@click.option("--for", "for_s", callback=to_seconds, default="30m", show_default=True)
@click.option("--reason", default="", help="For whoever reads of it later.")
@click.option("--end", is_flag=True, help="It is done: open the driver again.")
def release(*, path: Path, address: str, for_s: int, reason: str, end: bool) -> None:
    """Let go of the driver, so that it can be upgraded or a GPU reset.

    Meanwhile the node is in maintenance: what is found about its hardware is kept, and wakes
    nobody.  Who else has the driver's files open is listed: end those too.  Exit status: 0 the
    agent holds nothing, 1 no agent answers, 3 something of the agent's is still held.
    """
    from gpuward.agent.agent_client import NoAnswerError, address_of
    from gpuward.agent.device_holders import device_holders
    from gpuward.agent.process_identity import sees_every_pid

    try:
        answer = ask(address or address_of(load_or_default(path)), for_s, reason, end=end)
    except NoAnswerError as error:
        exit_with(str(error), CANNOT_START)
    if end:
        click.echo("The agent opens the driver again.")
        return
    until = answer.until.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")
    click.echo(f"Maintenance until {until}; end it with: gpuward agent release --end")
    for line in answer.still_held:
        click.echo(f"still held: {line}", err=True)
    for line in others(device_holders(PROC), sees_every_pid=sees_every_pid(PROC)):
        click.echo(line, err=True)
    if answer.still_held:
        sys.exit(STILL_HELD)


def others(holders: DeviceHolders, *, sees_every_pid: bool) -> Iterator[str]:
    """Yield a line for each other process that has the driver open, and what cannot be known."""
    for each in holders.found:
        name = f", {each.key}" if each.key else ""
        yield f"open elsewhere: {', '.join(each.files)} by process {each.pid}{name}"
    if holders.hidden:
        yield f"not looked into: {holders.hidden} processes; CAP_SYS_PTRACE would show them"
    if not sees_every_pid:
        yield "only processes of this container are seen: look for others on the host"


def ask(address: str, for_s: int, reason: str, *, end: bool) -> agent_pb2.ReleaseResponse:
    """Return the answer of the agent at ``address``; raises ``NoAnswerError``."""
    import grpc
    from google.protobuf.duration_pb2 import Duration as Span

    from gpuward.agent.agent_client import NoAnswerError, complaint, connected
    from gpuward.v1.agent_pb2 import ReleaseRequest

    request = ReleaseRequest(duration=Span(seconds=for_s), reason=reason, end=end)
    with connected(address) as agent:
        try:
            return agent.stub.Release(request, timeout=ANSWERED_WITHIN_S)
        except grpc.RpcError as error:
            raise NoAnswerError(f"{address}: {complaint(error)}") from error
