"""What a vLLM page says of its KV cache, and nothing where it says nothing."""

from __future__ import annotations

import pytest

from gpuward.agent.engine_kv_cache import KvCache
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import shipped

# The labels of a release from 2026; the settings are made up.
INFO = (
    'block_size="16",cache_dtype="auto",enable_prefix_caching="True",gpu_memory_utilization="0.9",'
    'kv_cache_memory_bytes="None",num_cpu_blocks="None",num_gpu_blocks="27456",'
    'num_gpu_blocks_override="None",sliding_window="None",swap_space="4.0"'
)


def cache(*lines):
    return PageReader("vllm", shipped("vllm")).read("\n".join((*lines, ""))).kv_cache


def info(labels=INFO, **changed):
    for name, value in changed.items():
        before = next((one for one in labels.split(",") if one.startswith(f"{name}=")), None)
        after = f'{name}="{value}"'
        labels = labels.replace(before, after) if before else f"{labels},{after}"
    return f"vllm:cache_config_info{{{labels}}} 1.0"


def test_a_server():
    found = cache(info(), 'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25')

    assert found == KvCache(
        27_456,
        1,
        tokens=439_296,
        usage_ratio=0.25,
        gpu_memory_utilization=0.9,
        used_ratios={"0": 0.25},
    )


@pytest.mark.parametrize(
    ("changed", "field", "expected"),
    [
        pytest.param({"kv_cache_memory_bytes": 8 << 30}, "bytes", 8 << 30, id="size is set"),
        pytest.param({}, "bytes", None, id="size is not set"),
        # A hybrid model: the block named is the smallest of several kinds.
        pytest.param(
            {"block_size": 4, "kv_cache_size_tokens": 160_640}, "tokens", 160_640, id="hybrid"
        ),
        pytest.param({"block_size": "None"}, "tokens", None, id="block size is not told"),
        pytest.param({"gpu_memory_utilization": 1}, "gpu_memory_utilization", 1.0, id="all of it"),
        pytest.param({"gpu_memory_utilization": 1.1}, "gpu_memory_utilization", None, id="more"),
        pytest.param({"gpu_memory_utilization": 0}, "gpu_memory_utilization", None, id="none"),
        pytest.param({"gpu_memory_utilization": "x"}, "gpu_memory_utilization", None, id="words"),
        pytest.param({"num_gpu_blocks": 9 * 10**14}, "blocks", 9 * 10**14, id="very many"),
    ],
)
def test_a_setting(changed, field, expected):
    assert expected == getattr(cache(info(**changed)), field)


@pytest.mark.parametrize("blocks", ["None", "0", "-1", "", "1e3", "\u0665", "1" * 16], ids=repr)
def test_without_blocks_there_is_no_cache(blocks):
    """At start-up it is not sized yet; what is no count is none."""
    assert cache(info(num_gpu_blocks=blocks)) is None


def test_no_cache_on_the_page():
    assert cache("vllm:kv_cache_usage_perc 0.5") is None


def test_data_parallel_ranks():
    """The smallest of them is told, usage is the mean."""
    found = cache(
        info(engine=0, num_gpu_blocks=1_001),
        info(engine=1, num_gpu_blocks=1_000),
        'vllm:kv_cache_usage_perc{engine="0"} 0.5',
        'vllm:kv_cache_usage_perc{engine="1"} 0.3',
    )

    assert (1_000, 2, 0.4) == (found.blocks, found.ranks, found.usage_ratio)


@pytest.mark.parametrize(
    ("rank", "used"),
    [
        pytest.param("DP0", 0.2, id="an engine core"),
        pytest.param("DP1_TP3", 0.9, id="a worker"),
        pytest.param("DP7_TP0", 0.9, id="a rank that the page has not: the most"),
        pytest.param("TP3", 0.9, id="not known of which"),
        pytest.param("", 0.9, id="not known at all"),
    ],
)
def test_what_a_process_of_a_rank_uses(rank, used):
    """A full rank is not hidden by one that is empty."""
    found = cache(
        info(engine=0, num_gpu_blocks=1_000),
        info(engine=1, num_gpu_blocks=1_000),
        'vllm:kv_cache_usage_perc{engine="0"} 0.2',
        'vllm:kv_cache_usage_perc{engine="1"} 0.9',
    )

    assert found.used_by(rank) == used


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["vllm:gpu_cache_usage_perc 0.5"], 0.5, id="the older name"),
        pytest.param(
            ["vllm:gpu_cache_usage_perc 0.5", "vllm:kv_cache_usage_perc 0.4"], 0.4, id="both"
        ),
        pytest.param(["vllm:kv_cache_usage_perc 1.0"], 1.0, id="full"),
        pytest.param(["vllm:kv_cache_usage_perc 1.1"], None, id="fuller than full"),
        pytest.param(["vllm:kv_cache_usage_perc NaN"], None, id="not a number"),
        pytest.param([], None, id="not told"),
    ],
)
def test_usage(lines, expected):
    assert expected == cache(info(), *lines).usage_ratio
