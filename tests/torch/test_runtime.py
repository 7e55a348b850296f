"""What an unmodified CUDA build of torch sees of the simulated runtime."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
GIB = 1 << 30


def test_tour(node):
    """Devices, copies, pinned memory, streams and events work; what needs kernels says so."""

    found = node.run("tour.py")

    assert found["available"]
    assert found["count"] == 2
    assert found["name"] == "NVIDIA H100 80GB HBM3"
    assert found["uuid"] == "00000001-aaaa-bbbb-cccc-ddddeeeeffff"
    assert found["capability"] == [9, 0]
    assert found["backend"] == "native"
    assert found["copied"]
    assert found["pinned"]
    assert found["written"] == [0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0]
    assert found["resident"] < 1 * GIB
    assert found["elapsed_ms"] >= 0
    assert found["stream_idle"]
    assert "NOT_INITIALIZED" in found["matmul"]
    assert "not supported" in found["graph"]
    assert found["total"] == 8 * GIB - 512 * MIB


@pytest.mark.parametrize(("visible", "devices"), [
    pytest.param("1", [1], id="one"),
    pytest.param("1,0", [1, 0], id="reordered"),
    pytest.param("GPU-00000001", [1], id="prefix of a UUID"),
    pytest.param("1,1", [], id="a repeat empties the list"),
    pytest.param("0,7,1", [0], id="an unknown GPU ends the list"),
    pytest.param("", [], id="none"),
])  # fmt: skip
def test_visible_devices(node, visible, devices):
    """CUDA_VISIBLE_DEVICES selects and orders devices as CUDA's documentation says."""
    server = node.serve(CUDA_VISIBLE_DEVICES=visible)

    assert server.ask("device_names") == [
        f"0000000{index}-aaaa-bbbb-cccc-ddddeeeeffff" for index in devices
    ]


@pytest.mark.parametrize(("loaded", "library"), [
    pytest.param(0, "580.105.08", id="no kernel driver"),
    pytest.param(1, "580.126.09", id="libraries of another version"),
])  # fmt: skip
def test_no_usable_driver(node, loaded, library):
    """Without a driver that fits its libraries torch reports no CUDA, and does not crash."""
    node.state.row.driver_loaded = loaded
    node.state.row.library_version = library.encode()

    server = node.serve()

    assert server.ask("is_available") is False
    assert server.ask("malloc", "weights", 1 << 20)["error"] == "RuntimeError"
