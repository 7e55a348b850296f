"""A real torch process fragments, and the agent, beside it, says so."""

from __future__ import annotations

import pytest

from gpuward.v1 import finding_pb2

# The agent starts, and findings must last three seconds.
pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
GIB = 1 << 30


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
        findings = agent.snapshot().findings
        for finding in findings:
            evidence = {fact.name: fact.value for fact in finding.evidence}
            is_ours = (finding.kind, finding.result) == ("process.memory.fragmentation", result)
            if is_ours and facts.items() <= evidence.items():
                return finding
    raise AssertionError(f"{facts} not in {findings}")


def facts_of(server):
    """What torch itself counts; NVML and tap are sampled apart, so evidence may lag by a second."""
    stats = server.ask("stats")
    return {
        "process_memory_stranded_bytes": stats["inactive_split_bytes"]["all"]["current"],
        "process_memory_reserved_bytes": stats["reserved_bytes"]["all"]["current"],
    }


def test_the_agent_finds_fragmentation(node, agent, tap):
    """The finding names process, GPU, stranded bytes and headroom, all as torch counts them.

    It is stored while memory is only in pieces, and a failure once that fails a request.
    """
    server = node.serve(**tap)

    fragment(server)
    stored = wait_for_finding(agent, server, finding_pb2.CHECK_RESULT_OK, facts_of(server))
    outcome = server.ask("malloc", "large", 1500 * MIB)
    facts = facts_of(server)
    # The error made torch give back whatever it could.
    facts["process_memory_headroom_bytes"] = server.ask("free_bytes")
    failure = wait_for_finding(agent, server, finding_pb2.CHECK_RESULT_FAIL, facts)

    assert outcome["error"] == "OutOfMemoryError"
    assert facts["process_memory_stranded_bytes"] > GIB
    assert failure.finding_id == stored.finding_id
    assert failure.subject.gpu_uuid == "GPU-00000000-aaaa-bbbb-cccc-ddddeeeeffff"
    assert failure.subject.pid == server.process.pid
