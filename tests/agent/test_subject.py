"""What a finding says it is about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuward.agent.model import Finding, Process, Subject
from gpuward.agent.subject import subject_of
from gpuward.agent.window import Window

CHAT = Process("python3.11", 10, 5, gpus=("GPU-1",), engine="vllm", model="m", service="chat")
CHAT_TOO = replace(CHAT, pid=11)
CODE = Process("python3.11", 12, 5, gpus=("GPU-2",), service="code")
PROBE = Process("probe", 14, 5, gpus=("GPU-1",), unit="gpuward-probe@GPU-1.service")
IDLE = Process("jupyter.service", 13, 5, gpus=("GPU-1",))


@pytest.mark.parametrize(
    ("processes", "about", "subject"),
    [
        pytest.param(
            [CHAT, CODE],
            {"gpu": "GPU-1", "process": "python3.11"},
            Subject(
                "GPU-1", process="python3.11", pid=10, engine="vllm", model="m", service="chat"
            ),
            id="a process of the key on the GPU",
        ),
        pytest.param(
            [CHAT, CODE],
            {"gpu": "GPU-2", "process": "python3.11"},
            Subject("GPU-2", process="python3.11", pid=12, service="code"),
            id="another of the key on another GPU",
        ),
        pytest.param(
            [CHAT, CODE],
            {"process": "python3.11"},
            Subject(process="python3.11", pid=10, engine="vllm", model="m"),
            id="two services of one key are none",
        ),
        pytest.param(
            [CHAT, CODE],
            {"gpu": "GPU-1", "pid": 12},
            Subject("GPU-1", process="python3.11", pid=12, service="code"),
            id="a pid is enough, on whatever GPU",
        ),
        pytest.param(
            [CHAT],
            {"gpu": "GPU-1", "process": "gone.service"},
            Subject("GPU-1", process="gone.service"),
            id="a process that is gone",
        ),
        pytest.param(
            [CHAT, CHAT_TOO, CODE],
            {"gpu": "GPU-1"},
            Subject("GPU-1", service="chat"),
            id="a GPU of one service",
        ),
        pytest.param(
            [CHAT, IDLE], {"gpu": "GPU-1"}, Subject("GPU-1"), id="a GPU that others use too"
        ),
        pytest.param(
            [CHAT, PROBE],
            {"gpu": "GPU-1"},
            Subject("GPU-1", service="chat"),
            id="a GPU that is also measured",
        ),
        pytest.param([], {"gpu": "GPU-1"}, Subject("GPU-1"), id="a GPU that nobody uses"),
        pytest.param([CHAT], {}, Subject(), id="the node"),
    ],
)
def test_subject_of(processes, about, subject):
    """A service is named only when every process that the subject covers serves it."""
    assert subject_of(Window.of(now_s=1.0, processes=processes), **about) == subject


@pytest.mark.parametrize(
    ("subject", "key"),
    [
        pytest.param(Subject("GPU-1", service="chat"), "k||GPU-1||", id="GPU"),
        pytest.param(Subject("", process="p", service="chat"), "k|||p|", id="process"),
        pytest.param(Subject("GPU-1", process="p"), "k||GPU-1|p|", id="process on a GPU"),
        pytest.param(Subject(service="chat"), "k||||chat", id="service"),
        pytest.param(
            Subject("GPU-1", process="p", service="chat", endpoint="a:1"),
            "k||||chat|a:1",
            id="replica, whose process and GPU are known",
        ),
        pytest.param(Subject("GPU-1", endpoint="db"), "k||GPU-1|||db", id="upstream seen by a GPU"),
    ],
)
def test_dedup_key(subject, key):
    """Learning whom a process serves does not make its trouble another trouble."""
    assert Finding("k", subject, "").dedup_key == key
