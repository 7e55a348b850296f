"""The plugin for node-problem-detector, run as that runs it, against an agent's own server."""

import asyncio
import json
import shutil
from dataclasses import replace

import pytest

from gpuward.agent.conditions import TYPES
from gpuward.agent.exporter import Exporter
from gpuward.agent.model import Driver, Finding, OpenFinding, Snapshot, Subject
from gpuward.daemon.testing import FakeClock

WELL = Snapshot("n1", "boot-1", 0.0, 1_800_000_000.0, Driver(up=True))
FINDING = Finding("gpu.ecc.uncorrected", Subject(gpu="G1"), "GPU G1 lost data.")
BROKEN = replace(WELL, open_findings=(OpenFinding("i-1", FINDING, 0.0, 0.0, 0.0, 1),))


@pytest.fixture
def folder(deployed):
    return deployed / "kubernetes" / "node-problem-detector"


async def ask(folder, condition, snapshot):
    """Return exit status and output; nobody listens where there is no snapshot."""
    exporter = Exporter(
        clock=FakeClock(mono_s=0.0),
        snapshot=lambda: snapshot,
        is_started=lambda: True,
        self_metrics=(),
    )
    server = exporter.server()
    host, port = await server.start("127.0.0.1", 0)
    if snapshot is None:
        await server.close()
    process = await asyncio.create_subprocess_exec(
        folder / "gpuward-condition.sh",
        condition,
        f"http://{host}:{port}",
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    await server.close()
    return process.returncode, output.decode()


@pytest.mark.debian
@pytest.mark.parametrize(
    ("condition", "snapshot", "status", "said"),
    [
        pytest.param("GpuFault", WELL, 0, "NoGpuFault: nothing found\n", id="well"),
        pytest.param("GpuFault", BROKEN, 1, "GpuEccUncorrected: GPU G1 lost data.\n", id="broken"),
        pytest.param("GpuDegraded", BROKEN, 0, "NoGpuDegraded: nothing found\n", id="another"),
        pytest.param(
            "GpuFault",
            replace(WELL, driver=Driver(up=False)),
            2,
            "DriverDown: the driver is missing or does not answer\n",
            id="nobody can know",
        ),
        pytest.param("NoSuch", WELL, 2, "no answer from gpuward agent", id="no such condition"),
        pytest.param("GpuFault", None, 2, "no answer from gpuward agent", id="no agent"),
    ],
)
async def test_the_script(folder, condition, snapshot, status, said):
    """Exit statuses of custom plugins: 0 all is well, 1 trouble, 2 unknown."""
    if shutil.which("curl") is None:
        pytest.skip("curl")

    returned, output = await ask(folder, condition, snapshot)

    assert status == returned
    assert output.startswith(said)


def test_each_condition_has_its_rule(folder):
    plugin = json.loads((folder / "gpuward.json").read_text())

    assert "custom" == plugin["plugin"]
    assert list(TYPES) == [condition["type"] for condition in plugin["conditions"]]
    assert [(kind, [kind]) for kind in TYPES] == [
        (rule["condition"], rule["args"]) for rule in plugin["rules"]
    ]
    assert {"permanent"} == {rule["type"] for rule in plugin["rules"]}
    paths = {rule["path"] for rule in plugin["rules"]}
    assert {"/config/plugin/gpuward-condition.sh"} == paths
