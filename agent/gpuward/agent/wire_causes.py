"""Turn what is considered of a replica into ``gpuward.v1`` messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent import wire
from gpuward.agent.detectors.latency_cause import AGAINST, FOR, row, verdict_of
from gpuward.agent.diagnosis.case import cases
from gpuward.agent.diagnosis.considered import considered
from gpuward.agent.diagnosis.next_test import next_test
from gpuward.agent.diagnosis.verdict import is_open
from gpuward.v1 import agent_pb2, finding_pb2

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.case import Case
    from gpuward.agent.diagnosis.considered import Considered
    from gpuward.agent.diagnosis.verdict import Verdict
    from gpuward.agent.window import Window


def causes(window: Window, service: str, wall_offset_s: float) -> agent_pb2.GetCausesResponse:
    """Return what is considered now of every replica of ``service``; of all where it is empty."""
    return agent_pb2.GetCausesResponse(
        replicas=[
            _replica(case, wall_offset_s) for case in cases(window) if service in ("", case.service)
        ]
    )


def _replica(case: Case, wall_offset_s: float) -> agent_pb2.ReplicaCauses:
    verdict = verdict_of(case)
    return agent_pb2.ReplicaCauses(
        subject=finding_pb2.Subject(
            service=wire.valid(case.service, wire.MAX_NAME_LENGTH),
            endpoint=wire.valid(case.endpoint, wire.MAX_NAME_LENGTH),
        ),
        in_trouble=is_open(case),
        verdict=verdict.name,
        confidence=verdict.confidence,
        causes=[_cause(verdict, each, wall_offset_s) for each in considered(verdict)],
        next_test=next_test(verdict),
    )


def _cause(verdict: Verdict, each: Considered, wall_offset_s: float) -> agent_pb2.PossibleCause:
    standing = each.standing
    return agent_pb2.PossibleCause(
        name=each.hypothesis.name,
        says=each.hypothesis.says,
        decibans=standing.decibans if standing else None,
        signs=[
            agent_pb2.CauseSign(
                evidence=wire.evidence(
                    row(verdict, weight.item, FOR if weight.decibans > 0 else AGAINST),
                    wall_offset_s,
                ),
                decibans=weight.decibans,
            )
            for weight in (standing.weights if standing else ())
        ],
        ruled_out=each.ruled_out,
        unknown=each.unknown,
    )
