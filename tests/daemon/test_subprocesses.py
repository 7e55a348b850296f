"""Programs that we start: capped, bounded, ended as a group."""

import sys
from pathlib import Path

from gpuward.daemon import subprocesses


async def test_output_and_status_come_back():
    done = await subprocesses.run(
        [sys.executable, "-c", "import sys; print('out'); sys.stderr.write('err'); sys.exit(3)"],
        timeout_s=200,
    )

    assert subprocesses.Finished(3, b"out\n", b"err", timed_out=False) == done


async def test_output_beyond_a_mebibyte_is_dropped():
    done = await subprocesses.run(
        [sys.executable, "-c", "print('x' * 3_000_000, end='')"], timeout_s=200
    )

    assert (done.returncode, len(done.stdout)) == (0, 1_048_576)


async def test_a_time_limit_ends_the_whole_group(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; wait"

    # Long enough for the shell to have come that far.
    for timeout_s in (0.5, 5.0, 50.0):
        done = await subprocesses.run(["/bin/sh", "-c", script], timeout_s=timeout_s)
        if pid_file.exists() and pid_file.read_text():
            break

    state = state_of(int(pid_file.read_text()))
    assert done.timed_out
    assert state in ("", "Z", "X")


def test_killing_a_group_that_is_gone_is_no_error():
    child = subprocesses.start([sys.executable, "-c", ""])
    child.wait(timeout=200)

    assert subprocesses.kill_group(child.pid) is None


def state_of(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rsplit(")", 1)[1].split()[0] if stat.exists() else ""
