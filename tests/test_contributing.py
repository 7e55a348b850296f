"""CONTRIBUTING.md's worked example works: it is applied to a copy of the tree and tested there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = (
    ".ci",
    "agent",
    "coordinator",
    "daemon",
    "docs",
    "protos",
    "tests/agent",
    "tests/fixtures/golden",
)
FILES = ("pyproject.toml", "tests/conftest.py", "tests/test_completeness.py")
SOURCE_ROOTS = ("agent", "agent/tap", "coordinator", "daemon", "protos")
# "**One file**, `path`:" and a block of code.
STEP = re.compile(
    r"^\*\*One (?P<what>\w+)\*\*[^\n]*?`(?P<path>[\w./]+\.py)`[^\n]*:\n```\w+\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def steps():
    """The example's path and block of code, by what it adds."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    steps = {found["what"]: (found["path"], found["block"]) for found in STEP.finditer(text)}
    assert {"file", "line", "test"} == steps.keys()
    return steps


@pytest.fixture
def tree(tmp_path):
    """A copy of what the agent and its tests are made of."""
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def add(tree, step):
    """Write a new file as a contributor would."""
    path, block = step
    assert not (tree / path).exists()
    (tree / path).write_text(block)


def patch(tree, step):
    """Apply a diff by its context; a context that is not there once is an example gone stale."""
    path, block = step
    text = (tree / path).read_text()
    for hunk in block.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines)
        assert 1 == text.count(before), f"{path} has no such lines:\n{before}"
        text = text.replace(before, after)
    (tree / path).write_text(text)


def python(tree, *arguments):
    """Run Python in the copy; -S, because this environment's own gpuward is the original tree."""
    path = [str(tree / root) for root in SOURCE_ROOTS] + [sysconfig.get_path("purelib")]
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": ":".join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run(tree, *arguments):
    done = python(tree, *arguments)
    assert 0 == done.returncode, done.stdout
    return done.stdout


def test_the_example_is_all_that_a_detector_needs(tree, steps):
    """Its test passes, the judge runs it, the documents show it, and the house has no complaint."""
    add(tree, steps["file"])
    patch(tree, steps["line"])
    add(tree, steps["test"])
    run(tree, ".ci/generate-docs", "docs")

    assert " passed" in run(tree, "-m", "pytest", "-q", "tests/test_completeness.py")
    assert " passed" in run(tree, "-m", "pytest", "-q", steps["test"][0])
    assert "\n| `gpu.bar1.full` | ticket | capacity |" in (tree / "docs/findings.md").read_text()


def test_the_example_has_the_style_of_the_house(tree, steps):
    add(tree, steps["file"])
    patch(tree, steps["line"])
    add(tree, steps["test"])

    paths = [path for path, _ in steps.values()]
    run(tree, "-m", "ruff", "check", "--quiet", "--no-cache", *paths)
    run(tree, "-m", "ruff", "format", "--check", "--quiet", "--no-cache", *paths)


@pytest.mark.parametrize(
    ("left_out", "found_by"),
    [
        ("line", "test_each_detector_is_listed_once"),
        ("test", "test_each_detector_has_its_test"),
    ],
)
def test_what_is_left_out_is_found(tree, steps, left_out, found_by):
    """Half an example fails, and the failure says by its name what is missing."""
    add(tree, steps["file"])
    if left_out != "line":
        patch(tree, steps["line"])
    if left_out != "test":
        add(tree, steps["test"])
    done = python(tree, "-m", "pytest", "-q", "tests/test_completeness.py")

    assert 1 == done.returncode
    assert f"FAILED tests/test_completeness.py::{found_by}" in done.stdout
