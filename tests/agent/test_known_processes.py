"""A process is found out once, and again where it may be another or have another name."""

from __future__ import annotations

import pytest

from gpuward.agent.known_processes import KnownProcesses
from gpuward.agent.model import Process

PID = 50


class Proc:
    """A process in a folder like /proc; counts how often it is found out."""

    def __init__(self, root):
        self.root = root
        self.key = "python"
        self.looks = 0
        self.write(start=7)

    def write(self, *, start, state="S"):
        folder = self.root / str(PID)
        folder.mkdir(exist_ok=True)
        fields = " ".join(["0"] * 17 + [str(start)] + ["0"] * 30)
        (folder / "stat").write_text(f"{PID} (python) {state} 1 {fields}\n")
        self.start, self.is_dead = start, state == "Z"

    def find_out(self, pid, _):
        self.looks += 1
        return None if self.is_dead else Process(self.key, pid, self.start)


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


@pytest.fixture
def known(proc):
    return KnownProcesses(proc.root, proc.find_out)


def test_it_is_found_out_ever_less_often(proc, known):
    """At first every five seconds, for its name may come late; in the end once a minute."""
    looked_s = []
    for now_s in range(0, 400, 5):
        before = proc.looks
        known.who(PID, float(now_s))
        if proc.looks > before:
            looked_s.append(now_s)

    assert [0, 5, 10, 20, 40, 80, 140, 200, 260, 320, 380] == looked_s


def test_a_new_name_is_found(proc, known):
    """An engine that names itself after its start is not known by its first name for ever."""
    known.who(PID, 0.0)
    proc.key = "vllm:llama"

    assert "python" == known.who(PID, 4.9).key
    assert "vllm:llama" == known.who(PID, 5.0).key


def test_a_pid_that_comes_back_is_another_process(proc, known):
    """It is found out at once, and begins anew."""
    known.who(PID, 0.0)
    known.who(PID, 60.0)
    proc.write(start=9)

    assert 9 == known.who(PID, 61.0).start_ticks

    proc.key = "vllm:llama"

    assert "vllm:llama" == known.who(PID, 66.0).key


@pytest.mark.parametrize("end", ["a zombie", "gone"])
def test_who_ended_is_not_remembered(proc, known, end):
    """Known or not: what is not there is nobody."""
    known.who(PID, 0.0)
    proc.write(start=7, state="Z")
    if end == "gone":
        (proc.root / str(PID) / "stat").unlink()

    assert None is known.who(PID, 1.0)


def test_forgotten(proc, known):
    """Who is asked for no more is found out anew when he is."""
    known.who(PID, 0.0)
    known.forget_all_but({51})
    known.who(PID, 1.0)

    assert 2 == proc.looks

    known.forget_all_but({PID})
    known.who(PID, 2.0)

    assert 2 == proc.looks
