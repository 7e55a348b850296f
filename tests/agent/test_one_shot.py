"""What happened once, as a finding: an out-of-memory error with its cause and what would help."""

from __future__ import annotations

import pytest

from gpuward.agent.model import Event, Process
from gpuward.agent.one_shot import one_shot
from gpuward.agent.window import Window

GIB = 2**30
PROCESS = Process("vllm:llama", 77, 5, gpus=("GPU-1",), tapped=True)


def finding_of(**values):
    event = Event(
        "process.memory.oom",
        990.0,
        "tap:1",
        gpu="GPU-1",
        process="vllm:llama",
        text="A request found no memory.",
        values=values,
    )
    return one_shot(event, Window.of(now_s=1_000.0, processes=[PROCESS]), "i-1").finding


PIECES = ("process.memory.fragmentation||GPU-1|vllm:llama|",)


@pytest.mark.parametrize(
    ("cache_gib", "neighbours_gib", "cause", "action", "causes"),
    [
        pytest.param(
            6, 0, "fragmentation", "restart_application", PIECES, id="the bytes were there"
        ),
        pytest.param(5, 4, "neighbour", "check_application", (), id="others could give them"),
        pytest.param(5, 3, "capacity", "scale_up", (), id="they were nowhere"),
    ],
)
def test_an_out_of_memory_error_carries_its_verdict(
    cache_gib, neighbours_gib, cause, action, causes
):
    """8 GiB were asked for, 2 were free, 2 of the own cache could be given back.

    A restart is advised for pieces alone: it wins nothing that is in use or that others hold.
    """
    finding = finding_of(
        requested_bytes=8 * GIB,
        device_free_bytes=2 * GIB,
        cache_free_bytes=cache_gib * GIB,
        cache_releasable_bytes=2 * GIB,
        neighbours_releasable_bytes=neighbours_gib * GIB,
    )
    facts = {fact.name: fact for fact in finding.evidence}

    assert cause == facts["out_of_memory_cause"].text
    assert (action, causes) == (finding.action, finding.causes)
    assert (8 * GIB, "bytes") == (facts["requested_bytes"].value, facts["requested_bytes"].unit)
    assert neighbours_gib * GIB == facts["neighbours_releasable_bytes"].value


def test_an_error_of_unknown_size_has_no_verdict():
    finding = finding_of()

    assert finding.action is None
    assert ["event_text"] == [fact.name for fact in finding.evidence]
