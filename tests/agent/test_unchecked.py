"""What nobody looked at is told, with the reason, of several GPUs in one line."""

from __future__ import annotations

import pytest

from gpuward.agent.model import (
    Driver,
    Finding,
    Gpu,
    Outcome,
    Process,
    Sample,
    SeriesKey,
    Snapshot,
    Subject,
)
from gpuward.agent.node_view import Unchecked
from gpuward.agent.unchecked import Rights, indexes_text, unchecked

ALL = Rights(is_root=True, sees_every_pid=True, has_engines=True)
VITAL = (
    "gpu_memory_used_bytes",
    "gpu_temperature_celsius",
    "gpu_power_draw_watts",
    "gpu_clock_event_reasons",
    "gpu_ecc_uncorrected_total",
    "gpu_row_remap_failed",
    "gpu_pcie_link_width",
)
ALWAYS = 2


def gpus(count, **fields):
    return tuple(Gpu(f"GPU-{n}", n, "H100", f"{n}", **fields) for n in range(count))


def snapshot(cards=(), *, silent=(), driver=None, processes=()):
    keys = (SeriesKey(name, gpu=card.uuid) for card in cards for name in VITAL)
    samples = {key: Sample(key, 1.0, 0.0) for key in keys if (key.signal, key.gpu) not in silent}
    return Snapshot(
        node="n1",
        boot_id="b",
        at_s=1.0,
        wall_offset_s=0.0,
        driver=driver or Driver(up=True),
        gpus=cards,
        samples=samples,
        processes=processes,
    )


def told(shown, unknown=(), rights=ALL):
    """Return what is told beside what no scan can see."""
    found = unchecked(shown, unknown, rights)
    assert [row.what for row in found[-ALWAYS:]] == [
        "rates, trends and comparisons",
        "latency of a launch",
    ]
    return list(found[:-ALWAYS])


def unknown(kind, index, words):
    return Finding(kind, Subject(gpu=f"GPU-{index}"), words, outcome=Outcome.UNKNOWN)


def test_all_was_looked_at():
    assert told(snapshot(gpus(2))) == []


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(
            snapshot(driver=Driver(up=False, reason="nvmlInit: no library")),
            Unchecked("GPUs", "nvmlInit: no library"),
            id="no driver",
        ),
        pytest.param(
            snapshot(driver=Driver(up=False)),
            Unchecked("GPUs", "the driver has not answered"),
            id="a silent driver",
        ),
        pytest.param(
            snapshot(gpus(3), silent={("gpu_temperature_celsius", "GPU-1")}),
            Unchecked("gpu_temperature_celsius", "GPU 1 did not say"),
            id="a silent signal",
        ),
        pytest.param(
            snapshot(gpus(2, unsupported=frozenset({"b", "a"}))),
            Unchecked("2 signals of GPUs 0-1", "H100 or its driver lacks them: a, b"),
            id="what the product lacks",
        ),
        pytest.param(
            snapshot(processes=(Process("vllm:x", 7, 1, engine="vllm"),)),
            Unchecked("allocator of vllm:x (pid 7)", "no tap"),
            id="no tap",
        ),
        pytest.param(
            snapshot(processes=(Process("triton", 7, 1, engine="triton"),)),
            Unchecked("allocator of triton (pid 7)", "no torch"),
            id="no torch",
        ),
    ],
)
def test_what_was_not_seen(shown, expected):
    assert [expected] == told(shown)


def test_a_tapped_process_is_seen():
    assert told(snapshot(processes=(Process("vllm:x", 7, 1, tapped=True),))) == []


def test_what_the_product_lacks_is_not_silent():
    lack = "gpu_ecc_uncorrected_total"
    cards = gpus(1, unsupported=frozenset({lack}))
    assert [row.what for row in told(snapshot(cards, silent={(lack, "GPU-0")}))] == [
        "1 signals of GPU 0"
    ]


def test_what_could_not_be_judged_is_one_line():
    findings = [
        unknown(kind, index, f"The load of GPU {index} is unknown.")
        for index in (2, 0, 1)
        for kind in ("gpu.stalled", "gpu.wedged")
    ]
    assert told(snapshot(gpus(3)), findings) == [
        Unchecked("gpu.stalled, gpu.wedged", "The load of GPUs 0-2 is unknown")
    ]


@pytest.mark.parametrize(
    ("lacking", "what"),
    [
        ("is_root", "names of other users' processes"),
        ("sees_every_pid", "whose memory is whose"),
        ("has_engines", "inference servers"),
    ],
)
def test_rights(lacking, what):
    fields = {"is_root": True, "sees_every_pid": True, "has_engines": True, lacking: False}
    assert [what] == [row.what for row in told(snapshot(), rights=Rights(**fields))]


@pytest.mark.parametrize(
    ("indexes", "text"),
    [
        ([3], "GPU 3"),
        ([1, 0], "GPUs 0-1"),
        ([0, 2, 3, 4, 7], "GPUs 0, 2-4, 7"),
    ],
)
def test_indexes(indexes, text):
    assert text == indexes_text(indexes)
