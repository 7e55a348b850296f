"""The hook on a step of a serving engine: in its thread, when due, and never in its way."""

from __future__ import annotations

import types

import pytest

from gpuward.tap.engine_step import EngineStep


def engine(module="vllm.v1.worker.gpu_worker", owner="Worker", name="execute_model"):
    def step(self, a, *, b=0):
        """The engine's own."""
        if a == "fail":
            raise RuntimeError("out of memory")
        return a, b

    made = types.ModuleType(module)
    setattr(made, owner, type(owner, (), {name: step}))
    return {module: made}, getattr(made, owner), step


@pytest.fixture
def called():
    return []


@pytest.fixture
def hook(called):
    return EngineStep(lambda: called.append(1))


@pytest.mark.parametrize(
    "place",
    [
        ("vllm.v1.worker.gpu_worker", "Worker", "execute_model"),
        ("sglang.srt.managers.scheduler", "Scheduler", "run_batch"),
    ],
)
def test_called_once_after_each_request(hook, called, place):
    modules, owner, _ = engine(*place)
    hook.attach(modules)
    step = getattr(owner(), place[2])
    counts = [(step(1, b=2), len(called))]
    for _ in range(2):
        hook.ask()
        counts += [(step(1, b=2), len(called)), (step(3), len(called))]

    assert counts == [((1, 2), 0), ((1, 2), 1), ((3, 0), 1), ((1, 2), 2), ((3, 0), 2)]


def test_an_engine_that_steps_is_counted_on_and_an_idle_one_is_not(hook):
    modules, owner, _ = engine()
    hook.attach(modules)
    before = [hook.ask(), hook.ask()]
    owner().execute_model(1)
    after = [hook.ask() for _ in range(5)]

    assert (before, after) == ([False, False], [True, True, True, False, False])


def test_trouble_in_the_tap_stays_there(called):
    modules, owner, _ = engine()
    hook = EngineStep(lambda: 1 // 0)
    hook.attach(modules)
    hook.ask()

    assert owner().execute_model(1) == (1, 0)


def test_trouble_of_the_engine_is_the_engine_s(hook, called):
    modules, owner, _ = engine()
    hook.attach(modules)
    hook.ask()

    with pytest.raises(RuntimeError, match="out of memory"):
        owner().execute_model("fail")
    assert called == []


def test_the_step_looks_as_before(hook):
    modules, owner, step = engine()
    hook.attach(modules)

    assert (step.__doc__, step) == (owner.execute_model.__doc__, owner.execute_model.__wrapped__)


def test_it_is_put_back(hook):
    modules, owner, step = engine()
    hook.attach(modules)
    hook.attach(modules)
    hook.detach()

    assert owner.execute_model is step


def test_what_wrapped_it_since_stays(hook):
    modules, owner, _ = engine()
    hook.attach(modules)
    owner.execute_model = other = lambda self: None
    hook.detach()

    assert owner.execute_model is other


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param({}, id="none"),
        pytest.param({"vllm.v1.worker.gpu_worker": None}, id="blocked"),
        pytest.param({"vllm.v1.worker.gpu_worker": types.ModuleType("m")}, id="moved"),
        pytest.param({"vllm.v1.worker.gpu_worker": types.SimpleNamespace(Worker=3)}, id="no class"),
        pytest.param(
            {"vllm.v1.worker.gpu_worker": types.SimpleNamespace(Worker=type("W", (), {}))},
            id="no step",
        ),
    ],
)
def test_an_engine_of_another_shape_is_left_alone(hook, modules):
    hook.attach(modules)

    assert [hook.ask(), hook.ask()] == [False, False]
    hook.detach()
