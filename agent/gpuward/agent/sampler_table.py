"""The samplers of an agent, listed once: to add one, write its file and its line here."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpuward.agent.config import LOOPBACK
from gpuward.agent.nvml_ahead import nvml_sampler
from gpuward.agent.probe_workers import Workers
from gpuward.agent.process_identity import place, sees_every_pid
from gpuward.agent.replica_silence import may_load
from gpuward.agent.samplers.cause_named import CauseNamed
from gpuward.agent.samplers.dcgm import DcgmSampler
from gpuward.agent.samplers.endpoint import EndpointSampler
from gpuward.agent.samplers.endpoint_canary import Canaries
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.agent.samplers.engine_discovery import EngineDiscovery
from gpuward.agent.samplers.ingress import IngressSampler
from gpuward.agent.samplers.kmsg import KmsgSampler
from gpuward.agent.samplers.latency import LatencySampler
from gpuward.agent.samplers.learned_best import LearnedBest
from gpuward.agent.samplers.memory_accounts import MemoryAccounts
from gpuward.agent.samplers.memory_floors import MemoryFloors
from gpuward.agent.samplers.pci import PciSampler
from gpuward.agent.samplers.pressure import PressureSampler
from gpuward.agent.samplers.probe import ProbeSampler
from gpuward.agent.samplers.probe_shift import ProbeShift
from gpuward.agent.samplers.saturation import SaturationSampler
from gpuward.agent.samplers.serving import ServingSampler
from gpuward.agent.samplers.standing import Standing
from gpuward.agent.samplers.tap import TapSampler
from gpuward.agent.samplers.tap_identity import WriterNames
from gpuward.agent.samplers.tap_samples import DeviceMemory
from gpuward.agent.samplers.upstream import UpstreamSampler
from gpuward.agent.samplers.usual import UsualLoad
from gpuward.agent.series_key import series_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.config import AgentConfig
    from gpuward.agent.judge import Judge
    from gpuward.agent.model import Snapshot
    from gpuward.agent.samplers.endpoint_config import EndpointConfig
    from gpuward.agent.samplers.nvml import NvmlSampler
    from gpuward.agent.sampling import Sampler
    from gpuward.agent.window import Window
    from gpuward.daemon.clock import Clock

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
# Made by gpuward-probe@.service.
OF_SYSTEMD = Path("/run/gpuward-probe")
# What each card was seen to do at its best.
BEST_FILE = "gpu-best.json"
# What its probes were used to measure.
PROBES_FILE = "gpu-probes.json"
# What replicas answered the same question before.
CANARY_FILE = "canary.json"
# What services run.
BUILDS_FILE = "builds.json"
# What is usual of each replica.
LATENCY_FILE = "latency.json"
# How long what inference waits for usually takes.
UPSTREAMS_FILE = "upstreams.json"


def build_samplers(
    config: AgentConfig,
    *,
    judge: Judge,
    clock: Clock,
    boot_id: str,
    nvml: NvmlSampler | None = None,
) -> tuple[Sampler, ...]:
    """Return every sampler that ``config`` asks for, not started; ``nvml``: one that is."""
    if nvml is None:
        nvml = nvml_sampler(config, clock)
    samplers: list[Sampler] = [
        nvml,
        KmsgSampler(
            Path(config.kmsg.path),
            boot_id=boot_id,
            clock=clock,
            gpus=lambda: judge.snapshot.gpus,
            reported=nvml.xids,
        ),
        TapSampler(
            Path(config.tap.directory),
            clock=clock,
            proc_root=PROC,
            device_memory=lambda gpu: device_memory(judge.snapshot, gpu),
            gpus=lambda: judge.snapshot.gpus,
            identify=WriterNames(lambda: judge.readings.processes_of("nvml"), clock),
        ),
        MemoryAccounts(judge.readings.window, sees_every_pid=sees_every_pid(PROC)),
        MemoryFloors(judge.readings.window),
        LearnedBest(Path(config.state.directory, BEST_FILE), judge.readings.window),
        LatencySampler(Path(config.state.directory, LATENCY_FILE), judge.readings.window),
        PciSampler(Path(config.pci.devices), gpus=lambda: judge.snapshot.gpus),
        SaturationSampler(judge.readings.window),
        UsualLoad(judge.readings.window),
        CauseNamed(judge.readings.window, lambda: judge.snapshot.open_findings),
        Standing(clock, lambda: judge.acknowledged_s if config.coordinator.address else None),
        PressureSampler(PROC / "pressure"),
    ]
    samplers += _of_services(config, judge, clock, nvml)
    if config.dcgm.url:
        samplers.append(DcgmSampler(config.dcgm.url, gpus=lambda: judge.snapshot.gpus))
    if config.probes.mode != "off":
        samplers += _of_probes(config, judge, clock, nvml)
    return tuple(samplers)


def _of_services(
    config: AgentConfig, judge: Judge, clock: Clock, nvml: NvmlSampler
) -> Iterator[Sampler]:
    """Yield what looks at engines, endpoints, and what stands before and behind them."""
    if config.engines or config.discovery.engines:
        yield from _of_engines(config, judge, clock, nvml)
    if config.endpoints:
        yield EndpointSampler(
            config.endpoints,
            clock,
            canaries=Canaries(Path(config.state.directory, CANARY_FILE)),
            services=lambda: judge.snapshot.services,
            is_maintained=lambda: nvml.maintenance.now(clock.mono_s()) is not None,
            may_load=lambda endpoint: _may_load(endpoint, judge.readings.window(clock.mono_s())),
            jitter=random.Random(config.node_name),  # noqa: S311 - spreads load, keeps no secret
        )
    if config.ingresses:
        yield IngressSampler(config.ingresses, clock)
    if config.upstreams:
        path = Path(config.state.directory, UPSTREAMS_FILE)
        yield UpstreamSampler(config.upstreams, clock, judge.readings.window, path)


def _may_load(endpoint: EndpointConfig, window: Window) -> bool:
    """Return whether an engine may be starting there; of another node nobody here knows."""
    is_here = urlsplit(endpoint.url).hostname in LOOPBACK
    return not is_here or may_load(window, endpoint.service, endpoint.instance)


def _of_engines(
    config: AgentConfig, judge: Judge, clock: Clock, nvml: NvmlSampler
) -> Iterator[Sampler]:
    discovery = EngineDiscovery(
        config.engines,
        proc_root=PROC,
        processes=lambda: judge.snapshot.processes,
        verify_certificates=config.discovery.verify_certificates,
    )
    engines = EngineSampler(
        config.engines,
        clock,
        discovery if config.discovery.engines else None,
        is_maintained=lambda: nvml.maintenance.now(clock.mono_s()) is not None,
        builds=Path(config.state.directory, BUILDS_FILE),
    )
    yield engines
    yield ServingSampler(
        lambda: engines.engines,
        proc_root=PROC,
        cgroup_root=CGROUPS,
        processes=lambda: judge.snapshot.processes,
        reading_of=engines.reading_of,
    )


def _of_probes(
    config: AgentConfig, judge: Judge, clock: Clock, nvml: NvmlSampler
) -> Iterator[Sampler]:
    yield ProbeShift(Path(config.state.directory, PROBES_FILE), judge.readings.window)
    yield ProbeSampler(
        _probe_workers(config),
        judge.readings.window,
        proc_root=PROC,
        pci_devices=Path(config.pci.devices),
        mode=config.probes.mode,
        beside_mps=config.probes.beside_mps,
        is_released=lambda: nvml.maintenance.is_released(clock.mono_s()),
    )


def _probe_workers(config: AgentConfig) -> Workers:
    if config.probes.directory:
        return Workers(Path(config.probes.directory))
    if OF_SYSTEMD.is_dir():
        return Workers(OF_SYSTEMD)
    directory = Path(config.state.directory, "probe")
    # On a sick disk workers cannot listen, which their looks say.
    with suppress(OSError):
        directory.mkdir(exist_ok=True)
    # What a container runs ends with it, also what holds memory of a GPU.
    own = place(os.getpid(), PROC)
    is_contained = os.getpid() == 1 or own is None or bool(own.pod or own.container)
    return Workers(directory, starts_gpu_workers=not is_contained)


def device_memory(snapshot: Snapshot, device: str) -> DeviceMemory | None:
    """Return the memory of a card, or of a slice of one; ``None`` while the driver is silent."""
    # A slice's figures are apart, so that sums over cards do not count memory twice.
    prefix = "gpu_mig_memory" if device.startswith("MIG-") else "gpu_memory"
    total = latest(snapshot, f"{prefix}_total_bytes", device)
    free = latest(snapshot, f"{prefix}_free_bytes", device)
    return None if total is None or free is None else DeviceMemory(int(total), int(free))


def latest(snapshot: Snapshot, signal: str, gpu: str) -> float | None:
    """Return the fresh value of a GPU's ``signal``."""
    sample = snapshot.samples.get(series_key(signal, gpu))
    return None if sample is None else sample.value
