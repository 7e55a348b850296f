"""A real torch process fragments, and the agent, beside it, says so."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest

from gpuward.v1 import agent_pb2, agent_pb2_grpc, finding_pb2

# The agent starts, and findings must last three seconds.
pytestmark = [pytest.mark.torch, pytest.mark.simulator, pytest.mark.timeout(60)]

MIB = 1 << 20
GIB = 1 << 30
CONFIG = """
[node]
name = "n1"
[state]
directory = "{folder}/state"
[http]
address = "127.0.0.1:0"
[grpc]
address = "unix:{folder}/agent.sock"
[tap]
directory = "{folder}/tap"
[kmsg]
path = "/dev/null"
[probes]
mode = "off"
"""


@pytest.fixture
def agent(node, tmp_path):
    """The agent of the simulated node, and its query service."""
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gpuward.agent", "run", "--config", config],
        env=node.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with grpc.insecure_channel(f"unix:{tmp_path}/agent.sock") as channel:
            yield agent_pb2_grpc.AgentServiceStub(channel)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def fragment(server):
    """Leave a hole of 40 MiB in each of thirty segments."""
    names = [str(index) for index in range(60)]
    for name in names:
        server.ask("malloc", name, 100 * MIB)
    for name in names[::2]:
        server.ask("malloc", name, 60 * MIB)


def wait_for_finding(agent, server, result, facts):
    """The open fragmentation finding, once it has ``result`` and these facts as evidence."""
    for _ in range(100):
        server.ask("run_python", 0.2)
        answer = agent.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=5, wait_for_ready=True)
        for finding in answer.snapshot.findings:
            evidence = {fact.name: fact.value for fact in finding.evidence}
            is_ours = (finding.kind, finding.result) == ("process.memory.fragmentation", result)
            if is_ours and facts.items() <= evidence.items():
                return finding
    raise AssertionError(f"{facts} not in {answer.snapshot.findings}")


def facts_of(server):
    """What torch itself counts; NVML and tap are sampled apart, so evidence may lag by a second."""
    stats = server.ask("stats")
    return {
        "process_memory_stranded_bytes": stats["inactive_split_bytes"]["all"]["current"],
        "process_memory_reserved_bytes": stats["reserved_bytes"]["all"]["current"],
    }


def test_the_agent_finds_fragmentation(node, agent, installed_tap):
    """The finding names process, GPU, stranded bytes and headroom, all as torch counts them.

    It is a warning while memory is only in pieces, and a failure once that fails a request.
    """
    server = node.serve(**installed_tap)

    fragment(server)
    warning = wait_for_finding(agent, server, finding_pb2.CHECK_RESULT_WARN, facts_of(server))
    outcome = server.ask("malloc", "large", 1500 * MIB)
    facts = facts_of(server)
    # The error made torch give back whatever it could.
    facts["process_memory_headroom_bytes"] = server.ask("free_bytes")
    failure = wait_for_finding(agent, server, finding_pb2.CHECK_RESULT_FAIL, facts)

    assert outcome["error"] == "OutOfMemoryError"
    assert facts["process_memory_stranded_bytes"] > GIB
    assert failure.finding_id == warning.finding_id
    assert failure.subject.gpu_uuid == "GPU-00000000-aaaa-bbbb-cccc-ddddeeeeffff"
    assert failure.subject.pid == server.process.pid
