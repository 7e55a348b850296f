"""Prometheus' own tool judges the rules; here is only that they speak of what there is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.glob("*.test.yml"))


@pytest.fixture
def promtool():
    """Run promtool; returns exit status and output."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian package prometheus)")

    def run(*arguments):
        done = subprocess.run(
            ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.debian
@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in TESTS])
def test_rules_do_what_their_tests_say(promtool, path):
    status, output = promtool("test", "rules", path)

    assert 0 == status, output


@pytest.mark.debian
def test_the_example_is_a_configuration_with_all_rules(promtool, deployed):
    status, output = promtool("check", "config", deployed / "prometheus/prometheus.example.yml")

    assert 0 == status, output
    assert "2 rule files found" in output


def test_every_alert_has_a_test(deployed):
    alerts = re.findall(r"- alert: (\w+)", (deployed / "prometheus/gpuward.alerts.yml").read_text())
    tests = (Path(__file__).parent / "gpuward_alerts.test.yml").read_text()
    tested = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", tests))

    assert 14 == len(alerts)
    assert set(alerts) == tested


@pytest.mark.parametrize("name", ["gpuward.alerts.yml", "dcgm_names.rules.yml"])
def test_rules_speak_of_metrics_that_there_are(deployed, known_metrics, name):
    text = (deployed / "prometheus" / name).read_text()
    named = set(re.findall(r"\bgpuward_\w+", text))

    assert len(named) >= 10
    assert set() == named - known_metrics


def test_the_document_speaks_of_metrics_that_there_are(deployed, known_metrics):
    text = (deployed.parent / "docs/prometheus.md").read_text()
    named = set(re.findall(r"\bgpuward_\w+[^_\W](?!\*)\b", text))

    assert len(named) >= 8
    assert set() == {name for name in named if not name.endswith("_process")} - known_metrics


def test_the_common_names_of_dcgm_are_there(deployed):
    """Those of dcgm-exporter's default counters that the agent measures."""
    text = (deployed / "prometheus/dcgm_names.rules.yml").read_text()
    recorded = re.findall(r"- record: (DCGM_FI_\w+)", text)

    assert {
        "DCGM_FI_DEV_SM_CLOCK",
        "DCGM_FI_DEV_MEM_CLOCK",
        "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_PCIE_REPLAY_COUNTER",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_MEM_COPY_UTIL",
        "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_FB_RESERVED",
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_PCIE_TX_BYTES",
        "DCGM_FI_PROF_PCIE_RX_BYTES",
    } <= set(recorded)
    assert len(recorded) == len(set(recorded))
