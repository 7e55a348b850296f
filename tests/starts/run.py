"""How many engines start beside the agent, whatever happens to the agent meanwhile.

    python tests/starts/run.py [--starts 100] [--at-once 8] [--speed 1]

Eight simulated GPUs, an engine that starts on each (``engine.py``), and a real agent with its rules
and probe workers, which hold contexts on the simulated GPUs.  In each round the agent is started,
upgraded, killed or killed for lack of memory at a random moment of the starts; before it half of
the workers end, so that they want a context anew beside what starts next.  ``--speed``: the rules
and the engines are so many times faster; 1 is as it is in life, and takes half an hour for 100.
Prints the count; exit status 1 unless all have started and nothing was given back beside them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from agents import Agent, workers

from gpuward.simulator import libraries, profile
from gpuward.simulator.state import State

HERE = Path(__file__).parent
PROFILE = "h100-sxm-x8"
HAPPENINGS = ("start", "upgrade", "kill -9", "out of memory")
# Of an engine, and how long it then serves: rules let a probe in after 120 s.
START_S, SERVING_S = 80.0, 75.0
IDLE_S = 15.0
WATCH_S = 0.05


@dataclass
class Tally:
    """What was seen in all rounds."""

    started: int = 0
    failed: list[str] = field(default_factory=list)
    happened: dict[str, int] = field(default_factory=dict)
    contexts: int = 0
    beside_a_start: int = 0
    given_back: int = 0
    killed_by_kernel: int = 0


class Engine:
    """One engine on a GPU, from its start on."""

    def __init__(self, gpu: int, start_s: float, env: dict[str, str]) -> None:
        self.said = ""
        self._child = subprocess.Popen(
            [sys.executable, HERE / "engine.py", str(gpu), str(start_s)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.said = self._child.stdout.readline().strip() or "ended without a word"

    def outcome(self) -> str:
        """Return what it says when its start is over."""
        self._reader.join()
        return self.said

    def end(self) -> None:
        self._child.stdin.close()
        self._child.wait()


class Watcher(threading.Thread):
    """Sees contexts of workers come and go, and whether an engine was starting there."""

    def __init__(self, state: State, folder: Path, tally: Tally) -> None:
        super().__init__(daemon=True)
        self._state, self._folder, self._tally = state, folder, tally
        self._held: dict[int, set[int]] = {}
        # By GPU.
        self.engines: dict[int, Engine] = {}
        self.over = threading.Event()
        self._looks = 0

    def has_seen(self) -> None:
        """Return when all that is so now was seen: a look may be under way, so after the next."""
        until = self._looks + 2
        while self._looks < until and self.is_alive():
            time.sleep(WATCH_S)

    def run(self) -> None:
        while not self.over.wait(WATCH_S):
            self._looks += 1
            ours = set(workers(self._folder))
            for gpu in range(self._state.row.gpu_count):
                holding = {p.pid for p in self._state.processes(gpu) if p.pid in ours}
                before = self._held.get(gpu, set())
                self._held[gpu] = holding
                self._tally.contexts += len(holding - before)
                engine = self.engines.get(gpu)
                if engine is not None and not engine.said:
                    self._tally.beside_a_start += len(holding - before)
                    self._tally.given_back += len(before - holding)


def main() -> int:
    options = _options()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="gpuward-starts-"))
    try:
        tally = measure(folder, options.starts, options.at_once, options.speed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    asked = tally.started + len(tally.failed)
    print(f"{tally.started} of {asked} engines started beside the agent")
    print("meanwhile it met:", ", ".join(f"{n} x {what}" for what, n in tally.happened.items()))
    print(
        f"contexts of probe workers: {tally.contexts} made, {tally.beside_a_start} of them beside"
        f" an engine that started, {tally.given_back} given back beside one"
    )
    print(f"the kernel killed the agent for lack of memory {tally.killed_by_kernel} times")
    for reason in tally.failed:
        print("failed:", reason)
    return 0 if tally.started == asked and not tally.given_back else 1


def measure(folder: Path, starts: int, at_once: int, speed: float) -> Tally:
    """Start so many engines and return what was seen; ``folder`` must be empty."""
    machine = profile.load(PROFILE)
    state = State.create(folder / "driver", len(machine.gpus))
    machine.write_to(state)
    env = environment(folder, state, speed)
    tally = Tally()
    watcher = Watcher(state, folder, tally)
    agent = Agent(folder, env)
    try:
        agent.start()
        watcher.start()
        at = 0
        while tally.started + len(tally.failed) < starts:
            gpus = range(min(at_once, starts - tally.started - len(tally.failed)))
            happening = HAPPENINGS[at % len(HAPPENINGS)]
            _round(happening, gpus, speed, agent=agent, watcher=watcher, tally=tally)
            at += 1
    finally:
        tally.killed_by_kernel = agent.killed_by_kernel
        watcher.over.set()
        agent.close()
        state.row.closed = 1
    return tally


def environment(folder: Path, state: State, speed: float) -> dict[str, str]:
    """Write the agent's configuration; return what shows the simulated driver to all."""
    (folder / "kmsg").touch()
    (folder / "tap").mkdir()
    (folder / "agent.toml").write_text(
        f'[node]\nname = "n1"\n[state]\ndirectory = "{folder}/agent"\n'
        '[http]\naddress = "127.0.0.1:0"\n[grpc]\naddress = "127.0.0.1:0"\n'
        f'[tap]\ndirectory = "{folder}/tap"\n[kmsg]\npath = "{folder}/kmsg"\n'
    )
    shown = libraries.environment(state.path, folder)
    # A CuPy on the simulated driver; the GPUs' workers are the agent's to start then.
    search = [str(HERE / "simulated"), shown.get("PYTHONPATH", "")]
    return shown | {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "GPUWARD_STARTS_SPEED": str(speed),
    }


def _round(
    happening: str, gpus: range, speed: float, *, agent: Agent, watcher: Watcher, tally: Tally
) -> None:
    """Start an engine on each of ``gpus`` while ``happening`` happens to the agent."""
    leaving = workers(agent.folder)[::2]
    for pid in leaving:
        os.kill(pid, signal.SIGTERM)
    if happening == "start":
        agent.stop()
    time.sleep(IDLE_S / speed * random.uniform(0.2, 1.0))
    while set(leaving) & set(workers(agent.folder)):
        time.sleep(WATCH_S)
    watcher.has_seen()
    engines = {gpu: Engine(gpu, START_S / speed, agent.env) for gpu in gpus}
    watcher.engines = engines
    time.sleep(START_S / speed * random.uniform(0.1, 0.7))
    if happening != "start":
        {"upgrade": agent.stop, "kill -9": agent.kill, "out of memory": agent.starve}[happening]()
    agent.start()
    for gpu, engine in engines.items():
        if engine.outcome() == "ready":
            tally.started += 1
            tally.happened[happening] = tally.happened.get(happening, 0) + 1
        else:
            tally.failed.append(f"GPU {gpu}, {happening}: {engine.said}")
    time.sleep(SERVING_S / speed)
    for engine in engines.values():
        engine.end()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the engines that start beside the agent.")
    parser.add_argument("--starts", type=int, default=100, help="how many engines")
    parser.add_argument("--at-once", type=int, default=8, help="of them, on a GPU each")
    parser.add_argument("--speed", type=float, default=1.0, help="so many times faster than life")
    parser.add_argument("--seed", type=int, default=None, help="of what happens when")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
