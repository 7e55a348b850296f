"""Who may ask an allocator, and when: the deadlock rule and the sleep rule as tables."""

from __future__ import annotations

import types

import pytest

from gpuward.tap import own_allocators
from gpuward.tap.safety import is_safe_to_ask, is_waiting

SLEEP_MODE = {"vllm", "vllm.device_allocator.cumem"}


@pytest.mark.parametrize(
    ("backend", "modules", "brings_own", "in_step", "safe"),
    [
        pytest.param("native", set(), False, False, True, id="torch's own allocator"),
        pytest.param("native", {"vllm", "rmm"}, False, False, True, id="no allocator of theirs"),
        pytest.param("native", SLEEP_MODE, False, False, False, id="vLLM's sleep mode"),
        pytest.param("native", {"rmm.allocators.torch"}, False, False, False, id="RMM"),
        pytest.param("native", {"gpu_memory_service"}, False, False, False, id="Dynamo"),
        pytest.param("native", set(), True, False, False, id="one that nobody knows"),
        pytest.param("native", SLEEP_MODE, False, True, True, id="between an engine's steps"),
        pytest.param("native", set(), True, True, True, id="unknown, between steps"),
        pytest.param("cudaMallocAsync", set(), False, False, False, id="the driver's"),
        pytest.param("cudaMallocAsync", set(), False, True, False, id="the driver's, in a step"),
        pytest.param("pluggable", set(), True, True, False, id="pluggable, in a step"),
    ],
)
def test_is_safe_to_ask(backend, modules, brings_own, in_step, safe):
    assert is_safe_to_ask(backend, modules, brings_own=brings_own, in_step=in_step) is safe


@pytest.mark.parametrize(
    ("module", "waiting"),
    [
        pytest.param("threading", True, id="joins a thread"),
        pytest.param("asyncio.base_events", True, id="event loop"),
        pytest.param("selectors", True, id="poll"),
        pytest.param("__main__", False, id="the program itself: perhaps in C"),
        pytest.param("torch.cuda", False, id="torch: perhaps in the driver"),
        pytest.param("threading_tools", False, id="a name that only begins so"),
    ],
)
def test_is_waiting(module, waiting):
    assert is_waiting(types.SimpleNamespace(f_globals={"__name__": module})) is waiting
    assert not is_waiting(None)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(own_allocators, "_made", [])


def test_an_allocator_of_the_program_s_own_is_noticed(made):
    """And made as before."""
    torch = types.SimpleNamespace(_C=types.SimpleNamespace(_cuda_customAllocator=divmod))
    own_allocators.watch(torch)
    assert not own_allocators.is_any()

    assert torch._C._cuda_customAllocator(7, 2) == (3, 1)
    assert own_allocators.is_any()


def test_one_that_fails_is_noticed_too(made):
    torch = types.SimpleNamespace(_C=types.SimpleNamespace(_cuda_customAllocator=divmod))
    own_allocators.watch(torch)

    with pytest.raises(ZeroDivisionError):
        torch._C._cuda_customAllocator(7, 0)
    assert own_allocators.is_any()


def test_a_torch_without_cuda_is_left_alone(made):
    torch = types.SimpleNamespace(_C=types.SimpleNamespace())
    own_allocators.watch(torch)

    assert vars(torch._C) == {}
