"""What a vLLM page says of a service's traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.engine_vllm import PREFIXES, Traffic, read
from gpuward.agent.openmetrics import parse

PAGE = (Path(__file__).parents[1] / "fixtures" / "vllm_metrics.txt").read_text()


def traffic(text, objective_s=5.0):
    return read(parse(text, prefixes=PREFIXES), objective_s)


def test_read():
    """Ranks are summed; refusals are requests and failures; an abort is neither good nor bad."""
    assert traffic(PAGE) == Traffic(
        requests=700 + 100 + 9 + 5 + 184 + 2 + 12,
        failed=5 + 2 + 12,
        over_objective=(814 - 750) + (186 - 170),
        tokens=150_000,
        waiting=4,
        running=5,
        started_wall_s=1_800_000_000.41,
        model="llama",
    )


@pytest.mark.parametrize(
    ("objective_s", "over"),
    [
        pytest.param(5.0, 80, id="an edge is in the objective"),
        pytest.param(4.0, 80, id="between edges, the next above"),
        pytest.param(5.1, 20, id="just above an edge, the next"),
        pytest.param(0.1, 400, id="below every edge, the first"),
        pytest.param(60.0, 0, id="above the last edge nothing can be told"),
    ],
)
def test_over_objective(objective_s, over):
    """Counted above the nearest bucket edge that is not below the objective: exact, never more."""
    assert traffic(PAGE, objective_s).over_objective == over


def test_other_servers_page():
    """A page without vLLM's request counter is not that of a vLLM server."""
    assert traffic("process_start_time_seconds 1\nsglang:num_running_reqs 3\n") is None


def test_absent_is_none():
    """A quantity that the page does not have is None, never 0."""
    found = traffic('vllm:request_success_total{finished_reason="stop"} 3\n')

    assert found == Traffic(3, 0, None, None, None, None, None)


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

    assert traffic(page).model == model


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-5", "-Inf"])
def test_what_is_no_count_is_left_out(value):
    """A broken counter does not break the sum."""
    found = traffic(
        'vllm:request_success_total{engine="0",finished_reason="stop"} 3\n'
        f'vllm:request_success_total{{engine="1",finished_reason="stop"}} {value}\n'
    )

    assert found.requests == 3


@pytest.mark.parametrize("edge", ["", "abc", "NaN"])
def test_broken_edge(edge):
    """A bucket whose edge is no number counts nothing and breaks nothing."""
    name = "vllm:e2e_request_latency_seconds_bucket"
    found = traffic(
        "vllm:request_success_total 10\n"
        f'{name}{{le="{edge}"}} 1\n{name}{{le="1.0"}} 4\n{name}{{le="+Inf"}} 10\n',
        1.0,
    )

    assert found.over_objective == 6
