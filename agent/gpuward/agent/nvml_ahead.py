"""The sampler of NVML by the agent's configuration, apart from the other samplers.

Its child takes as long to start as the rest of the agent to load, so it is started ahead of all
that: this module imports no more than it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.agent.maintenance_keeper import MAINTENANCE_FILE, MaintenanceKeeper
from gpuward.agent.samplers.nvml import NvmlSampler

if TYPE_CHECKING:
    from gpuward.agent.config import AgentConfig
    from gpuward.daemon.clock import Clock


def nvml_sampler(config: AgentConfig, clock: Clock) -> NvmlSampler:
    """Return the sampler that ``config`` asks for, not started."""
    path = Path(config.state.directory, MAINTENANCE_FILE)
    return NvmlSampler(
        clock,
        driver_files=Path(config.driver.files),
        maintenance=MaintenanceKeeper(path, clock),
    )
