"""Move each threshold of the detectors a little, up and down, and see whether a test notices.

A pytest plugin, so that tests are collected once: ``test_thresholds`` runs it in a process of its
own, as ``python -m pytest -p threshold_mutants TESTS``.  A threshold is a numeric field of a
detector's ``Limits``, or a numeric constant of its module or of a rule's that it uses; its tests
are those that import the module or bear its name.  What was seen goes to the file named by
``GPUWARD_THRESHOLDS``: by threshold and direction, whether a test failed.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
from pathlib import Path
from typing import NamedTuple

from _pytest.runner import runtestprotocol

from gpuward.agent import detectors

DETECTORS = "gpuward.agent.detectors"
# By so much of a value, and at least by one where it counts things.
MOVED_BY = 0.1
NO_THRESHOLDS = (
    # Units, and numbers that name something.
    {"GIB", "MINUTE_S", "TICKS_PER_S", "FABRIC_COMPLETED", "LIBRARY_MISMATCH", "RESET_REQUIRED"}
    # Of what is said and how surely, not of whether; and how many figures a slope is made of.
    | {"CONFIDENCE", "PASSING_CONFIDENCE", "MOST_FOR", "MOST_AGAINST", "NAMED", "PIDS"}
    | {"SLOPE_EVERY"}
    # How far back floors are asked for: a trend takes no more of them anyway.
    | {"SPAN_S"}
)


class Threshold(NamedTuple):
    """A number that decides; ``owner`` is a module or the ``Limits`` of those named."""

    owner: object
    name: str
    modules: list[str]

    @property
    def title(self):
        return f"{self.modules[0]}.{self.name}"

    def set(self, value):
        # Limits are frozen for everybody else.
        object.__setattr__(self.owner, self.name, value)


def detector_modules():
    return [
        importlib.import_module(f"{DETECTORS}.{found.name}")
        for found in pkgutil.iter_modules(detectors.__path__)
    ]


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0


def thresholds():
    """Return every threshold of the detectors; one that several share is one."""
    found = {}
    for module in detector_modules():
        short = module.__name__.rpartition(".")[2]
        for owner, name in (*_of_limits(module), *_of_module(module)):
            threshold = found.setdefault((id(owner), name), Threshold(owner, name, []))
            threshold.modules.append(short)
    return list(found.values())


def _of_limits(module):
    parameters = inspect.signature(module.detect).parameters if hasattr(module, "detect") else {}
    limits = parameters["limits"].default if "limits" in parameters else None
    if dataclasses.is_dataclass(limits):
        for field in dataclasses.fields(limits):
            if is_number(getattr(limits, field.name)):
                yield limits, field.name


def _of_module(module):
    for constant, value in vars(module).items():
        is_own = f"\n{constant} = " in Path(module.__file__).read_text()
        if constant.isupper() and is_number(value) and is_own and constant not in NO_THRESHOLDS:
            yield module, constant


def moved(value, *, up):
    step = max(1, round(abs(value) * MOVED_BY)) if isinstance(value, int) else value * MOVED_BY
    return value + step if up else value - step


def tests_of(threshold, texts, items):
    """Return the tests in files that bear the name of its module or import it."""
    chosen = {
        path
        for path, text in texts.items()
        for module in threshold.modules
        if path.stem == f"test_{module}" or f"detectors.{module} import" in text
    }
    return [item for item in items if item.path in chosen]


def fails(tests):
    """Return whether one of the tests does not pass."""
    for place, item in enumerate(tests):
        following = tests[place + 1] if place + 1 < len(tests) else None
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            # The next run begins with fixtures of its own.
            item.session._setupstate.teardown_exact(None)
            return True
    return False


def pytest_runtestloop(session):
    texts = {path: path.read_text() for path in {item.path for item in session.items}}
    noticed = {}
    for threshold in thresholds():
        tests = tests_of(threshold, texts, session.items)
        right = getattr(threshold.owner, threshold.name)
        for direction in ("lower", "higher"):
            threshold.set(moved(right, up=direction == "higher"))
            try:
                noticed[f"{threshold.title} {direction}"] = fails(tests)
            finally:
                threshold.set(right)
    Path(os.environ["GPUWARD_THRESHOLDS"]).write_text(json.dumps(noticed, indent=1))
    return True
