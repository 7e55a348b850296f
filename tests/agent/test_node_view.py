"""What a person is shown of a node: nothing that nobody knows, and no health that nobody saw."""

from __future__ import annotations

import pytest

from gpuward.agent.node_view import Lasted, Unchecked, node_view
from gpuward.agent.node_view_gpus import Loudness, Verdict
from gpuward.v1 import agent_pb2, finding_pb2

AT_S = 1_800_000_000
KMSG_OK = {"component": "sampler.kmsg", "result": finding_pb2.CHECK_RESULT_OK}
KMSG_BLIND = {
    "component": "sampler.kmsg",
    "result": finding_pb2.CHECK_RESULT_UNKNOWN,
    "reason": "/dev/kmsg: Operation not permitted",
}
SEEN = {"gpu_memory_used_bytes": 1.0, "gpu_temperature_celsius": 30.0}


def snapshot(values=SEEN, *, findings=(), components=(KMSG_OK,), processes=()):
    """One GPU; ``values`` by signal, or by (signal, process)."""
    shown = []
    for name, value in values.items():
        signal, process = name if isinstance(name, tuple) else (name, "")
        series = agent_pb2.SeriesKey(signal=signal, gpu_uuid="GPU-1", process_key=process)
        shown.append(agent_pb2.SignalValue(series=series, value=value))
    return agent_pb2.Snapshot(
        node="n1",
        at={"seconds": AT_S},
        driver_up=True,
        gpus=[agent_pb2.GpuIdentity(uuid="GPU-1", index=3, name="NVIDIA H100")],
        values=shown,
        findings=findings,
        components=components,
        processes=processes,
    )


def finding(loudness, *, kind="gpu.lost", gpu="GPU-1", since_s=60, **fields):
    return finding_pb2.Finding(
        kind=kind,
        subject=finding_pb2.Subject(node="n1", gpu_uuid=gpu),
        default_class=getattr(finding_pb2, f"FINDING_CLASS_{loudness}"),
        since={"seconds": AT_S - since_s},
        **fields,
    )


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        pytest.param(snapshot(), Verdict.OK, id="seen, and nothing is wrong"),
        pytest.param(snapshot({}), Verdict.UNKNOWN, id="no figure at all"),
        pytest.param(
            snapshot({"gpu_memory_used_bytes": 1.0}), Verdict.UNKNOWN, id="half of the figures"
        ),
        pytest.param(
            snapshot(components=(KMSG_BLIND,)), Verdict.PARTIAL, id="nobody reads the kernel's log"
        ),
        pytest.param(snapshot(findings=[finding("STORE")]), Verdict.OK, id="a note"),
        pytest.param(snapshot(findings=[finding("TICKET")]), Verdict.TICKET, id="a ticket"),
        pytest.param(
            snapshot(findings=[finding("PAGE"), finding("TICKET", kind="gpu.xid")]),
            Verdict.PAGE,
            id="the loudest counts",
        ),
        pytest.param(
            snapshot({}, findings=[finding("PAGE")]), Verdict.PAGE, id="a page of a silent GPU"
        ),
        pytest.param(
            snapshot(findings=[finding("PAGE", gpu="GPU-2")]), Verdict.OK, id="of another GPU"
        ),
    ],
)
def test_verdict(message, verdict):
    assert [verdict] == [row.verdict for row in node_view(message).gpus]


def test_what_is_not_known_is_none():
    (row,) = node_view(snapshot()).gpus
    assert (row.index, row.memory_used_bytes, row.temperature_celsius) == (3, 1.0, 30.0)
    assert (row.headroom_bytes, row.stranded_bytes, row.ecc_corrected, row.power_watts) == (
        (None,) * 4
    )
    assert (row.remap_pending, row.remapped_rows, row.activity_ratio) == (None,) * 3


def test_memory_of_processes():
    """The least headroom counts, what is lost adds up, the process that loses most is first."""
    view = node_view(
        snapshot(
            {
                ("process_memory_reserved_bytes", "a"): 50.0,
                ("process_memory_reserved_bytes", "b"): 10.0,
                ("process_memory_headroom_bytes", "a"): 7.0,
                ("process_memory_headroom_bytes", "b"): 5.0,
                ("process_memory_stranded_bytes", "a"): 1.0,
                ("process_memory_stranded_bytes", "b"): 2.0,
            }
        )
    )
    (row,) = view.gpus
    assert (row.headroom_bytes, row.headroom_process, row.stranded_bytes) == (5.0, "b", 3.0)
    assert row.releasable_bytes is None
    assert [(p.process, p.gpu, p.headroom_bytes) for p in view.processes] == [
        ("b", 3, 5.0),
        ("a", 3, 7.0),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"gpu_utilization_ratio": 0.9}, (0.9, True), id="coarse"),
        pytest.param(
            {"gpu_utilization_ratio": 0.9, "gpu_sm_active_ratio": 0.2}, (0.2, False), id="better"
        ),
        pytest.param({}, (None, True), id="none"),
    ],
)
def test_activity(values, expected):
    (row,) = node_view(snapshot(values)).gpus
    assert expected == (row.activity_ratio, row.activity_is_coarse)


@pytest.mark.parametrize(
    ("number", "word"), [(0.0, ""), (1.0, "kv cache"), (11.0, "clock"), (99.0, "")]
)
def test_a_limiter_is_a_word(number, word):
    (row,) = node_view(snapshot({"gpu_limiter": number})).gpus
    assert word == row.limiter


def test_a_slice_is_a_row_of_its_own():
    message = snapshot()
    series = agent_pb2.SeriesKey(signal="gpu_mig_memory_total_bytes", gpu_uuid="MIG-1")
    message.values.append(agent_pb2.SignalValue(series=series, value=10.0))
    card, mig = node_view(message).gpus
    assert (card.uuid, mig.uuid, mig.index, mig.memory_total_bytes) == ("GPU-1", "MIG-1", None, 10)


@pytest.mark.parametrize(
    ("message", "given", "expected"),
    [
        pytest.param(
            snapshot(findings=[finding("PAGE", kind="gpu.xid", code=79)]), None, (79,), id="open"
        ),
        pytest.param(snapshot(), {"GPU-1": [31, 79, 31]}, (31, 79), id="of the boot, each once"),
        pytest.param(snapshot(components=(KMSG_BLIND,)), None, None, id="nobody knows"),
        pytest.param(snapshot(components=()), None, None, id="nobody says"),
    ],
)
def test_xids(message, given, expected):
    (row,) = node_view(message, xids=given).gpus
    assert expected == row.xids


def test_findings_loudest_first_then_oldest():
    view = node_view(
        snapshot(
            findings=[
                finding("TICKET", kind="a", since_s=900),
                finding("PAGE", kind="b", since_s=5),
                finding("PAGE", kind="c", since_s=50, gpu=""),
            ]
        )
    )
    assert [(row.kind, row.gpu, row.lasted_s) for row in view.findings] == [
        ("c", None, 50.0),
        ("b", 3, 5.0),
        ("a", 3, 900.0),
    ]
    assert view.loudest is Loudness.PAGE


def test_a_part_that_cannot_look_is_told():
    view = node_view(snapshot(components=(KMSG_BLIND, {**KMSG_OK, "component": "sampler.nvml"})))
    reason = "/dev/kmsg: Operation not permitted"
    assert view.unchecked == (Unchecked("sampler.kmsg", reason),)


def test_evidence_in_words():
    """Text as it is, a figure with its unit and its limit; the first three facts."""
    evidence = [
        finding_pb2.Evidence(name="a", text="x" * 121),
        finding_pb2.Evidence(name="width", value=8, unit="1", threshold=16),
        finding_pb2.Evidence(name="heat", value=61.5, unit="celsius"),
        finding_pb2.Evidence(name="more"),
    ]
    (row,) = node_view(snapshot(findings=[finding("PAGE", evidence=evidence)])).findings
    assert row.evidence == ("x" * 120, "width 8 (limit 16)", "heat 61.5 celsius")


def test_durations_of_a_replica():
    """Of this replica only; half of a duration is none."""
    message = snapshot()
    message.service_totals.add(service="chat", instance="a:1")
    message.service_totals.add(service="chat", instance="b:2")
    for endpoint, signal, value in (
        ("a:1", "replica_first_token_seconds_total", 4.0),
        ("a:1", "replica_first_tokens_total", 20.0),
        ("a:1", "replica_inter_token_seconds_total", 5.0),
        ("b:2", "replica_inter_token_seconds_total", 6.0),
        ("b:2", "replica_inter_tokens_total", 300.0),
    ):
        series = agent_pb2.SeriesKey(signal=signal, service="chat", endpoint=endpoint)
        message.values.add(series=series, value=value)

    first, second = node_view(message).services

    assert (first.first_token, first.inter_token) == (Lasted(4.0, 20.0), None)
    assert (second.first_token, second.inter_token) == (None, Lasted(6.0, 300.0))
