"""The state file from Python: memory is given, returned, and never lost or counted twice."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.simulator.layout import MAX_PROCESSES, EventKind
from gpuward.simulator.state import DeviceProcess, ProcessKind, State, StateError

TOTAL = 1000
RESERVED = 100


@pytest.fixture
def blank(tmp_path):
    state = State.create(tmp_path / "state", 2)
    for gpu in (0, 1):
        state.gpu(gpu).memory_total_bytes = TOTAL
        state.gpu(gpu).memory_reserved_bytes = RESERVED
    yield state
    state.close()


@pytest.mark.parametrize(
    ("sizes", "outcomes", "used"),
    [
        pytest.param([0], [True], 0, id="nothing"),
        pytest.param([900], [True], 900, id="all there is"),
        pytest.param([901], [False], 0, id="one byte too many"),
        pytest.param([600, 301, 300], [True, False, True], 900, id="a refusal takes nothing"),
    ],
)
def test_take(blank, sizes, outcomes, used):
    """Memory is given until total minus reserved is used up."""
    assert [blank.take(0, os.getpid(), size) for size in sizes] == outcomes
    assert blank.used_bytes(0) == used
    assert blank.free_bytes(0) == TOTAL - RESERVED - used
    assert blank.used_bytes(1) == 0


def test_give_back(blank):
    """Memory comes back, never more than was taken, and the process stays visible."""
    blank.take(0, os.getpid(), 500)
    blank.give_back(0, os.getpid(), 200)
    assert blank.used_bytes(0) == 300

    blank.give_back(0, os.getpid(), 9999)
    assert blank.processes(0) == [DeviceProcess(os.getpid(), 0, ProcessKind.COMPUTE)]


def test_forget(blank):
    """A forgotten process is on no GPU any more."""
    blank.take(0, os.getpid(), 5)
    blank.take(1, os.getpid(), 5, ProcessKind.MPS)
    blank.forget(os.getpid())

    assert blank.processes(0) == blank.processes(1) == []
    assert blank.free_bytes(0) == TOTAL - RESERVED


def test_the_dead_hold_nothing(blank, child):
    """A dead process's memory is free at once, also for one with the same pid."""
    process = child()
    blank.take(0, process.pid, 900)
    assert not blank.take(0, os.getpid(), 1)

    process.kill()
    process.wait()
    assert blank.used_bytes(0) == 0
    assert blank.take(0, os.getpid(), 900)
    with pytest.raises(ProcessLookupError, match=f"process {process.pid} is not alive"):
        blank.take(0, process.pid, 1)


def test_pid_of_an_older_process(blank):
    """A row of an earlier process with the same pid is not this one's."""
    blank.take(0, os.getpid(), 500)
    blank.gpu(0).processes[0].start_ticks -= 1

    assert blank.processes(0) == []
    blank.take(0, os.getpid(), 1)
    assert blank.processes(0) == [DeviceProcess(os.getpid(), 1, ProcessKind.COMPUTE)]


def test_full_table(blank, child):
    """With all rows of living processes there is no place; a dead one's row is used again."""
    living = child().pid
    for row in blank.gpu(0).processes:
        blank.take(0, living, 0)
        (row.pid, row.start_ticks) = (living, blank.gpu(0).processes[0].start_ticks)
    assert not blank.take(0, os.getpid(), 1)

    blank.gpu(0).processes[MAX_PROCESSES - 1].start_ticks = 1
    assert blank.take(0, os.getpid(), 1)


def churn(path, rounds):
    state = State.open(path)
    for _ in range(rounds):
        if state.take(0, os.getpid(), 300):
            assert state.used_bytes(0) <= TOTAL - RESERVED
            state.give_back(0, os.getpid(), 300)


def test_several_processes(blank):
    """Concurrent takers never get more than there is, and leave nothing behind."""
    context = multiprocessing.get_context("spawn")
    takers = [context.Process(target=churn, args=(blank.path, 50)) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()

    assert [taker.exitcode for taker in takers] == [0] * 4
    assert blank.used_bytes(0) == 0


def hold_lock(path):
    state = State.open(path)
    with state._locked(0):
        os.kill(os.getpid(), signal.SIGSTOP)


def test_killed_holder_of_the_lock(blank):
    """A process killed while it holds a lock blocks nobody."""
    holder = multiprocessing.get_context("spawn").Process(target=hold_lock, args=(blank.path,))
    holder.start()
    while "(stopped)" not in Path(f"/proc/{holder.pid}/status").read_text():
        time.sleep(0.01)
    holder.kill()
    holder.join()

    assert blank.take(0, os.getpid(), 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2 * TOTAL)), max_size=30))
def test_used_is_what_was_taken(tmp_path_factory, steps):
    """Whatever is taken and returned, used is the difference and parts make the whole."""
    state = State.create(tmp_path_factory.mktemp("state") / "state", 1)
    state.gpu(0).memory_total_bytes = TOTAL
    state.gpu(0).memory_reserved_bytes = RESERVED
    used = 0
    for is_take, size in steps:
        if is_take:
            assert state.take(0, os.getpid(), size) == (used + size <= TOTAL - RESERVED)
            used += size if used + size <= TOTAL - RESERVED else 0
        else:
            state.give_back(0, os.getpid(), size)
            used = max(0, used - size)
        assert state.used_bytes(0) == used
        assert state.used_bytes(0) + state.free_bytes(0) + RESERVED == TOTAL
    state.close()


def test_events_are_numbered(blank):
    """Events count from one, and the ring keeps the last 256."""
    for code in range(257):
        blank.add_event(0, EventKind.XID, code)

    assert blank.row.event_count == 257
    assert (blank.row.events[0].sequence, blank.row.events[0].data) == (257, 256)
    assert (blank.row.events[1].sequence, blank.row.events[1].data) == (2, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param(b"short", "not a state file of this version", id="another size"),
        pytest.param(bytes(61_928), "not a state file of this version", id="no magic"),
    ],
)
def test_what_is_no_state_file(tmp_path, content, message):
    """A file that is none is refused in one line that names it."""
    path = tmp_path / "state"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(StateError, match=f"^{path}: {message}"):
        State.open(path)


def test_open_by_environment(blank, monkeypatch):
    """Without a path the environment names the file, and says so when it does not."""
    monkeypatch.setenv("GPUWARD_SIM_STATE", str(blank.path))
    assert State.open().row.gpu_count == 2

    monkeypatch.delenv("GPUWARD_SIM_STATE")
    with pytest.raises(StateError, match="GPUWARD_SIM_STATE is not set"):
        State.open()


@pytest.mark.parametrize("count", [0, 17])
def test_how_many_gpus(tmp_path, count):
    """A machine has 1 to 16 GPUs."""
    with pytest.raises(StateError, match=f"1 to 16 GPUs, not {count}"):
        State.create(tmp_path / "state", count)


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_gpu(blank, index):
    """A GPU beyond the machine's is an error, not a blank one."""
    with pytest.raises(IndexError, match=f"GPU {index} of 2"):
        blank.gpu(index)
