"""What a GPU's driver says outright is wrong."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.gpu_flags import FLAGS
from gpuward.agent.model import Outcome, Result

FAIL, WARN = Result.FAIL, Result.WARN
BY_KIND = {flag.kind.name: flag for flag in FLAGS}


@pytest.mark.parametrize(
    ("kind", "signal", "values", "result"),
    [
        ("gpu.memory.remap_pending", "gpu_row_remap_pending", ([0], [1]), WARN),
        ("gpu.memory.remap_failed", "gpu_row_remap_failed", ([0], [1]), FAIL),
        ("gpu.memory.remap_exhausted", "gpu_row_remap_banks_exhausted", ([0], [1, 7]), WARN),
        ("gpu.memory.repair_pending", "gpu_repair_pending", ([0], [1]), WARN),
        ("gpu.memory.retired_pages_pending", "gpu_retired_pages_pending", ([0], [1]), WARN),
        ("gpu.memory.retired_pages_full", "gpu_retired_pages", ([0, 62], [63, 64]), WARN),
        ("gpu.memory.unrepairable", "gpu_memory_unrepairable", ([0], [1]), FAIL),
        ("gpu.ecc.sram_threshold", "gpu_ecc_sram_threshold_exceeded", ([0], [1]), FAIL),
        ("gpu.inforom.corrupt", "gpu_inforom_valid", ([1], [0]), WARN),
        ("gpu.fabric.unhealthy", "gpu_fabric_healthy", ([1], [0]), FAIL),
        ("gpu.fabric.not_joined", "gpu_fabric_state", ([0, 3], [1, 2]), FAIL),
        ("gpu.recovery_needed", "gpu_recovery_action", ([0], [1, 2, 4, 6, 7]), FAIL),
        ("gpu.recovery_needed", "gpu_recovery_action", ([0], [3, 5, 8, 99]), WARN),
    ],
)
def test_each_flag(gpu_window, kind, signal, values, result):
    """Every value on either side, with the result that decides between page and ticket."""
    flag = BY_KIND[kind]
    healthy, bad = values

    for value in healthy:
        assert [] == list(flag.detect(gpu_window({signal: value})))
    for value in bad:
        (finding,) = flag.detect(gpu_window({signal: value}))
        assert (kind, Outcome.BAD, result) == (finding.kind, finding.outcome, finding.result)
        assert [(signal, float(value))] == [(fact.name, fact.value) for fact in finding.evidence]


@pytest.mark.parametrize("flag", FLAGS, ids=BY_KIND)
def test_stale_is_unknown_and_not_supported_is_silent(gpu_window, flag):
    """A hung driver clears nothing; a card without the flag has no such trouble."""
    stale = gpu_window({flag.signal: [1]}, late_s=90.1)

    assert [Outcome.UNKNOWN] == [finding.outcome for finding in flag.detect(stale)]
    assert [] == list(flag.detect(gpu_window({}, unsupported=[flag.signal])))


def test_words_name_gpu_and_value(gpu_window):
    (finding,) = BY_KIND["gpu.memory.remap_exhausted"].detect(
        gpu_window({"gpu_row_remap_banks_exhausted": 7})
    )

    assert "GPU 0 has 7 banks of memory without a spare row." == finding.summary
