"""A real coordinator and three nodes: one node's cause becomes the service's, and changes hands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time

import grpc.aio
import httpx2
import msgspec
import pytest

from gpuward.coordinator import events as e
from gpuward.coordinator.diagnosis.weigh import diagnose
from gpuward.daemon.subprocesses import kill_group, start
from gpuward.v1 import coordinator_pb2 as pb
from gpuward.v1 import coordinator_pb2_grpc, finding_pb2, report_pb2

# The impact window is half a minute, and services are judged twice a second.
CONFIG = """
[state]
directory = "{folder}/state"
[grpc]
address = "127.0.0.1:0"
[http]
address = "127.0.0.1:0"
[escalation]
speed = 10.0
[[notifiers]]
type = "file"
name = "pages"
path = "{folder}/pages.jsonl"
"""
BEGAN_S = 7 * 86_400.0


@pytest.fixture
def coordinator(tmp_path):
    """Yield its gRPC and web addresses."""
    (tmp_path / "c.toml").write_text(CONFIG.format(folder=tmp_path))
    command = [sys.executable, "-m", "gpuward.coordinator", "run", "--config"]
    log = (tmp_path / "log").open("wb")
    process = start([*command, str(tmp_path / "c.toml")], env=os.environ, stdout=log, stderr=log)
    addresses = tmp_path / "state" / "addresses.json"
    while not addresses.exists():
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.01)
    yield json.loads(addresses.read_text())
    kill_group(process.pid, signal.SIGTERM)
    process.wait(200)
    log.close()


class Node:
    """A node with one replica of the service ``chat``."""

    def __init__(self, name, session):
        self.name, self.session = name, session
        self.seq = self.requests = self.failed = 0

    async def hello(self):
        hello = pb.Hello(protocol_revision=1, node=self.name, boot_id="b", agent_version="1")
        await self.session.write(pb.SessionRequest(hello=hello))
        await self.session.read()
        await self.report()

    async def report(self, *findings, requests=0, failed=0):
        """Report that so many more requests came and failed; return once it is acknowledged."""
        self.seq += 1
        self.requests += requests
        self.failed += failed
        now_s = time.time()
        totals = report_pb2.ServiceTotals(
            service="chat",
            instance=f"{self.name}:8000",
            requests=self.requests,
            failed=self.failed,
            ready=True,
        )
        totals.started_at.FromNanoseconds(int((now_s - BEGAN_S) * 1e9))
        totals.observed_at.FromNanoseconds(int(now_s * 1e9))
        report = report_pb2.Report(
            node=self.name,
            boot_id="b",
            agent_instance="a",
            seq=self.seq,
            findings=findings,
            service_totals=[totals],
        )
        await self.session.write(pb.SessionRequest(report=report))
        answer = await self.session.read()
        assert self.seq == answer.report_ack.report_seq

    def verdict(self, cause, domain, action="NONE"):
        facts = {"verdict": cause, "advice": f"look for {cause}", "question_4": "no"}
        evidence = [finding_pb2.Evidence(name=name, text=text) for name, text in facts.items()]
        evidence.append(finding_pb2.Evidence(name="sign", text=f"for: {cause} shows"))
        return finding_pb2.Finding(
            finding_id="why-1",
            dedup_key=f"{self.name}|why",
            kind="service.latency.cause",
            subject=finding_pb2.Subject(
                node=self.name, service="chat", endpoint=f"{self.name}:8000"
            ),
            default_class="FINDING_CLASS_STORE",
            cause_domain=f"CAUSE_DOMAIN_{domain}",
            suggested_action=f"SUGGESTED_ACTION_{action}",
            confidence=0.9,
            summary=f"chat at {self.name}:8000 fails: {cause}.",
            evidence=evidence,
        )


async def incident(web, *, cause, scope):
    """Return the incident once it has that diagnosis."""
    async with httpx2.AsyncClient(base_url=f"http://{web}") as browser:
        until_s = time.monotonic() + 200
        while time.monotonic() < until_s:
            listed = (await browser.get("/api/v1/incidents")).json()["incidents"]
            for each in listed:
                known = each["diagnosis"] or {}
                if (cause, scope) == (known.get("cause"), known.get("scope")):
                    return (await browser.get(f"/api/v1/incidents/{each['id']}")).json()
            await asyncio.sleep(0.1)
    raise AssertionError(listed)


async def run_three_nodes(addresses, folder):
    async with grpc.aio.insecure_channel(addresses["grpc"]) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        nodes = [Node(f"n{number}", stub.Session()) for number in (1, 2, 3)]
        for node in nodes:
            await node.hello()
        sick, *others = nodes
        for node in others:
            await node.report(requests=400)
        await sick.report(sick.verdict("corrupt_results", "MODEL"), requests=400, failed=300)
        first = await incident(addresses["http"], cause="corrupt_results", scope="one")
        await asyncio.to_thread(pages, folder, 1)
        for node in (*others, sick):
            overload = node.verdict("overload", "CAPACITY", "SCALE_UP")
            await node.report(overload, requests=400, failed=300)
        return first, await incident(addresses["http"], cause="overload", scope="all")


def test_a_nodes_verdict_becomes_the_services(coordinator, tmp_path):
    """Its cause, its rotation and its timeline follow; nobody is paged by a second chain.

    What the timeline keeps of each judgement is enough to come to the same again.
    """
    first, last = asyncio.run(run_three_nodes(coordinator, tmp_path))

    assert first["id"] == last["id"]
    assert ("ml", "model") == (first["rotation"], first["domain"])
    assert "answers unlike its siblings' at n1:8000" == first["diagnosis"]["headline"]
    assert ("infrastructure", "capacity") == (last["rotation"], last["domain"])
    assert "overload at all 3 replicas" == last["diagnosis"]["headline"]
    assert "a slow upstream: 3 nodes say no" in last["diagnosis"]["ruled_out"]
    assert "overload" in last["probable_cause"]["summary"]

    told = [entry["text"] for entry in last["timeline"]]
    assert any(text.startswith("Diagnosis: Answers unlike its siblings' at n1") for text in told)
    assert any(
        text.startswith(
            "Diagnosis changed from “answers unlike its siblings' at n1:8000” to “overload"
        )
        for text in told
    )
    handed = "Handed from ml to infrastructure: overload"
    assert 1 == sum(text.startswith(handed) for text in told)

    events = [
        msgspec.convert(entry["event"], e.AnyEvent)
        for entry in last["timeline"]
        if entry["event"]["type"] == "Diagnosed"
    ]
    before = None
    for event in events:
        assert event.diagnosis == diagnose(event.case, before)
        before = event.diagnosis

    first_page, handover = pages(tmp_path, 2)
    assert ("L1", "handover-infrastructure") == (first_page["level"], handover["level"])
    assert "fail, answers unlike its siblings' at n1:8000, 25.0% of 1200" in first_page["summary"]
    assert handover["diagnosis"].startswith("Overload at ")
    assert "look for overload" == handover["advice"]


def pages(folder, count):
    """Return the pages that have left, once there are so many."""
    path, until_s = folder / "pages.jsonl", time.monotonic() + 200
    while time.monotonic() < until_s:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= count:
            return [json.loads(line) for line in found]
        time.sleep(0.05)
    raise AssertionError(found)
