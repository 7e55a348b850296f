"""The demo's small world: one simulated node of eight GPUs, its agent, a coordinator, two engines.

Everything lives in one directory and on free ports of loopback.  A part that is killed comes back
under the same addresses, because the first start's ports are written into the configuration.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpuward.simulator import libraries, profile
from gpuward.simulator.demo import configs
from gpuward.simulator.demo.centre import Centre
from gpuward.simulator.demo.interpreter import torch_environment
from gpuward.simulator.demo.parts import Part, Parts
from gpuward.simulator.state import State

if TYPE_CHECKING:
    import signal
    from pathlib import Path

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.demo.configs import People

PROFILE = "h100-sxm-x8"
SERVICE = "chat"
REPLICAS = ("inference-0", "inference-1")
REQUESTS_PER_SECOND = 20.0
# Long enough for the agent to see a healthy service first.
HEALTHY_S = 8.0
# After the fix nothing may break again while the story ends, or while somebody looks around.
HEALTHY_AFTER_FIX_S = 24 * 3600.0
COORDINATOR = "coordinator"
AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line chose.

    ``torch_python``: the interpreter that has torch, to use its own allocator; ``None`` for the
    replica.  ``real_driver``: leave the simulated one out of the agent's sight.
    """

    speed: float = 60.0
    web_port: int = 0
    torch_python: Path | None = None
    real_driver: bool = False


@dataclass(slots=True)
class World:
    """All parts, and how to look at them."""

    root: Path
    clock: Clock
    plan: Plan
    people: People = field(default_factory=lambda: configs.PEOPLE)
    replicas: tuple[str, ...] = REPLICAS
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        self.parts = Parts(self.clock)

    @property
    def centre(self) -> Centre:
        return Centre(self.parts[COORDINATOR].address("http"))

    @property
    def agent_address(self) -> str:
        return self.parts[AGENT].address("http")

    def check(self) -> None:
        self.parts.check()

    def pages(self) -> list[dict[str, Any]]:
        """Return every page that reached the file channel, oldest first."""
        path = self._path("pages.jsonl")
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        # A line without its end is still being written.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    async def start(self) -> None:
        """Start everything; raises ``PartFailed``, ``NotBuiltError``, ``ConfigError``."""
        self._path("tap").mkdir()
        self._make_gpus()
        await self.start_coordinator()
        for name in self.replicas:
            await self.start_engine(name, HEALTHY_S)
        await self.start_agent()

    async def start_coordinator(self) -> None:
        """Start the coordinator, or start it again under its old addresses."""
        grpc, http = self._ports(COORDINATOR, grpc=0, http=self.plan.web_port)
        config = self._path("coordinator.toml")
        config.write_text(
            configs.coordinator(
                state=self._path(COORDINATOR),
                grpc_port=grpc,
                web_port=http,
                pages=self._path("pages.jsonl"),
                speed=self.plan.speed,
            ),
            encoding="utf-8",
        )
        await self._start_daemon(COORDINATOR, config, {})

    async def start_agent(self) -> None:
        """Start the agent, or start it again under its old addresses."""
        grpc, http = self._ports(AGENT, grpc=0, http=0)
        config = self._path("agent.toml")
        config.write_text(
            configs.agent(
                state=self._path(AGENT),
                grpc_port=grpc,
                http_port=http,
                coordinator=self.parts[COORDINATOR].address("grpc"),
                tap=self._path("tap"),
                kmsg=self._path("kmsg"),
                engines=[self.parts[name].address("http") for name in self.replicas],
                service=SERVICE,
            ),
            encoding="utf-8",
        )
        env = {} if self.plan.real_driver else self._driver()
        await self._start_daemon(AGENT, config, env)

    async def start_engine(self, name: str, healthy_s: float) -> None:
        """Start one engine process on the GPU of its own, or start it again on its port."""
        index = self.replicas.index(name)
        (port,) = self._ports(name, http=0)
        addresses = self._path(f"{name}.json")
        torch_python = self.plan.torch_python
        arguments = (
            *("--port", str(port), "--gpu", str(index), "--seed", str(index + 1)),
            *("--requests-per-second", str(REQUESTS_PER_SECOND)),
            *("--healthy-seconds", str(healthy_s)),
            *("--tap-directory", str(self._path("tap")), "--addresses", str(addresses)),
            *(("--torch",) if torch_python else ()),
        )
        python = str(torch_python or sys.executable)
        argv = (python, "-m", "gpuward.simulator.workload", *arguments)
        env = {**self._driver(), "GPUWARD_TAP_DIR": str(self._path("tap"))}
        if torch_python:
            env |= torch_environment(torch_python)
        await self.parts.start(Part(name, argv, env, addresses, self._path(f"{name}.log")))

    async def restart_healthy(self, name: str) -> None:
        """Restart one engine as a rolling restart does."""
        await self.parts.stop(name)
        await self.start_engine(name, HEALTHY_AFTER_FIX_S)

    async def kill(self, name: str, number: signal.Signals) -> None:
        await self.parts.end(name, number)

    async def start_again(self, name: str) -> None:
        """Start a part that was killed, as its supervisor would."""
        if name == COORDINATOR:
            await self.start_coordinator()
        elif name == AGENT:
            await self.start_agent()
        else:
            await self.start_engine(name, HEALTHY_S)

    async def close(self) -> None:
        await self.parts.close()

    def _path(self, name: str) -> Path:
        return self.root / name

    def _make_gpus(self) -> None:
        machine = profile.load(PROFILE)
        state = State.create(self._path("driver.state"), len(machine.gpus))
        machine.write_to(state)
        state.close()
        self._path("kmsg").touch()

    def _driver(self) -> dict[str, str]:
        """Return the environment in which a part sees the simulated driver."""
        return libraries.environment(self._path("driver.state"), self.root, base=os.environ)

    def _ports(self, name: str, **wanted: int) -> tuple[int, ...]:
        """Return the ports that the part had at its first start, else the wanted ones."""
        if not self.parts.has(name):
            return tuple(wanted.values())
        return tuple(self.parts[name].port(protocol) for protocol in wanted)

    async def _start_daemon(self, name: str, config: Path, env: dict[str, str]) -> None:
        state = self._path(name)
        state.mkdir(exist_ok=True)
        argv = (sys.executable, "-m", f"gpuward.{name}", "run", "--config", str(config))
        addresses = state / "addresses.json"
        await self.parts.start(Part(name, argv, env, addresses, self._path(f"{name}.log")))
