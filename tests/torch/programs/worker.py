"""Start CUDA and hold memory in a process made as the first argument says; print when that was.

The second argument is what the main thread does then: run Python, sleep in C for five seconds
before it does, or wait for a thread.  The process lives until its parent, or standard input, ends.
"""

import ctypes
import json
import multiprocessing
import os
import select
import sys
import threading
import time

import torch


def is_wanted():
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.is_alive()
    return not select.select([sys.stdin], [], [], 0)[0]


def run_python():
    while is_wanted():
        time.sleep(0.005)


def sleep_in_c():
    ctypes.CDLL(None).sleep(5)
    run_python()


def wait_for_a_thread():
    thread = threading.Thread(target=run_python)
    thread.start()
    thread.join()


def work(main_thread):
    torch.cuda.init()
    now = {"pid": os.getpid(), "mono_ns": time.monotonic_ns(), "real_ns": time.time_ns()}
    held = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    print(json.dumps(now), flush=True)
    globals()[main_thread]()
    del held


if __name__ == "__main__":
    kind, main_thread = sys.argv[1:]
    if kind == "here":
        work(main_thread)
    else:
        child = multiprocessing.get_context(kind).Process(target=work, args=(main_thread,))
        child.daemon = True
        child.start()
        sys.stdin.read()
        child.terminate()
        child.join()
