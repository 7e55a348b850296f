"""What bytes are worth in KV blocks: exact where the engine's page tells, else a bound."""

from __future__ import annotations

import pytest

from gpuward.agent.kv_room import KvRoom, kv_room
from gpuward.agent.model import Sample, SeriesKey, Subject
from gpuward.agent.window import Window

MIB = 2**20
GIB = 2**30
NOW = 1_000.0


def room(**figures):
    names = {"active": "process_memory_active_bytes"}
    samples = [
        Sample(
            SeriesKey(
                names.get(name, f"process_kv_cache_{name}"), gpu="GPU-1", process="vllm:llama"
            ),
            NOW,
            value,
        )
        for name, value in figures.items()
    ]
    window = Window.of(samples, now_s=NOW)
    return kv_room(window, Subject(gpu="GPU-1", process="vllm:llama"))


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        pytest.param({"active": GIB}, None, id="no page"),
        pytest.param({"blocks": 100}, None, id="neither size"),
        pytest.param({"blocks": 0, "active": GIB}, None, id="no blocks"),
        pytest.param(
            {"blocks": 100, "active": 400}, KvRoom(100, 4, is_exact=False), id="at most all"
        ),
        pytest.param(
            {"blocks": 100, "active": 400, "bytes": 200}, KvRoom(100, 2, is_exact=True), id="told"
        ),
        pytest.param(
            {"blocks": 100, "bytes": 200, "tokens": 1_600, "usage_ratio": 0.5, "request_blocks": 9},
            KvRoom(100, 2, True, block_tokens=16, usage_ratio=0.5, request_blocks=9),
            id="all that there is",
        ),
    ],
)
def test_the_room(figures, expected):
    assert expected == room(**figures)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        pytest.param(2 * MIB - 1, "0 KV blocks, 0 tokens, 0.0 requests", id="less than a block"),
        pytest.param(2 * MIB, "1 KV blocks, 16 tokens, 0.2 requests", id="a block"),
        pytest.param(20 * MIB, "10 KV blocks, 160 tokens, 2.5 requests", id="ten"),
    ],
)
def test_worth(size, words):
    found = KvRoom(100, 2 * MIB, True, block_tokens=16, request_blocks=4)

    assert f"{words} like those that run now" == found.worth(size)


@pytest.mark.parametrize(
    ("lost", "fits"),
    [pytest.param(50, True, id="just fits"), pytest.param(51, False, id="one too many")],
)
def test_what_is_in_use(lost, fits):
    assert fits is KvRoom(100, 1, True, usage_ratio=0.5).still_fits(lost)
    assert KvRoom(100, 1, False, usage_ratio=0.5).still_fits(lost) is None
    assert KvRoom(100, 1, True).still_fits(lost) is None
