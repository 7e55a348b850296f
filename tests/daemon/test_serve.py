"""A service ends when it is asked to, and in bounded time when it will not."""

import signal
import subprocess
import sys

import pytest

from gpuward.daemon import serve

POLITE = """
import asyncio
from gpuward.daemon import serve
async def main(stop):
    print("up", flush=True)
    await stop.wait()
    print("closed", flush=True)
serve.run(main)
"""

STUBBORN = """
import asyncio
from gpuward.daemon import serve
async def main(stop):
    print("up", flush=True)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
serve.run(main, stop_within_s=0.2)
"""


def test_what_the_service_raises_comes_out_as_it_is():
    async def main(stop):
        raise ValueError("port taken")

    with pytest.raises(ValueError, match="port taken"):
        serve.run(main)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_service_close(number):
    child = subprocess.Popen([sys.executable, "-c", POLITE], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "up\n"

    child.send_signal(number)
    out, _ = child.communicate(timeout=200)

    assert (out, child.returncode) == ("closed\n", 0)


def test_nohup_is_heeded():
    argv = ["nohup", sys.executable, "-c", POLITE]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout.readline() == "up\n"

    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.3)
    child.terminate()
    out, _ = child.communicate(timeout=200)

    assert (out, child.returncode) == ("closed\n", 0)


def test_a_service_that_will_not_end_is_ended():
    child = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout.readline() == "up\n"

    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=200)

    assert child.returncode == 1
