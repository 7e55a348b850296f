"""Every system call of the tap fails, in real torch: the workload says what it says without.

A sample of the calls; all of them, 1,440 cases, with GPUWARD_EVERY_FAILURE=1: two minutes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

PROGRAM = Path(__file__).parents[1] / "tap" / "programs" / "failing_host.py"
# torch's own warning of an out-of-memory error has the time in it.
WARNING = re.compile(r"^\[W.*CUDACachingAllocator.*\n", re.MULTILINE)
# Cases: first failing call, how many, errno, what lies in the tap directory.
UNTAPPED = [-1, 0, 0, None]
UNHURT = [10**6, 0, 0, {}]
# About as many as there are; how many there are depends on the machine's pace.
CALLS = 120
EVERY = bool(os.environ.get("GPUWARD_EVERY_FAILURE"))
ERRORS = ["EACCES", "EMFILE", "ENOENT", "ENOSPC", "EROFS", "EIO"]


@pytest.fixture
def results(node, tap, library):
    """Run cases, each in a process that torch was imported into: what each said and left."""

    def run(*cases):
        child = node.start(str(PROGRAM), LD_PRELOAD=str(library("tap/failing_calls")), **tap)
        out, err = child.communicate(json.dumps(cases))
        assert child.returncode == 0, err
        return [[status, WARNING.sub("", said), *rest] for status, said, *rest in json.loads(out)]

    return run


def test_without_failures_all_of_the_tap_takes_part(results):
    """Else the other tests here would show nothing."""
    untapped, unhurt = results(UNTAPPED, UNHURT)

    assert (untapped[0], untapped[2]) == (0, "0")
    assert untapped[1] == unhurt[1]
    assert int(unhurt[2]) > CALLS // 2


@pytest.mark.timeout(600 if EVERY else 300)
@pytest.mark.parametrize("error", ERRORS)
def test_each_call_fails(results, error):
    """Once, or it and all after it."""
    number = getattr(errno, error)
    calls = range(CALLS) if EVERY else range(ERRORS.index(error), CALLS, 8)
    cases = [[first, many, number, {}] for first in calls for many in (1, 10**6)]
    untapped, *failed = results(UNTAPPED, *cases)

    assert {(status, said) for status, said, *_ in failed} == {(0, untapped[1])}


@contextlib.contextmanager
def mounted(folder, options):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_directory_that_is_none(results, tmp_path):
    """Missing, a file, a pipe, a link to itself, read-only, full."""
    places = {name: tmp_path / name for name in ("absent", "file", "pipe", "loop")}
    places["file"].touch()
    os.mkfifo(places["pipe"])
    places["loop"].symlink_to(places["loop"])
    with mounted(tmp_path / "ro", "ro") as ro, mounted(tmp_path / "full", "size=4k") as full:
        every = [*places.values(), ro, full, Path("/proc"), Path("/dev/null")]
        untapped, *hurt = results(UNTAPPED, *([10**6, 0, 0, str(place)] for place in every))

    assert [(status, said) for status, said, *_ in hurt] == [(0, untapped[1])] * len(every)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "huge"])
def test_whatever_lies_where_the_tap_writes(results, kind):
    """A stranger may have taken any name, were it to guess it."""
    ends = (".tmp", ".tap", ".req", ".map", ".map.tmp")
    untapped, *hurt = results(UNTAPPED, *([10**6, 0, 0, {end: kind}] for end in ends))

    assert {(status, said) for status, said, *_ in hurt} == {(0, untapped[1])}
