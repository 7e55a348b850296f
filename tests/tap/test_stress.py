"""A small run of ``stress.py``; the whole one publishes a million times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "stress.py"


def test_no_reader_accepts_half_a_record():
    """While writers publish as fast as they can and are killed in the middle of it."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "10000"], capture_output=True, text=True, check=False, timeout=200
    )
    found = json.loads(done.stdout)

    assert (0, "") == (done.returncode, done.stderr)
    assert (0, 0, 0) == tuple(found[bad] for bad in ("inconsistent", "unreadable", "backwards"))
    assert (10_000, True) == (found["publications"], found["accepted"] > 100)
