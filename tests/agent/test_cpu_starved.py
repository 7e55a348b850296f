"""A node on which threads wait for a core, seen in three ways."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.cpu_starved import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.window import Window

NOW_S = 1_000.0
STOLEN, PRESSURE = "probe_cpu_stolen_ratio", "node_cpu_pressure_ratio"
LAUNCH, EVENT = "probe_launch_seconds", "gpu_probe_event_seconds"
US = 1e-6


def window_of(**series):
    """By signal the values of each ten seconds, those with ``gpu`` in it of GPU-1."""
    samples = []
    for name, said in series.items():
        values = said if isinstance(said, list) else [said] * 13
        gpu = "GPU-1" if name in (LAUNCH, EVENT) else ""
        first_s = NOW_S - 10.0 * (len(values) - 1)
        key = SeriesKey(name, gpu=gpu)
        samples += [Sample(key, first_s + 10.0 * at, value) for at, value in enumerate(values)]
    return Window.of(samples, now_s=NOW_S)


@pytest.mark.parametrize(
    ("series", "outcome", "names"),
    [
        pytest.param({}, None, [], id="nothing is known"),
        pytest.param({STOLEN: 0.049, PRESSURE: 0.29}, None, [], id="little"),
        pytest.param({STOLEN: 0.05}, Outcome.DOUBTFUL, ["stolen"], id="half of the limit"),
        pytest.param({STOLEN: 0.1}, Outcome.BAD, ["stolen"], id="a tenth stolen"),
        pytest.param({STOLEN: [0.9] * 6 + [0.0] * 7}, None, [], id="stolen now and then"),
        pytest.param({STOLEN: [0.9] * 4}, None, [], id="too few bursts"),
        pytest.param({STOLEN: [0.9] * 5}, Outcome.BAD, ["stolen"], id="five are enough"),
        pytest.param({PRESSURE: [0.9] * 4}, None, [], id="too few turns"),
        pytest.param({PRESSURE: [0.9] * 5}, Outcome.BAD, ["pressure"], id="five turns are enough"),
        pytest.param({STOLEN: [0.9] * 20 + [0.0] * 13}, None, [], id="over"),
        pytest.param({PRESSURE: 0.3}, Outcome.DOUBTFUL, ["pressure"], id="some wait"),
        pytest.param({PRESSURE: 0.59}, Outcome.DOUBTFUL, ["pressure"], id="many"),
        pytest.param({PRESSURE: 0.6}, Outcome.BAD, ["pressure"], id="more"),
        pytest.param({LAUNCH: 10 * US, EVENT: 0.5 * US}, None, [], id="a launch as quick as any"),
        pytest.param({LAUNCH: 99 * US, EVENT: 2 * US}, None, [], id="not yet slow"),
        pytest.param({LAUNCH: 101 * US, EVENT: 2 * US}, Outcome.BAD, ["launch"], id="slow"),
        pytest.param({LAUNCH: 200 * US, EVENT: 41 * US}, None, [], id="the GPU is slow as well"),
        pytest.param({LAUNCH: 200 * US, EVENT: 39 * US}, Outcome.DOUBTFUL, ["launch"], id="hardly"),
        pytest.param({LAUNCH: 200 * US}, None, [], id="no event"),
        pytest.param({LAUNCH: 200 * US, EVENT: 0.0}, None, [], id="a timer too coarse"),
        pytest.param(
            {LAUNCH: [200 * US] * 4, EVENT: [2 * US] * 4}, None, [], id="too few launches"
        ),
        pytest.param(
            {LAUNCH: [200 * US] * 5, EVENT: [2 * US] * 5}, Outcome.BAD, ["launch"], id="five again"
        ),
        pytest.param(
            {STOLEN: 0.2, PRESSURE: 0.4}, Outcome.BAD, ["stolen", "pressure"], id="two views"
        ),
    ],
)
def test_detect(series, outcome, names):
    findings = list(detect(window_of(**series)))

    assert [f.outcome for f in findings] == ([outcome] if outcome else [])
    assert [e.name for f in findings for e in f.evidence] == names


def test_summary():
    (finding,) = detect(window_of(**{STOLEN: 0.25, LAUNCH: 200 * US, EVENT: 4 * US, PRESSURE: 0.7}))

    assert finding.summary == (
        "Threads wait for a core: a spinning one did not run for 25% of its time,"
        " launches take 50 times what the GPU needs, some waited for 70% of the time."
    )
