"""Nodes as a coordinator sees them: sessions of agents, with reports that cost little to make.

What a report holds is what an agent of a serving node sends: one open finding with evidence, the
totals of one service, the health of twelve components.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from gpuward.v1 import coordinator_pb2, coordinator_pb2_grpc, finding_pb2, report_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMPONENTS = (
    *("detector.driver.unresponsive", "detector.process.memory.fragmentation", "detector.gpu.xid"),
    *("detector.gpu.memory.saturation", "sampler.engine", "sampler.kmsg", "sampler.nvml"),
    *("sampler.probe", "sampler.tap", "reporter", "spool", "query"),
)
ANSWER_WITHIN_S = 30.0


def stamp(wall_s: float) -> Timestamp:
    return Timestamp(seconds=int(wall_s), nanos=int(wall_s % 1 * 1e9))


class Session:
    """One node's session; a report at a time, each acknowledged before the next."""

    def __init__(self, name: str, channel: grpc.aio.Channel) -> None:
        self.name = name
        self._channel = channel
        self._seq = 0
        self._began_s = time.time()
        self._findings = [self.finding("process.memory.fragmentation", gpu="GPU-0", number=1)]

    async def greet(self) -> None:
        """Open the session: here, because a stream that says nothing for 10 s is closed."""
        self._stream = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel).Session()
        hello = coordinator_pb2.Hello(
            protocol_revision=1, node=self.name, boot_id="boot", agent_version="0.1.0"
        )
        await self._stream.write(coordinator_pb2.SessionRequest(hello=hello))
        await self._stream.read()

    def finding(
        self, kind: str, *, gpu: str, number: int, page: bool = False
    ) -> finding_pb2.Finding:
        """Return an open finding that has just been raised."""
        names = finding_pb2
        return names.Finding(
            finding_id=f"{self.name}-{number}",
            dedup_key=f"{self.name}|{kind}||{gpu}|vllm.service|",
            kind=kind,
            subject=names.Subject(node=self.name, gpu_uuid=gpu, process_key="vllm.service"),
            state=names.FINDING_STATE_RAISED,
            default_class=names.FINDING_CLASS_PAGE if page else names.FINDING_CLASS_STORE,
            cause_domain=names.CAUSE_DOMAIN_GPU if page else names.CAUSE_DOMAIN_CAPACITY,
            result=names.CHECK_RESULT_FAIL if page else names.CHECK_RESULT_WARN,
            since=stamp(self._began_s),
            last_seen=stamp(self._began_s),
            count=1,
            confidence=1.0,
            suggested_action=names.SUGGESTED_ACTION_NONE,
            summary="vllm.service holds 3.1 GiB that it can neither use nor give back.",
            evidence=[
                names.Evidence(name="stranded", value=3.3e9, unit="bytes", threshold=1e9),
                names.Evidence(name="headroom", value=5.1e8, unit="bytes", threshold=6.7e7),
                names.Evidence(name="reserved", value=7.2e10, unit="bytes"),
            ],
        )

    def add(self, finding: finding_pb2.Finding) -> None:
        """Have one more finding open from the next report on."""
        self._findings.append(finding)

    def change(self) -> None:
        """Let the node's first finding clear and be raised again, with other evidence."""
        self._findings[0].finding_id = f"{self.name}-again-{self._seq}"
        self._findings[0].evidence[0].value += 4096

    async def report(self) -> None:
        """Send the node's whole state, and return when the coordinator has acknowledged it."""
        self._seq += 1
        now = stamp(time.time())
        for finding in self._findings:
            finding.last_seen.CopyFrom(now)
            finding.count += 1
        message = report_pb2.Report(
            node=self.name,
            boot_id="boot",
            agent_instance="bench",
            seq=self._seq,
            at=now,
            findings=self._findings,
            service_totals=[self._totals(now)],
            components=[
                report_pb2.ComponentHealth(component=name, result=finding_pb2.CHECK_RESULT_OK)
                for name in COMPONENTS
            ],
        )
        await self._stream.write(coordinator_pb2.SessionRequest(report=message))
        answer = await self._stream.read()
        if answer is grpc.aio.EOF or answer.report_ack.report_seq != self._seq:
            raise RuntimeError(f"{self.name}: report {self._seq} was answered by {answer}")

    def _totals(self, now: Timestamp) -> report_pb2.ServiceTotals:
        return report_pb2.ServiceTotals(
            service="chat",
            instance=self.name,
            started_at=stamp(self._began_s),
            observed_at=now,
            requests=1_000 * self._seq,
            tokens=200_000 * self._seq,
            ready=True,
            running=8,
        )


@asynccontextmanager
async def channels(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Open ``count`` connections; sessions may share one, as streams of it."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    opened = [grpc.aio.insecure_channel(address, options) for _ in range(count)]
    yield opened
    for channel in opened:
        await channel.close()
