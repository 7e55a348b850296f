"""What the agent's page holds, by name: deployed files may speak of nothing else."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuward.agent.exporter import Exporter
from gpuward.agent.http_message import Request
from gpuward.agent.model import Driver, Event, Snapshot
from gpuward.agent.self_metric_table import (
    figures_of_judge,
    figures_of_reports,
    figures_of_sampling,
)
from gpuward.agent.signals import SIGNALS
from gpuward.agent.xid_totals import XidTotals
from gpuward.daemon.testing import FakeClock

ROOT = Path(__file__).parents[2]


@pytest.fixture
def deployed():
    return ROOT / "deploy"


@pytest.fixture
def known_metrics():
    """Names of all series that an agent can show."""
    page = (ROOT / "tests/fixtures/golden/agent_metrics.txt").read_text()
    golden = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    return {f"gpuward_{name}" for name in SIGNALS} | golden | own_metrics()


def own_metrics():
    nothing = SimpleNamespace(failures=SimpleNamespace(total=lambda: 0))
    figures = (
        *figures_of_judge(nothing, nothing),
        *figures_of_sampling(nothing, nothing),
        *figures_of_reports(nothing, nothing, nothing, nothing),
    )
    xids = XidTotals(FakeClock())
    xids.add(Event("xid", 0.0, "1", code=79, gpu="G1"))
    exporter = Exporter(
        clock=FakeClock(),
        snapshot=lambda: Snapshot("n1", "boot-1", 0.0, 0.0, Driver(up=False)),
        is_started=lambda: True,
        self_metrics=(),
        collectors=(xids,),
    )
    page = exporter.metrics(Request("/metrics")).body
    of_parent = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    of_child = {
        name.replace("gpuward_agent_process", "gpuward_nvml_child_process") for name in of_parent
    }
    return {f"gpuward_agent_{figure.name}" for figure in figures} | of_parent | of_child
