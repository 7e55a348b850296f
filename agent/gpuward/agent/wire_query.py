"""Turn questions into the agent's values and its answers into ``gpuward.v1`` messages."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from gpuward.agent import wire
from gpuward.agent.model import SeriesKey, Subject
from gpuward.v1 import agent_pb2, finding_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpuward.agent.history import Point
    from gpuward.agent.model import Result
    from gpuward.agent.probe_request import Probed
    from gpuward.agent.run_check import Checked


def series_key(message: agent_pb2.SeriesKey) -> SeriesKey:
    """Return the series that a query names."""
    return SeriesKey(
        signal=message.signal,
        gpu=message.gpu_uuid,
        process=message.process_key,
        service=message.service,
        endpoint=message.endpoint,
    )


def span(request: agent_pb2.GetHistoryRequest, wall_offset_s: float) -> tuple[float, float]:
    """Return the monotonic interval that is asked for, open ends as infinities."""
    since, until = -inf, inf
    if request.HasField("since"):
        since = request.since.seconds + request.since.nanos / 1e9 - wall_offset_s
    if request.HasField("until"):
        until = request.until.seconds + request.until.nanos / 1e9 - wall_offset_s
    return since, until


def history_points(points: Iterable[Point], wall_offset_s: float) -> list[agent_pb2.HistoryPoint]:
    """Return ``points`` as the answer to a query says them."""
    return [
        agent_pb2.HistoryPoint(
            at=wire.wall_time(point.at_s + wall_offset_s),
            value=point.value,
            least=point.least,
            most=point.most,
        )
        for point in points
    ]


def subject(message: finding_pb2.Subject) -> Subject:
    """Return the subject that a question is about; what else it says of it does not matter."""
    return Subject(
        gpu=message.gpu_uuid,
        process=message.process_key,
        service=message.service,
        endpoint=message.endpoint,
    )


def checked(outcome: Checked, wall_offset_s: float) -> agent_pb2.RunCheckResponse:
    """Return what a check said."""
    return agent_pb2.RunCheckResponse(
        result=_result(outcome.result),
        evidence=[wire.evidence(fact, wall_offset_s) for fact in outcome.evidence],
        reason=wire.valid(outcome.reason, wire.MAX_TEXT_LENGTH),
    )


def probed(outcome: Probed) -> agent_pb2.RunProbeResponse:
    """Return what a probe measured."""
    return agent_pb2.RunProbeResponse(
        result=_result(outcome.result),
        figures=[
            agent_pb2.ProbeFigure(
                name=wire.valid(name, wire.MAX_NAME_LENGTH),
                value=value,
                unit=wire.valid(_unit(name), wire.MAX_NAME_LENGTH),
            )
            for name, value in sorted(outcome.figures.items())
        ],
        reason=wire.valid(outcome.reason, wire.MAX_TEXT_LENGTH),
    )


def _unit(figure: str) -> str:
    """Return the unit that the name of a figure ends in: ``seconds``, ``bytes_per_second``."""
    amount, per, time = figure.partition("_per_")
    return amount.rpartition("_")[2] + per + time


def _result(result: Result) -> finding_pb2.CheckResult.ValueType:
    return finding_pb2.CheckResult.Value(f"CHECK_RESULT_{result.name}")
