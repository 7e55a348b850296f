"""Nothing is half added: a detector has its line, its kind, its words and its test, and it runs."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from gpuward.agent.component import Components
from gpuward.agent.detectors import DETECTORS
from gpuward.agent.judge import Judge
from gpuward.agent.kinds import HAPPENINGS, KINDS
from gpuward.agent.model import Result
from gpuward.agent.signals import SIGNALS
from gpuward.daemon.notify import Notifier
from gpuward.daemon.testing import FakeClock

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "agent" / "gpuward" / "agent" / "detectors"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
# What a finding can be about.
SIGNAL_NAME = re.compile(r"(gpu|process|service|driver|node)_[a-z_]+$")
KIND_NAME = re.compile(r"(gpu|process|driver|node|service|agent)(\.[a-z][a-z0-9_]*)+")


def load(module):
    return importlib.import_module(f"gpuward.agent.detectors.{module}")


def listings(module):
    """Return name and function of each kind in a module: one, or those of its table."""
    if hasattr(module, "FLAGS"):
        return [(flag.kind.name, flag.detect) for flag in module.FLAGS]
    return [(module.KIND.name, module.detect)]


def test_each_detector_is_listed_once():
    """A file without a line judges nothing, and nobody would notice."""
    listed = [(detector.kind.name, detector.detect) for detector in DETECTORS]
    there = [listing for module in MODULES for listing in listings(load(module))]

    assert there == listed


def test_each_kind_is_defined_once():
    """Two kinds of one name would be one, with the life of the second."""
    defined = [detector.kind.name for detector in DETECTORS] + [kind.name for kind in HAPPENINGS]

    assert sorted(defined) == sorted(KINDS)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_each_kind_has_a_frozen_name_and_words(name):
    """Dotted, about something that there is, and in the reference that people read."""
    reference = (ROOT / "docs" / "findings.md").read_text()

    assert KIND_NAME.fullmatch(name)
    assert KINDS[name].meaning.endswith(".")
    assert f"| `{name}` |" in reference, "run: make golden"


@pytest.mark.parametrize("module", MODULES)
def test_each_signal_that_is_judged_is_sampled(module):
    """A misspelt name is a series that is never there, and a detector that never speaks."""
    assert [] == [name for name in signals_of(module) if name not in SIGNALS]


@pytest.mark.parametrize("module", MODULES)
def test_each_detector_has_its_test(module):
    assert (ROOT / "tests" / "agent" / f"test_{module}.py").is_file()


async def test_each_detector_runs_in_the_judge():
    """On a node of which nothing is known yet, as at the first second of every agent."""
    judge = Judge(
        node="n1",
        boot_id="boot-1",
        instance="i",
        clock=FakeClock(),
        components=Components(),
        notifier=Notifier(""),
    )
    judge.tick()

    expected = {detector.component: Result.OK for detector in DETECTORS}
    assert len(DETECTORS) == len(expected)
    assert expected == {part.component: part.result for part in judge.snapshot.components}


def signals_of(module):
    """Yield the names that a detector asks the window for: SeriesKey(NAME), keys(NAME), FLAGS.

    What it loops over stands in a constant of its own, so those that look like a signal's count.
    """
    loaded = load(module)
    tree = ast.parse((FOLDER / f"{module}.py").read_text())
    yield from (flag.signal for flag in getattr(loaded, "FLAGS", ()))
    own = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    for value in (getattr(loaded, target.id) for target in own if isinstance(target, ast.Name)):
        texts = (value,) if isinstance(value, str) else value
        if isinstance(texts, tuple):
            yield from (text for text in texts if SIGNAL_NAME.match(str(text)))
    for node in ast.walk(tree):
        for name in asked(node) if isinstance(node, ast.Call) else ():
            if isinstance(name, ast.Constant):
                yield name.value
            elif isinstance(name, ast.Name) and name.id.isupper():
                yield getattr(loaded, name.id)


def asked(call):
    """Return what stands for the signal in a call that asks for one; "" comes later."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == "signal"]
    if getattr(call.func, "id", "") == "SeriesKey" or getattr(call.func, "attr", "") == "keys":
        found += call.args[:1]
    return [each for each in found if not (isinstance(each, ast.Constant) and not each.value)]
