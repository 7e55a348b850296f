"""`.ci/install-base`: what `make` installs, with a C++ compiler and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Stands where the environment's Python will be: notes what pip was asked for.
NOTE_TAKER = """#!/bin/sh
echo "$@" >> "{notes}"
"""


@pytest.fixture
def install(tmp_path):
    """Run the script in a tree whose environment is there already; returns its words and pip's."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    notes = tmp_path / "notes"
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(NOTE_TAKER.format(notes=notes))
    python.chmod(0o755)

    def run(compiler):
        done = subprocess.run(
            [tmp_path / ".ci" / "install-base", sys.executable],
            env={**os.environ, "CXX": compiler},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (0, "") == (done.returncode, done.stderr)
        return done.stdout, notes.read_text()

    return run


def test_without_a_compiler_it_says_so_and_goes_on(install):
    """Everything but the simulator is installed, and the words say what is missing and the mend."""
    said, asked = install("no-such-compiler")

    assert "No C++ compiler: gpuward is installed without its simulator" in said
    assert "apt-get install g++" in said
    assert "Ready: .venv/bin/gpuward" in said
    assert "-e agent/tap -e .[agent,coordinator]" in asked
    assert "native/simulator" not in asked


def test_once_there_is_a_compiler_make_installs_the_simulator(install, tmp_path):
    """The words say "run make again": then it must not take the environment for complete."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = tmp_path / ".venv"

    def is_to_make(compiler):
        asked = ["make", "--question", f"CXX={compiler}", ".venv/base.stamp"]
        return subprocess.run(asked, cwd=tmp_path, check=False, capture_output=True).returncode == 1

    install("no-such-compiler")
    for name in (
        subprocess.run(
            ["make", "--print-data-base", "--question", "help"],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        .stdout.partition("\n.venv/base.stamp: ")[2]
        .partition("\n")[0]
        .split()
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (environment / "base.stamp").touch()
    assert (is_to_make("no-such-compiler"), is_to_make("sh")) == (False, True)

    install("sh")
    (environment / "base.stamp").touch()
    assert not is_to_make("sh")


def test_with_a_compiler_the_simulator_is_built(install):
    said, asked = install("sh")

    assert "No C++ compiler" not in said
    assert asked.splitlines()[-1].endswith("-e native/simulator")
