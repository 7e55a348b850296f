"""A stand-in for the NVML child: speaks its protocol, behaves as its first argument says."""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
import time

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.model import Process

UUIDS = ("GPU-aaaa", "GPU-bbbb")
GIB = 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("--socket", type=int)
    parser.add_argument("--proc-root")
    parser.add_argument("--only")
    options = parser.parse_args()
    link = socket.socket(fileno=options.socket)
    return BEHAVIOURS[options.behaviour](link)


def send(link, *messages):
    link.send(protocol.encode(messages))


def present(link, *, indices=(0, 1)):
    send(link, protocol.Present("580.105.08", 2))
    for index in indices:
        send(link, protocol.Found(index, UUIDS[index], "H100", f"00000000:1{index}:00.0", "165"))


def readings(index):
    return protocol.readings(index, time.monotonic(), {"gpu_memory_used_bytes": 5.0 * GIB})


def holders(index, *processes):
    return protocol.Holders(index, time.monotonic(), processes)


def serve(link, *, waiting=(), readers=(0, 1)):
    """Speak every 50 ms until the parent hangs up."""
    while not select.select([link], [], [], 0.05)[0]:
        send(link, *(readings(index) for index in readers))
        send(link, protocol.Heartbeat(time.monotonic(), tuple(waiting)))
    return 0


def answer(link):
    present(link)
    vllm = Process("vllm.service", 41, 7, unit="vllm.service", engine="vllm")
    worker = Process("vllm.service", 42, 8, unit="vllm.service", engine="vllm")
    send(link, holders(0, protocol.Holder(vllm, GIB), protocol.Holder(worker, 2 * GIB)))
    send(link, holders(1, protocol.Holder(vllm, GIB)))
    return serve(link)


def hang(link):
    """GPU 1 has hung for as long as the test wants; GPU 0 is well."""
    present(link)
    send(link, readings(1))
    call = protocol.Waiting(
        1, "nvmlDeviceGetPowerUsage", time.monotonic(), threading.get_native_id()
    )
    return serve(link, waiting=[call], readers=(0,))


def hang_for_ever(link):
    """As above, in a way that hanging up does not end."""
    hang(link)
    time.sleep(60)
    return 0


def stall(link):
    """GPU 1 has not answered a single call, and stays so when the parent hangs up."""
    present(link)
    call = protocol.Waiting(
        1, "nvmlDeviceGetPowerUsage", time.monotonic(), threading.get_native_id()
    )
    serve(link, waiting=[call], readers=())
    time.sleep(60)
    return 0


def hang_in_init(link):
    call = protocol.Waiting(-1, "nvmlInit", time.monotonic(), threading.get_native_id())
    return serve(link, waiting=[call], readers=())


def missing(link):
    send(link, protocol.Gone(9, "nvmlInit: Driver Not Loaded"))
    return 75


def crash(link):
    present(link)
    send(link, readings(0), readings(1))
    return 3


def garble(link):
    link.send(b"\xc1 no message")
    return answer(link)


def lose(link):
    """GPU 1 is lost before it ever said who it is."""
    present(link, indices=(0,))
    send(link, protocol.Trouble(1, 15, "nvmlDeviceGetHandleByIndex: GPU is lost"))
    return serve(link, readers=(0,))


def cling(link):
    """Stay whatever one asks: only SIGKILL ends this."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    answer(link)
    while True:
        time.sleep(60)


def be_silent(link):
    present(link)
    send(link, readings(0), readings(1))
    select.select([link], [], [])
    return 0


BEHAVIOURS = {
    function.__name__: function
    for function in (
        answer,
        be_silent,
        cling,
        crash,
        garble,
        hang,
        hang_for_ever,
        hang_in_init,
        lose,
        missing,
        stall,
    )
}

if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())
