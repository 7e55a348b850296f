"""Profiles: what ships is whole, and what is wrong is said in one line."""

import pytest

from gpuward.daemon.config import ConfigError, parse
from gpuward.simulator import profile
from gpuward.simulator.profile import Profile

MINIMAL = """
driver_version = "580.95.05"
cuda_version = 13000
[gpu]
{gpu}
[[gpus]]
{first}
"""


def test_what_ships():
    """A server of GPUs, one with MIG, one without NVLink, a consumer card, and older cards."""
    assert profile.names() == ["h100-mig-x1", "h100-sxm-x8", "l40s-x4", "rtx4090-x1", "t4-x4"]


@pytest.mark.parametrize("name", profile.names())
def test_identities(make_state, name):
    """Each GPU of a profile is itself, idle, within its limits, and its memory adds up."""
    state = make_state(name)
    gpus = [state.gpu(index) for index in range(state.row.gpu_count)]

    assert len({gpu.uuid for gpu in gpus}) == len({gpu.pci_bus for gpu in gpus}) == len(gpus)
    for index, gpu in enumerate(gpus):
        assert gpu.minor_number == index
        assert gpu.memory_reserved_bytes + state.free_bytes(index) == gpu.memory_total_bytes
        assert gpu.clocks_event_reasons == 0x1
        assert gpu.clocks_event_reasons & ~gpu.clocks_event_reasons_supported == 0
        assert 0 < gpu.sm_clock_megahertz < gpu.sm_clock_max_megahertz
        assert 0 < gpu.pcie_link_generation <= gpu.pcie_link_generation_max
        assert gpu.power_draw_milliwatts < gpu.power_limit_min_milliwatts
        assert gpu.power_limit_min_milliwatts <= gpu.power_limit_milliwatts
        assert gpu.power_limit_milliwatts <= gpu.power_limit_max_milliwatts
        assert gpu.temperature_celsius < gpu.temperature_gpu_max_celsius
        assert gpu.temperature_gpu_max_celsius < gpu.temperature_slowdown_celsius
        assert gpu.temperature_slowdown_celsius < gpu.temperature_shutdown_celsius
        assert gpu.energy_millijoules == gpu.lost == gpu.hang_groups == 0


@pytest.mark.parametrize(
    ("gpu", "first", "message"),
    [
        pytest.param("speed = 1", "", "gpu.speed: a GPU has no such field", id="unknown field"),
        pytest.param("", "speed = 1", "gpus[0].speed: a GPU has no such field", id="of one GPU"),
        pytest.param("lost = -1", "", "gpu.lost: an integer from 0 to 4294967295", id="negative"),
        pytest.param("lost = 4294967296", "", "gpu.lost: an integer from 0 to", id="too large"),
        pytest.param("lost = 'yes'", "", "gpu.lost: an integer from 0 to", id="text for number"),
        pytest.param("name = 5", "", "gpu.name: a text shorter than 96 bytes", id="no text"),
        pytest.param(f"name = '{'x' * 96}'", "", "gpu.name: a text shorter", id="long text"),
        pytest.param("capabilities = ['ecc', 'wings']", "", "'wings' is none of ecc,", id="wings"),
        pytest.param("capabilities = 3", "", "gpu.capabilities: a list of names", id="no list"),
    ],
)
def test_bad_values(gpu, first, message):
    """A wrong value is named by its place."""
    with pytest.raises(ConfigError) as error:
        parse(MINIMAL.format(gpu=gpu, first=first), Profile, name="p.toml")

    assert str(error.value).startswith("p.toml: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(
            "uuid = 'MIG-1'", "mig_devices[0].gpu: the index of a GPU, 0 to 0", id="whose"
        ),
        pytest.param("gpu = 1", "mig_devices[0].gpu: the index of a GPU, 0 to 0", id="no such GPU"),
        pytest.param("gpu = 0\nwings = 2", "mig_devices[0].wings: a MIG device has no", id="wings"),
        pytest.param("gpu = 0\nname = 5", "mig_devices[0].name: a text shorter", id="no text"),
        pytest.param("gpu = 0\nslice_count = -1", "slice_count: an integer from 0", id="negative"),
    ],
)
def test_bad_mig_devices(table, message):
    """So is a wrong value of a MIG device."""
    with pytest.raises(ConfigError) as error:
        parse(
            MINIMAL.format(gpu="", first="") + f"[[mig_devices]]\n{table}", Profile, name="p.toml"
        )

    assert message in str(error.value)


def test_no_such_profile():
    """An unknown name is answered with those that there are."""
    with pytest.raises(
        ConfigError, match="profile 'a100': there are h100-mig-x1, h100-sxm-x8, l40s-x4, rtx4090-x1"
    ):
        profile.load("a100")
