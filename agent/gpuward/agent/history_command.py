"""`gpuward agent history`: draw what a signal of this node was, as the running agent keeps it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default
from gpuward.agent.release_command import to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gpuward.agent.agent_client import Agent
    from gpuward.agent.history_chart import Reading
    from gpuward.v1 import agent_pb2

WIDTH_WITHOUT_TERMINAL = 80
WIDEST = 160
NARROWEST = 40
MAX_CHARTS = 16
# Several are small, so that they can be compared on one screen.
ROWS_OF_ONE = 10
ROWS_OF_SEVERAL = 3


class NoHistoryError(Exception):
    """There is nothing to draw; the message says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series; empty where it does not matter.  ``gpu``: UUID or index."""

    signal: str
    gpu: str = ""
    process: str = ""
    service: str = ""


@click.command()
@click.argument("signal")
@CONFIG_OPTION
@click.option("--address", default="", help="The agent's [grpc] address; found where left out.")
@click.option("--gpu", default="", metavar="UUID|INDEX", help="Of one GPU alone.")
@click.option("--process", default="", metavar="KEY", help="Of one process alone.")
@click.option("--service", default="", metavar="NAME", help="Of one service alone.")
@click.option("--since", "since_s", callback=to_seconds, default="30m", show_default=True)
def history(
    *, signal: str, path: Path, address: str, gpu: str, process: str, service: str, since_s: int
) -> None:
    """Draw SIGNAL over time, as gpuward agent history gpu_memory_used_bytes --since 2h.

    Names are those of docs/metrics.md without the prefix.  The last hour is by the second, the day
    before by ten seconds, with the least and the most of each minute; signals that are not kept so
    long have five minutes.
    """
    from gpuward.agent.agent_client import NoAnswerError, address_of, connected

    wanted = Wanted(signal.removeprefix("gpuward_"), gpu, process, service)
    columns, _ = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0))
    try:
        with connected(address or address_of(load_or_default(path))) as agent:
            width = min(max(columns, NARROWEST), WIDEST)
            for line in lines(agent, wanted, since_s=since_s, width=width):
                click.echo(line)
    except (NoAnswerError, NoHistoryError) as error:
        exit_with(str(error), CANNOT_START)


def lines(agent: Agent, wanted: Wanted, *, since_s: float, width: int) -> Iterator[str]:
    """Yield the charts that the agent has figures for; raises ``NoHistoryError``."""
    from gpuward.agent import history_chart as chart

    snapshot = agent.snapshot()
    until = snapshot.at.ToNanoseconds() / 1e9
    series = series_of(snapshot, wanted)
    drawn = [(key, readings_of(agent, key, until - since_s)) for key in series[:MAX_CHARTS]]
    drawn = [(key, readings) for key, readings in drawn if readings]
    if not drawn:
        raise NoHistoryError(f"nothing is known of {wanted.signal} in that time")
    # One scale for all: else the quietest GPU looks like the busiest.
    frame = chart.frame_of([r for _, readings in drawn for r in readings], until - since_s, until)
    rows = ROWS_OF_ONE if len(drawn) == 1 else ROWS_OF_SEVERAL
    yield wanted.signal
    for key, readings in drawn:
        yield ""
        yield from _headed(snapshot, key, width)
        yield from chart.chart(readings, frame, signal=wanted.signal, width=width, rows=rows)
        if len(drawn) > 1:
            yield f"{'':11} {chart.summary(readings, signal=wanted.signal, zone=None)}"[:width]
    yield from chart.time_axis(frame, width, zone=None)
    if len(drawn) == 1:
        yield ""
        yield f" {chart.summary(drawn[0][1], signal=wanted.signal, zone=None)}"[:width]
    if len(series) > MAX_CHARTS:
        yield f" {len(series) - MAX_CHARTS} more: choose with --gpu, --process or --service"


def series_of(snapshot: agent_pb2.Snapshot, wanted: Wanted) -> Sequence[agent_pb2.SeriesKey]:
    """Return the series that ``wanted`` can mean, of GPUs in their order.

    One that has no value now can have had one: then what was asked for is itself a series.
    """
    from gpuward.v1 import agent_pb2

    indexes = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    uuids = {str(gpu.index): gpu.uuid for gpu in snapshot.gpus}
    gpu = uuids.get(wanted.gpu, wanted.gpu)
    found = [
        value.series
        for value in snapshot.values
        if value.series.signal == wanted.signal
        and gpu in ("", value.series.gpu_uuid)
        and wanted.process in ("", value.series.process_key)
        and wanted.service in ("", value.series.service)
    ]
    asked = agent_pb2.SeriesKey(
        signal=wanted.signal, gpu_uuid=gpu, process_key=wanted.process, service=wanted.service
    )
    return sorted(
        found or [asked],
        key=lambda key: (
            indexes.get(key.gpu_uuid, len(indexes)),
            key.process_key,
            key.service,
            key.endpoint,
        ),
    )


def readings_of(agent: Agent, key: agent_pb2.SeriesKey, since_s: float) -> list[Reading]:
    """Return what the agent has kept of ``key`` since a wall time."""
    from gpuward.agent.history_chart import Reading
    from gpuward.v1 import agent_pb2

    request = agent_pb2.GetHistoryRequest(series=key)
    request.since.FromNanoseconds(round(since_s * 1e9))
    answer = agent.ask(agent.stub.GetHistory, request)
    return [
        Reading(
            at_s=point.at.ToNanoseconds() / 1e9,
            value=point.value,
            least=point.least if point.HasField("least") else point.value,
            most=point.most if point.HasField("most") else point.value,
        )
        for point in answer.points
    ]


def _headed(snapshot: agent_pb2.Snapshot, key: agent_pb2.SeriesKey, width: int) -> Iterator[str]:
    """Yield whose series it is, where it is somebody's."""
    from gpuward.memory_map.text import plain

    card = next((gpu for gpu in snapshot.gpus if gpu.uuid == key.gpu_uuid), None)
    gpu = key.gpu_uuid if card is None else f"GPU {card.index}  {card.name}"
    words = (gpu, key.process_key, key.service, key.endpoint)
    heading = "  ".join(plain(word) for word in words if word)
    if heading:
        yield heading[:width]
