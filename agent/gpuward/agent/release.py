"""Let go of the driver for a while, because a person wants to replace it or to reset a GPU.

A driver that anybody holds open can be neither unloaded nor reset; before driver 575 nothing tells
a monitor so.  For the agent that is the NVML child, and the probe workers that it does not start.
Nobody is asked twice at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.maintenance import Maintenance
    from gpuward.agent.maintenance_keeper import MaintenanceKeeper
    from gpuward.agent.samplers.nvml import NvmlSampler
    from gpuward.agent.samplers.probe import ProbeSampler


class Release:
    """Begins and ends the maintenance that a person asks for."""

    def __init__(
        self, maintenance: MaintenanceKeeper, nvml: NvmlSampler, probe: ProbeSampler | None
    ) -> None:
        """``probe``: ``None`` where the agent asks no workers."""
        self._maintenance = maintenance
        self._nvml = nvml
        self._probe = probe
        self._turn = asyncio.Lock()

    async def begin(self, for_s: float, reason: str) -> tuple[Maintenance, tuple[str, ...]]:
        """Return the maintenance, once all is closed, and what could not be: it is in force."""
        async with self._turn:
            maintenance = self._maintenance.begin_release(for_s, reason)
            pids = await self._nvml.let_go()
            workers = () if self._probe is None else await self._probe.let_go()
        return maintenance, (
            *(f"process {pid} is held by a driver call" for pid in pids),
            *(f"the probe worker of {gpu} does not answer" for gpu in workers),
        )

    async def end(self) -> None:
        """Open the driver again."""
        async with self._turn:
            self._maintenance.end_release()
            self._nvml.resume()
