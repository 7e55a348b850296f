"""Every system call of the tap fails, one after another and for good: the host does not notice.

The calls fail in the C library, under the interpreter, so that none is forgotten here; a child of
fork for each case runs the same workload, with an out-of-memory error and a question to the tap.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "failing_host.py"
# A case of the program: first failing call, how many, errno, what lies in the tap directory.
UNTAPPED = [-1, 0, 0, None]
UNHURT = [10**6, 0, 0, {}]


@pytest.fixture
def results(host, library):
    """Run cases; what each said, how many calls its tap made, and what it left."""

    def run(*cases):
        process = host.start(PROGRAM.read_text(), LD_PRELOAD=str(library("tap/failing_calls")))
        out, err = process.communicate(json.dumps(cases), timeout=200)
        assert (process.returncode, err) == (0, "")
        return json.loads(out)

    return run


def test_without_failures_all_of_the_tap_takes_part(results):
    """Else the other tests here would show nothing."""
    untapped, unhurt = results(UNTAPPED, UNHURT)

    assert (untapped[0], untapped[1:3]) == (0, [unhurt[1], "0"])
    assert int(unhurt[2]) > 40
    assert unhurt[3] == [".req"]


ERRORS = ["EACCES", "EMFILE", "ENOENT", "ENOSPC", "EROFS", "EIO"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("many", [1, 10**6], ids=["once", "from then on"])
def test_each_call_fails(results, error, many):
    number = getattr(errno, error)
    calls = range(48) if many == 1 else range(0, 48, 3)
    untapped, *failed = results(UNTAPPED, *([first, many, number, {}] for first in calls))

    said = {(status, text) for status, text, _, _ in failed}
    assert said == {(0, untapped[1])}


HOSTILE = ["folder", "pipe", "link", "huge"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_lies_where_the_tap_writes(results, kind):
    """A stranger may have taken any name, were it to guess it."""
    ends = (".tmp", ".tap", ".req", ".map", ".map.tmp")
    untapped, *hurt = results(UNTAPPED, *([10**6, 0, 0, {end: kind}] for end in ends))

    assert {(status, text) for status, text, _, _ in hurt} == {(0, untapped[1])}
