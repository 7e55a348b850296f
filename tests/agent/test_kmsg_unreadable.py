"""A kernel log that cannot be read."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors.kmsg_unreadable import detect
from gpuward.agent.model import Outcome, Sample, SeriesKey
from gpuward.agent.samplers.kmsg import KmsgSampler
from gpuward.agent.window import Window

READABLE = SeriesKey("node_kmsg_readable")


@pytest.mark.parametrize(
    ("samples", "outcomes"),
    [
        pytest.param([], [Outcome.UNKNOWN], id="nobody tried"),
        pytest.param([(1_000.0, 1.0)], [], id="it is read"),
        pytest.param([(1_000.0, 0.0)], [Outcome.BAD], id="it cannot be read"),
        pytest.param([(989.0, 0.0)], [Outcome.UNKNOWN], id="nobody has tried lately"),
    ],
)
def test_detect(samples, outcomes):
    window = Window.of([Sample(READABLE, *sample) for sample in samples], now_s=1_000.0)

    assert [finding.outcome for finding in detect(window)] == outcomes


@pytest.mark.parametrize(
    ("is_there", "expected"),
    [pytest.param(True, 1.0, id="a log"), pytest.param(False, 0.0, id="no such file")],
)
async def test_the_sampler_says_so(is_there, expected, tmp_path, clock):
    path = tmp_path / "kmsg"
    if is_there:
        path.touch()
    async with KmsgSampler(path, boot_id="b", gpus=tuple, clock=clock) as kmsg:
        batch = await kmsg.sample(1_000.0)

    assert {sample.key: sample.value for sample in batch.samples}[READABLE] == expected
