"""What a wheel of gpuward holds: with a compiler the library, without one everything but it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LOOK = """
from gpuward.native import library, spin_gap
print(library.__file__, library.find(), spin_gap.spin_gaps(0, 1).reads)
"""


@pytest.mark.timeout(120)
def test_without_a_compiler(tmp_path):
    """No compiler: the package installs, pure, with the kernel's source and the Python twin."""
    target = tmp_path / "target"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-build-isolation", "--no-deps", "--no-index"]
    argv += ["--config-settings", f"build-dir={tmp_path / 'build'}"]
    argv += ["--target", str(target), str(PROJECT)]
    done = subprocess.run(
        argv,
        env={**os.environ, "CXX": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # -S: nothing of this environment, which may have the library.
    ran = subprocess.run(
        [sys.executable, "-S", "-c", LOOK],
        env={"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )

    path, found, reads = ran.stdout.split()
    assert Path(path).is_relative_to(target)
    assert (target / "gpuward" / "native" / "probes" / "empty.cu").is_file()
    assert not list(target.rglob("*.so"))
    assert int(reads) >= 1
    assert found == "None" or not Path(found).is_relative_to(target)
