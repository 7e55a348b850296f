"""The gpuward command: lazy, and clear about what is missing."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from gpuward.cli import main as cli


def test_help_imports_no_subcommand():
    script = (
        "import sys; from gpuward.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('gpuward.agent', 'gpuward.coordinator', 'grpc', 'sqlalchemy')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )

    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200
    ).stdout

    assert out.endswith("\n[]\n")
    assert "coordinator" in out


def test_every_subcommand_has_a_line_of_help():
    out = CliRunner().invoke(cli.main, ["--help"]).output

    for name in ("agent", "coordinator", "demo", "incidents", "simulate", "tap"):
        assert f"  {name} " in out


def test_a_missing_distribution_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(
        cli.SUBCOMMANDS, "simulate", ("gpuward.not_there", "simulate", "", "gpuward-simulator")
    )

    result = CliRunner().invoke(cli.main, ["simulate"])

    assert result.exit_code == 1
    assert (
        result.output
        == "Error: `gpuward simulate` needs gpuward.not_there: pip install 'gpuward-simulator'\n"
    )


@pytest.mark.parametrize("name", sorted(cli.SUBCOMMANDS))
def test_every_subcommand_loads(name):
    command = cli.main.get_command(click.Context(cli.main), name)

    assert name == command.name
