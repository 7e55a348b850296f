"""What every test shares: golden files, and no silent skip where a skip is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None)
settings.register_profile("dev", max_examples=40, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption(
        "--golden-update", action="store_true", help="write golden files instead of comparing"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skip into a failure under CI: there, everything a test needs is installed."""
    outcome = yield
    report = outcome.get_result()
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason}"


def pytest_terminal_summary(terminalreporter):
    """Show what tests recorded as their coverage, by ``record_property("coverage", line)``."""
    lines = [
        str(line)
        for report in terminalreporter.getreports("passed")
        for name, line in report.user_properties
        if name == "coverage" and report.when == "call"
    ]
    if lines:
        terminalreporter.section("coverage of signals and thresholds")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture(autouse=True)
def log_as_before():
    """Undo what a command that was called in the test's own process made of logging."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def golden(request):
    """Compare text with a file in tests/fixtures/golden, or write it under --golden-update."""
    folder = Path(__file__).parent / "fixtures" / "golden"

    def check(name: str, actual: str) -> None:
        path = folder / name
        if request.config.getoption("--golden-update"):
            path.write_text(actual)
        assert path.read_text() == actual, f"{path} differs; if the change is meant: make golden"

    return check


@pytest.fixture
def tap(tmp_path):
    """A folder that PYTHONPATH needs so that torch finds the tap, and the tap's directory."""
    source = Path(__file__).parent.parent / "agent" / "tap"
    info = tmp_path / "path" / "gpuward_tap-0.1.0.dist-info"
    info.mkdir(parents=True)
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["torch.backends"]
    info.joinpath("METADATA").write_text("Name: gpuward-tap\nVersion: 0.1.0\n")
    info.joinpath("entry_points.txt").write_text(
        "[torch.backends]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
    )
    directory = tmp_path / "tap"
    directory.mkdir()
    return {"PYTHONPATH": f"{info.parent}:{source}", "GPUWARD_TAP_DIR": str(directory)}


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Compile a C file, ``library("tap/x")`` that is ``tap/native/x.c``; skips without a compiler.

    Returns the path of the shared library.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    built = tmp_path_factory.mktemp("native")

    def build(name: str) -> Path:
        package, _, stem = name.partition("/")
        output = built / f"{stem}.so"
        if not output.exists():
            source = Path(__file__).parent / package / "native" / f"{stem}.c"
            options = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-pthread"]
            subprocess.run([compiler, *options, "-o", output, source, "-ldl"], check=True)
        return output

    return build
