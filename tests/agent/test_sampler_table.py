"""Which samplers there are, and what they are told of one another's readings."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from gpuward.agent.config import AgentConfig, StateConfig
from gpuward.agent.engine_config import DiscoveryConfig, EngineConfig
from gpuward.agent.model import Driver, Sample, SeriesKey, Snapshot
from gpuward.agent.sampler_table import build_samplers, device_memory
from gpuward.agent.samplers.tap_samples import DeviceMemory

READ = {
    ("gpu_memory_total_bytes", "GPU-1"): 80.0,
    ("gpu_memory_free_bytes", "GPU-1"): 70.0,
    ("gpu_mig_memory_total_bytes", "MIG-2"): 20.0,
    ("gpu_mig_memory_free_bytes", "MIG-2"): 9.0,
    ("gpu_memory_total_bytes", "GPU-3"): 80.0,
}


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        pytest.param("GPU-1", DeviceMemory(80, 70), id="a card"),
        pytest.param("MIG-2", DeviceMemory(20, 9), id="a slice has its own"),
        pytest.param("GPU-3", None, id="half told"),
        pytest.param("GPU-4", None, id="not told"),
    ],
)
def test_memory_of_a_device(device, expected):
    samples = {
        SeriesKey(signal, gpu=gpu): Sample(SeriesKey(signal, gpu=gpu), 1.0, value)
        for (signal, gpu), value in READ.items()
    }
    snapshot = Snapshot("n", "b", 1.0, 0.0, Driver(up=True), samples=MappingProxyType(samples))

    assert expected == device_memory(snapshot, device)


ENGINES = (EngineConfig(service="chat", url="http://127.0.0.1:8000"),)
NO_SEARCH = DiscoveryConfig(engines=False)


@pytest.mark.parametrize(
    ("settings", "watched"),
    [
        pytest.param({}, True, id="found ones, as by default"),
        pytest.param({"discovery": NO_SEARCH}, False, id="none"),
        pytest.param({"discovery": NO_SEARCH, "engines": ENGINES}, True, id="configured ones"),
        pytest.param({"engines": ENGINES}, True, id="both"),
    ],
)
def test_whether_engines_are_watched(tmp_path, make_judge, clock, settings, watched):
    config = AgentConfig(state=StateConfig(directory=str(tmp_path)), **settings)
    samplers = build_samplers(config, judge=make_judge(), clock=clock, boot_id="boot")

    names = {sampler.name for sampler in samplers}
    assert names & {"engine", "serving"} == ({"engine", "serving"} if watched else set())
