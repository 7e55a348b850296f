"""The best of a card: it never gets worse, and goes with the card wherever that is plugged in."""

from __future__ import annotations

import pytest

from gpuward.agent.learned_best import Best, learn, name_of
from gpuward.agent.model import Gpu
from gpuward.agent.samplers.learned_best import LearnedBest

CLOCK, ACTIVE = "gpu_sm_clock_hertz", "gpu_sm_active_ratio"
WIDTH, GENERATION = "gpu_pcie_link_width", "gpu_pcie_link_generation"
CAP = "gpu_clock_event_reasons"
BUSY = {CLOCK: 1.9e9, ACTIVE: 0.9, CAP: 0x0, WIDTH: 16, GENERATION: 5}


@pytest.mark.parametrize(
    ("signals", "known", "expected"),
    [
        pytest.param({}, Best(), Best(5, 16, 1.9e9), id="at first sight"),
        pytest.param({WIDTH: 8, GENERATION: 4}, Best(5, 16, 1.9e9), Best(5, 16, 1.9e9), id="worse"),
        pytest.param({ACTIVE: 0.1}, Best(), Best(5, 16, 0), id="a clock at rest says nothing"),
        pytest.param({CAP: 0x4}, Best(), Best(5, 16, 0), id="nor one under the power cap"),
        pytest.param({CLOCK: []}, Best(), Best(5, 16, 0), id="nor none"),
        pytest.param(
            {CLOCK: 1.91e9}, Best(5, 16, 1.9e9), Best(5, 16, 1.9e9), id="less than a step"
        ),
        pytest.param({CLOCK: 1.92e9}, Best(5, 16, 1.9e9), Best(5, 16, 1.92e9), id="a step"),
    ],
)
def test_learn(gpu_window, signals, known, expected):
    window = gpu_window(BUSY | signals)

    assert expected == learn(window, window.gpus[0], known)


def test_a_card_is_known_by_its_serial():
    """It has the same UUID too, but a card without a serial has nothing else."""
    assert name_of(Gpu("GPU-1", 0, "H100", "1B:00.0", serial="165")) == "165"
    assert name_of(Gpu("GPU-1", 0, "RTX 4090", "01:00.0")) == "GPU-1"


async def test_it_outlives_the_agent_and_the_slot(gpu_window, tmp_path, written):
    """Learned in one slot, told in another, by an agent that was started since."""
    path = tmp_path / "best.json"
    before = LearnedBest(path, lambda _: gpu_window(BUSY))
    await before.sample(1_000.0)
    written()
    after = LearnedBest(path, lambda _: gpu_window(BUSY | {WIDTH: 4, GENERATION: 3}))
    told = {s.key.signal: s.value for s in (await after.sample(1_000.0)).samples}

    assert told == {
        "gpu_pcie_link_generation_best": 5,
        "gpu_pcie_link_width_best": 16,
        "gpu_sm_clock_best_hertz": 1.9e9,
    }


@pytest.mark.parametrize("content", [b"", b"{", b'{"165": {"sm_clock_hertz": "fast"}}', b"\xff"])
async def test_a_damaged_file_is_begun_anew(gpu_window, tmp_path, written, content):
    path = tmp_path / "best.json"
    path.write_bytes(content)
    await LearnedBest(path, lambda _: gpu_window(BUSY)).sample(1_000.0)
    written()

    assert b'"165"' in path.read_bytes()


async def test_a_full_disk_is_tried_again(gpu_window, tmp_path, written):
    """Nothing is lost, and the samples come all the same."""
    path = tmp_path / "missing" / "best.json"
    best = LearnedBest(path, lambda _: gpu_window(BUSY))
    batch = await best.sample(1_000.0)
    written()
    path.parent.mkdir()
    await best.sample(1_010.0)
    written()

    assert len(batch.samples) == 3
    assert path.exists()
