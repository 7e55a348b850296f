"""Screens for people, byte for byte: the scan's and the live view's, narrow and wide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.node_text import finding_headlines
from gpuward.agent.node_view import FindingRow, Lasted, NodeView, ServiceRow, Unchecked
from gpuward.agent.node_view_gpus import GpuRow, Loudness, Verdict
from gpuward.agent.node_view_processes import ProcessRow
from gpuward.agent.scan_command import Status, as_json, as_text, status
from gpuward.agent.top_screen import Size, fitted, frame, rates

GIB = 2**30


def gpu(index, **changes):
    healthy = {
        "uuid": f"GPU-0000000{index}-aaaa-bbbb-cccc-ddddeeeeffff",
        "name": "NVIDIA H100 80GB HBM3",
        "serial": f"16526220315{index}",
        "verdict": Verdict.OK,
        "memory_used_bytes": 70.0 * GIB,
        "memory_total_bytes": 79.6 * GIB,
        "headroom_bytes": None,
        "headroom_process": "",
        "stranded_bytes": None,
        "releasable_bytes": None,
        "activity_ratio": 0.93,
        "activity_is_coarse": False,
        "temperature_celsius": 61.0,
        "memory_temperature_celsius": 72.0,
        "power_watts": 512.4,
        "power_limit_watts": 700.0,
        "pcie_generation": 5.0,
        "pcie_generation_max": 5.0,
        "pcie_width": 16.0,
        "pcie_width_max": 16.0,
        "ecc_corrected": 0.0,
        "ecc_uncorrected": 0.0,
        "remapped_rows": 0.0,
        "remap_pending": False,
        "remap_failed": False,
        "xids": (),
        "limiter": "",
        "load": "",
        "unsupported": (),
    }
    return GpuRow(index=index, **(healthy | changes))


def finding(loudness, kind, summary, **changes):
    fields = {
        "code": 0,
        "gpu": None,
        "gpu_uuid": "",
        "process": "",
        "service": "",
        "endpoint": "",
        "action": "drain the node",
        "lasted_s": 75.0,
        "evidence": (),
    }
    return FindingRow(loudness=loudness, kind=kind, summary=summary, **(fields | changes))


GPUS = (
    gpu(
        0,
        verdict=Verdict.TICKET,
        headroom_bytes=0.8 * GIB,
        headroom_process="vllm:llama",
        stranded_bytes=7.6 * GIB,
        releasable_bytes=0.0,
        load="saturated",
        limiter="bandwidth",
    ),
    gpu(1, verdict=Verdict.PAGE, temperature_celsius=88.0, ecc_uncorrected=2.0, remap_pending=True),
    gpu(2, pcie_width=8.0, verdict=Verdict.PAGE, xids=(31, 79), activity_is_coarse=True),
    gpu(3, verdict=Verdict.UNKNOWN, memory_used_bytes=None, activity_ratio=None, xids=None),
)
FINDINGS = (
    finding(
        Loudness.PAGE,
        "gpu.xid",
        "XID 79: GPU has fallen off the bus.",
        code=79,
        gpu=2,
        lasted_s=5,
        evidence=("PCI:0000:c3:00: GPU has fallen off the bus.",),
    ),
    finding(
        Loudness.TICKET,
        "process.memory.fragmentation",
        "Process vllm:llama of chat has 7.60 GiB of GPU memory stranded in a cache of 70.0 GiB.",
        gpu=0,
        process="vllm:llama",
        service="chat",
        action="restart the application",
        lasted_s=7_300.0,
    ),
    finding(Loudness.NOTE, "process.memory.blind", "Process x\x1b[2J is unseen.", gpu=1),
)
PROCESSES = (
    ProcessRow("vllm:llama", 0, "GPU-0", 70.0 * GIB, 61.0 * GIB, 7.6 * GIB, 0.0, 0.8 * GIB, 3.0),
)


def service(requests, over_objective=0):
    """Return an instance whose first tokens take 0.2 s on average and further ones 25 ms."""
    return ServiceRow(
        service="chat",
        instance="127.0.0.1:8000",
        ready=True,
        waiting=12,
        running=64,
        requests=requests,
        failed=5,
        timed_out=1,
        over_objective=over_objective,
        first_token=Lasted(0.2 * requests, requests),
        inter_token=Lasted(0.025 * 100 * requests, 100 * requests),
    )


def view(at_s=1_800_000_000.0, **changes):
    fields = {
        "node": "gpu-17",
        "driver_up": True,
        "driver_version": "580.95.05",
        "driver_reason": "",
        "gpus_expected": 5,
        "gpus": GPUS,
        "processes": PROCESSES,
        "findings": FINDINGS,
        "services": (service(1_000),),
        "unchecked": (Unchecked("inference servers", "none is configured under [[engines]]"),),
    }
    return NodeView(at_s=at_s, **(fields | changes))


@pytest.mark.parametrize("width", [80, 200])
def test_scan(golden, width):
    golden(f"scan-{width}.txt", as_text(view(), width=width, colours=False) + "\n")


def test_scan_in_colours(golden):
    golden("scan-colours.txt", as_text(view(), width=80, colours=True) + "\n")


def test_scan_as_json(golden):
    golden("scan.json", as_json(view()).decode() + "\n")


@pytest.mark.parametrize(("width", "height"), [(40, 18), (80, 24), (200, 50)])
def test_top(golden, width, height):
    """No frame is higher or wider than the terminal."""
    later = view(1_800_000_010.0, services=(service(1_300, 20),))
    lines = frame(later, view(), size=Size(width, height), colours=False)

    golden(f"top-{width}.txt", "\n".join(lines) + "\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_slices_stand_below_their_card():
    nothing = dict.fromkeys(("temperature_celsius", "memory_temperature_celsius", "xids"))
    slices = [
        replace(gpu(7, verdict=Verdict.PARTIAL, **nothing), index=None, uuid=f"MIG-5d7e-{end}")
        for end in ("aaaa", "bbbb")
    ]
    shown = view(gpus=(GPUS[0], *slices), gpus_expected=1)
    lines = as_text(shown, width=60, colours=False).split("\n")
    assert lines[0].endswith("  1 GPU")
    assert [line.split()[:4] for line in lines[4:6]] == [
        ["mig", "..aaaa", "-", "70.0/79.6G"],
        ["mig", "..bbbb", "-", "70.0/79.6G"],
    ]


def test_no_text_of_a_process_steers_the_terminal():
    everything = as_text(view(), width=80, colours=False) + "\n".join(
        frame(view(), view(), size=Size(80, 100), colours=False)
    )
    assert "\x1b" not in everything


def test_an_agent_that_is_silent_is_said():
    head, *_ = frame(view(), view(), size=Size(120, 24), colours=False, age_s=4.0)
    assert "NO ANSWER FOR 4 s" in head
    head, *_ = frame(view(), view(), size=Size(120, 24), colours=False, age_s=3.0)
    assert "NO ANSWER" not in head


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(view(findings=(), gpus=GPUS[1:1]), Status.COULD_NOT_LOOK, id="no GPU"),
        pytest.param(view(findings=(), gpus=GPUS[:1]), Status.NOTHING, id="nothing"),
        pytest.param(view(findings=FINDINGS[2:], gpus=GPUS[:1]), Status.NOTHING, id="a note"),
        pytest.param(view(findings=FINDINGS[1:2], gpus=GPUS[:1]), Status.TICKET, id="ticket"),
        pytest.param(view(findings=FINDINGS[1:2]), Status.COULD_NOT_LOOK, id="a silent GPU"),
        pytest.param(view(), Status.PAGE, id="a page before all"),
        pytest.param(view(findings=(), driver_up=False), Status.COULD_NOT_LOOK, id="no driver"),
    ],
)
def test_status(shown, expected):
    assert expected is status(shown)
    assert [status.value for status in Status] == [0, 1, 2, 3]


def test_who_could_not_look_does_not_say_that_all_is_well():
    text = as_text(view(findings=(), driver_up=False), width=80, colours=False)
    assert "No findings" not in text
    assert "Nobody could look" in text


@pytest.mark.parametrize(
    ("lengths", "lines", "shown"),
    [
        pytest.param([9, 9], 20, [9, 9], id="all fits"),
        pytest.param([9, 9], 18, [9, 7], id="the first gets all that it needs"),
        pytest.param([9, 9], 8, [3, 3], id="each gets its least"),
        pytest.param([2, 9], 8, [2, 4], id="what one does not need the other gets"),
    ],
)
def test_fitted(lengths, lines, shown):
    sections = [[f"{name}{n}" for n in range(length)] for name, length in zip("ab", lengths)]  # noqa: B905
    found = fitted(sections, lines)
    assert len(found) <= lines
    counts = [length for length, _ in _sections(found)]
    assert counts == shown
    for (length, last), whole in zip(_sections(found), lengths, strict=True):
        hidden = whole - length + 1
        assert last == (f"  and {hidden} lines more" if length < whole else last)


def _sections(lines):
    text = "\n".join(lines).strip("\n")
    blocks = [block.split("\n") for block in text.split("\n\n")]
    return [(len(block), block[-1]) for block in blocks]


def test_rates():
    later = view(1_800_000_010.0, services=(service(1_300, 20),))
    assert [(r.requests, r.over_objective, r.failed) for r in rates(later, view()).values()] == [
        (30.0, 2.0, 0.0)
    ]
    assert rates(view(1_800_000_010.0, services=(service(10),)), view()) == {}
    assert rates(view(), view()) == {}


@pytest.mark.parametrize(
    ("now", "was", "mean_s"),
    [
        pytest.param(Lasted(12.0, 30.0), Lasted(10.0, 20.0), 0.2, id="what came since"),
        pytest.param(Lasted(10.0, 20.0), Lasted(10.0, 20.0), None, id="nothing came"),
        pytest.param(Lasted(1.0, 2.0), Lasted(10.0, 20.0), None, id="it began anew"),
        pytest.param(Lasted(1.0, 30.0), Lasted(10.0, 20.0), None, id="anew, and busy"),
        pytest.param(None, Lasted(10.0, 20.0), None, id="no longer told"),
        pytest.param(Lasted(10.0, 20.0), None, None, id="not told before"),
    ],
)
def test_means_of_durations(now, was, mean_s):
    """Of the time between two pictures, not of an engine's life."""
    before = view(services=(replace(service(1_000), first_token=was),))
    after = view(1_800_000_010.0, services=(replace(service(1_300), first_token=now),))

    (found,) = rates(after, before).values()
    assert found.first_token_s == (None if mean_s is None else pytest.approx(mean_s))
    assert found.inter_token_s == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        pytest.param({"gpu": 1}, "GPU 1: XID 31.  [gpu.xid]", id="of a GPU"),
        pytest.param({}, "XID 31.  [gpu.xid]", id="of none that is known"),
        pytest.param(
            {"gpu": 1, "summary": "GPU 1 is lost."}, "GPU 1 is lost.  [gpu.xid]", id="it says so"
        ),
        pytest.param(
            {"gpu": 1, "summary": "GPU 12 is well."},
            "GPU 1: GPU 12 is well.  [gpu.xid]",
            id="it names another",
        ),
    ],
)
def test_a_headline_says_which_gpu(row, words):
    of = finding(Loudness.NOTE, "gpu.xid", **({"summary": "XID 31."} | row))
    (line,) = finding_headlines([of], width=120, colours=False)

    assert line.endswith(words)
    assert line.count("GPU") == words.count("GPU")


def test_top_says_why_the_driver_does_not_answer():
    silent = view(driver_up=False, driver_reason="nvmlInit: Driver Not Loaded", unchecked=())
    lines = frame(silent, silent, size=Size(80, 24), colours=False)

    assert "  GPUs: nvmlInit: Driver Not Loaded" in lines
