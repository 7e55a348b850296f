"""Edges of thresholds that the detectors' own tables do not need: mostly how far back they look.

``test_thresholds`` moves each threshold by a tenth and wants a test to notice; what a reader of a
detector's table would not miss stands here, two rows for each.
"""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.clock_slow import detect as clock_slow
from gpuward.agent.detectors.cpu_starved import detect as cpu_starved
from gpuward.agent.detectors.ecc_corrected import detect as ecc_corrected
from gpuward.agent.detectors.gpu_probe_preempted import detect as gpu_probe_preempted
from gpuward.agent.detectors.gpu_slower_than_siblings import detect as gpu_slower_than_siblings
from gpuward.agent.detectors.memory_neighbour import detect as memory_neighbour
from gpuward.agent.detectors.memory_unattributed import detect as memory_unattributed
from gpuward.agent.detectors.nvlink import detect as nvlink
from gpuward.agent.detectors.pcie_degraded import detect as pcie_degraded
from gpuward.agent.detectors.service_upstream_down import detect as service_upstream_down
from gpuward.agent.detectors.thermal_slowdown import detect as thermal_slowdown
from gpuward.agent.model import Gpu, Outcome, Process, Result, Sample, SeriesKey
from gpuward.agent.window import Window

NOW_S = 1_000.0
GIB, MIB = 2**30, 2**20
BAD, DOUBTFUL, UNKNOWN = Outcome.BAD, Outcome.DOUBTFUL, Outcome.UNKNOWN
CARD = Gpu("GPU-1", 0, "NVIDIA H100 80GB HBM3", "00000000:1B:00.0")


def at(signal, values, **key):
    """A series from what it was so many seconds ago: ``{0: newest, 30: older}``."""
    series = SeriesKey(signal, **key)
    return [Sample(series, NOW_S - ago_s, float(values[ago_s])) for ago_s in sorted(values)[::-1]]


def window(*series, processes=()):
    samples = [sample for each in series for sample in each]
    return Window.of(samples, now_s=NOW_S, gpus=(CARD,), processes=processes)


def outcomes(found):
    return [finding.outcome for finding in found]


def stepped(before, after, *, ago_s, of_s=330):
    """A value a second, which changed ``ago_s`` ago."""
    return [before] * (of_s - ago_s) + [after] * (ago_s + 1)


FAST_HZ, LOW_HZ = 2.0e9, 1.0e9


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({"gpu_sm_clock_hertz": stepped(FAST_HZ, LOW_HZ, ago_s=120)}, [BAD], id="half"),
        pytest.param({"gpu_sm_clock_hertz": stepped(FAST_HZ, LOW_HZ, ago_s=119)}, [], id="less"),
        pytest.param(
            {"gpu_clock_event_reasons": stepped(0, 0x4, ago_s=48)}, [], id="a fifth at its limit"
        ),
        pytest.param({"gpu_clock_event_reasons": stepped(0, 0x4, ago_s=45)}, [BAD], id="for less"),
    ],
)
def test_a_low_clock_of_four_minutes(gpu_window, signals, expected):
    """Half of four minutes make it low, and a reason that held it for a fifth excuses it."""
    busy = {
        "gpu_sm_clock_max_hertz": FAST_HZ,
        "gpu_sm_active_ratio": 0.9,
        "gpu_clock_event_reasons": 0,
        "gpu_sm_clock_hertz": LOW_HZ,
    }

    assert expected == outcomes(clock_slow(gpu_window(busy | signals, lasting_s=330)))


@pytest.mark.parametrize(
    ("oldest_s", "expected"),
    [pytest.param(119, [BAD], id="within"), pytest.param(125, [], id="before")],
)
def test_a_starved_node_of_two_minutes(oldest_s, expected):
    """Five looks within two minutes are enough."""
    looks = dict.fromkeys((1, 20, 40, 60, oldest_s), 0.9)

    assert expected == outcomes(cpu_starved(window(at("probe_cpu_stolen_ratio", looks))))


@pytest.mark.parametrize(
    ("rose_at_s", "readings_s", "expected"),
    [
        pytest.param(285, (290, 280, 150, 0), [(BAD, Result.WARN)], id="errors within"),
        pytest.param(285, (300, 280, 150, 0), [], id="errors before"),
        pytest.param(130, (290, 145, 116, 0), [(BAD, Result.FAIL)], id="failing within"),
        pytest.param(130, (290, 158, 116, 0), [(BAD, Result.WARN)], id="failing before"),
    ],
)
def test_errors_of_five_minutes(rose_at_s, readings_s, expected):
    """A rate is of 290 seconds; what fails is of 150."""
    counts = {ago_s: 0 if ago_s > rose_at_s else 30_000 for ago_s in readings_s}
    found = ecc_corrected(window(at("gpu_ecc_corrected_total", counts, gpu="GPU-1")))

    assert expected == [(finding.outcome, finding.result) for finding in found]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        pytest.param([0.9] * 23 + [0.0] * 10, [], id="three of thirteen"),
        pytest.param([0.9] * 6 + [0.0] * 7, [DOUBTFUL], id="six of thirteen"),
    ],
)
def test_interrupted_bursts_of_two_minutes(gaps, expected):
    """A burst each ten seconds; what is older than two minutes counts no more."""
    looks = {10 * back: gap for back, gap in enumerate(reversed(gaps))}

    assert expected == outcomes(
        gpu_probe_preempted(window(at("gpu_probe_gap_ratio", looks, gpu="GPU-1")))
    )


@pytest.mark.parametrize(
    ("all_of_them", "first", "expected"),
    [
        pytest.param({}, {"gpu_sm_clock_hertz": stepped(FAST_HZ, LOW_HZ, ago_s=120)}, 1, id="half"),
        pytest.param({}, {"gpu_sm_clock_hertz": stepped(FAST_HZ, LOW_HZ, ago_s=119)}, 0, id="less"),
        pytest.param({}, {"gpu_dram_active_ratio": 0.31}, 0, id="six tenths of the bandwidth"),
        pytest.param(
            {"gpu_tensor_active_ratio": 0.052},
            {"gpu_tensor_active_ratio": 0.03, "gpu_sm_clock_hertz": LOW_HZ},
            0,
            id="tensor cores at work elsewhere",
        ),
        pytest.param(
            {"gpu_tensor_active_ratio": 0.048},
            {"gpu_tensor_active_ratio": 0.03, "gpu_sm_clock_hertz": LOW_HZ},
            1,
            id="hardly at work anywhere",
        ),
    ],
)
def test_behind_siblings_for_four_minutes(serving_window, all_of_them, first, expected):
    busy = {
        "gpu_tensor_active_ratio": 0.2,
        "gpu_sm_active_ratio": 0.8,
        "gpu_sm_clock_hertz": FAST_HZ,
        "gpu_dram_active_ratio": 0.5,
    }
    found = gpu_slower_than_siblings(serving_window(busy | all_of_them, first=first, gpus=4))

    assert expected == len(list(found))


@pytest.mark.parametrize(
    ("ago_s", "expected"),
    [pytest.param(280, [BAD], id="within"), pytest.param(300, [], id="before")],
)
def test_link_errors_of_five_minutes(gpu_window, ago_s, expected):
    links = {"gpu_nvlink_links": 18, "gpu_nvlink_links_active": 18}
    errors = {"gpu_nvlink_crc_errors_total": stepped(0, 200, ago_s=ago_s)}

    assert expected == outcomes(nvlink(gpu_window(links | errors)))


@pytest.mark.parametrize(
    ("rose_s", "expected"),
    [pytest.param((285, 265), [BAD], id="within"), pytest.param((312, 292), [], id="before")],
)
def test_heat_of_five_minutes(gpu_window, rose_s, expected):
    """Twenty seconds of it, within the last 290 or not."""
    first_s, last_s = rose_s
    held = [float(min(20, max(0, first_s - ago_s))) for ago_s in range(330, -1, -1)]
    signals = {
        "gpu_clock_event_hw_thermal_seconds_total": held,
        "gpu_clock_event_sw_thermal_seconds_total": 0,
    }

    assert first_s - last_s == held[-1]
    assert expected == outcomes(thermal_slowdown(gpu_window(signals)))


@pytest.mark.parametrize(
    ("busy_s", "expected"),
    [pytest.param(30, [BAD], id="half"), pytest.param(29, [UNKNOWN], id="less")],
)
def test_a_slow_link_of_a_gpu_that_was_busy(gpu_window, busy_s, expected):
    """Half of the last minute at work is a load under which a link should be quick."""
    link = {
        "gpu_pcie_link_width": 16,
        "gpu_pcie_link_width_max": 16,
        "gpu_pcie_link_generation": 3,
        "gpu_pcie_link_generation_max": 5,
        "gpu_sm_active_ratio": stepped(0.0, 0.9, ago_s=busy_s),
    }

    assert expected == outcomes(pcie_degraded(gpu_window(link)))


@pytest.mark.parametrize(
    ("listed_s", "expected"),
    [
        pytest.param((0, 28, 58), [BAD], id="three lists of a minute"),
        pytest.param((0, 30, 62), [DOUBTFUL], id="one of them older"),
    ],
)
def test_unattributed_memory_of_a_minute(listed_s, expected):
    held = at("gpu_memory_unattributed_bytes", dict.fromkeys(listed_s, 9 * GIB), gpu="GPU-1")

    assert expected == outcomes(memory_unattributed(window(held)))


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        pytest.param({250: 10, 235: 14, 0: 14}, [], id="grew before"),
        pytest.param({250: 10, 235: 10, 0: 14}, [BAD], id="grew within"),
        # Lists of processes come late: what is first seen 30 s into the time was there before.
        pytest.param({212: 14, 0: 14}, [], id="was there"),
        pytest.param({208: 14, 0: 14}, [BAD], id="is new"),
    ],
)
def test_neighbours_of_four_minutes(lists, expected):
    own = {
        "process_memory_reserved_bytes": 39 * GIB,
        "process_memory_stranded_bytes": 0,
        "process_memory_mean_large_request_bytes": 256 * MIB,
        "process_memory_headroom_bytes": 2_560 * MIB,
        "process_memory_headroom_ratio": 10.0,
    }
    mine = [at(name, {0: value}, gpu="GPU-1", process="victim") for name, value in own.items()]
    used = "process_gpu_memory_bytes"
    around = window(
        *mine,
        at(used, {240: 40 * GIB, 0: 40 * GIB}, gpu="GPU-1", process="victim"),
        at(used, {ago_s: gib * GIB for ago_s, gib in lists.items()}, gpu="GPU-1", process="other"),
        processes=(Process("victim", 77, 5, gpus=("GPU-1",), tapped=True),),
    )

    assert expected == outcomes(memory_neighbour(around))


@pytest.mark.parametrize(
    ("failed", "expected"),
    [pytest.param(50, [BAD], id="half"), pytest.param(46, [], id="less than half")],
)
def test_an_upstream_that_fails_half(failed, expected):
    counts = {
        "upstream_requests_total": {15: 0, 5: 100},
        "upstream_requests_failed_total": {15: 0, 5: failed},
    }
    series = [at(name, values, endpoint="vectors") for name, values in counts.items()]

    assert expected == outcomes(service_upstream_down(window(*series)))
