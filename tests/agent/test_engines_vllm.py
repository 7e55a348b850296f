"""What a vLLM page says of a service's traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import shipped

PAGE = (Path(__file__).parents[1] / "fixtures" / "engines" / "vllm_two_ranks.txt").read_text()


def read(text):
    return PageReader("vllm", shipped("vllm")).read(text)


def test_figures():
    """Ranks are summed; refusals are requests and failures; an abort is neither good nor bad."""
    found = read(PAGE)

    assert found.figures == {
        "requests_total": 700 + 100 + 9 + 5 + 184 + 2 + 12,
        "requests_failed_total": 5 + 2 + 12,
        "requests_waiting": 4,
        "requests_running": 5,
        "kv_cache_usage_ratio": 0.41,
        "tokens_total": 150_000,
    }
    assert found.started_wall_s == 1_800_000_000.41
    assert found.model == "llama"
    assert found.broken == ()


@pytest.mark.parametrize(
    ("objective_s", "over"),
    [
        pytest.param(5.0, 80, id="an edge is in the objective"),
        pytest.param(4.0, 80, id="between edges, the next above"),
        pytest.param(5.1, 20, id="just above an edge, the next"),
        pytest.param(0.1, 400, id="below every edge, the first"),
        pytest.param(60.0, None, id="above the last edge nothing can be told"),
    ],
)
def test_over_objective(objective_s, over):
    """Counted above the nearest bucket edge that is not below the objective: exact, never more."""
    assert read(PAGE).over(objective_s) == over


def test_absent_is_absent():
    """A quantity that the page does not have is not there, never 0."""
    found = read('vllm:request_success_total{finished_reason="stop"} 3\n')

    assert found.figures == {"requests_total": 3.0, "requests_failed_total": 0.0}
    assert found.durations == {}
    assert found.over(5.0) is None
    assert {"kv_cache_usage_ratio", "inter_token", "preemptions_total"} <= set(found.missing)
    assert "requests_total" not in found.missing


@pytest.mark.parametrize(
    ("labels", "model"),
    [
        pytest.param(['model_name="a"', 'model_name="a",engine="1"'], "a", id="ranks of one"),
        pytest.param(['model_name="a"', 'model_name="b"'], "", id="two models are not one"),
        pytest.param(['finished_reason="stop"'], "", id="not named"),
        pytest.param([f'model_name="{"x" * 129}"'], "x" * 128, id="a long name is cut"),
        pytest.param(['model_name="/srv/secret/llama"'], "llama", id="where it lies is not told"),
        pytest.param(['model_name="s3://me:secret@host/llama"'], "", id="nor an address"),
    ],
)
def test_model(labels, model):
    """A page names the model when all its series name the same one."""
    page = "".join(f"vllm:request_success_total{{{one}}} 1\n" for one in labels)

    assert read(page).model == model


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-5", "-Inf"])
def test_what_is_no_count_is_said(value):
    """A sum with a broken part is no sum: it is absent, and its name told."""
    found = read(
        'vllm:request_success_total{engine="0",finished_reason="stop"} 3\n'
        f'vllm:request_success_total{{engine="1",finished_reason="stop"}} {value}\n'
        "vllm:generation_tokens_total 7\n"
    )

    assert found.figures == {"tokens_total": 7.0, "requests_failed_total": 0.0}
    assert [one.partition(" ")[0] for one in found.broken] == ["vllm:request_success_total"]


@pytest.mark.parametrize("edge", ["", "abc", "NaN"])
def test_broken_edge(edge):
    """A bucket whose edge is no number counts nothing and breaks nothing."""
    name = "vllm:e2e_request_latency_seconds_bucket"
    found = read(f'{name}{{le="{edge}"}} 1\n{name}{{le="1.0"}} 4\n{name}{{le="+Inf"}} 10\n')

    assert found.over(1.0) == 6
