"""The `gpuward` command: a table of subcommands, each loaded by module name on first use.

A node installs only the agent and a laptop only the client, so no subcommand's module is imported
before somebody asks for it; one whose distribution is missing says how to get it.
"""

from __future__ import annotations

from importlib import import_module

import click

# name -> (module, attribute, one line of help, what to install when the module is missing)
SUBCOMMANDS = {
    "agent": ("gpuward.agent.__main__", "agent", "Watch this node.", "gpuward[agent]"),
    "coordinator": (
        "gpuward.coordinator.__main__",
        "coordinator",
        "Correlate findings, page people.",
        "gpuward[coordinator]",
    ),
    "demo": (
        "gpuward.simulator.demo",
        "demo",
        "Play one incident, end to end.",
        "gpuward-simulator",
    ),
    "incidents": (
        "gpuward.coordinator.incidents_command",
        "incidents",
        "List, show, acknowledge, resolve.",
        "gpuward[coordinator]",
    ),
    "simulate": (
        "gpuward.simulator.command",
        "simulate",
        "Run a command against simulated GPUs.",
        "gpuward-simulator",
    ),
    "tap": ("gpuward.cli.tap", "tap", "Bring the tap into inference processes.", "gpuward"),
}


class LazyGroup(click.Group):
    """A group that knows its subcommands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in SUBCOMMANDS:
            return None
        module, attribute, _, distribution = SUBCOMMANDS[cmd_name]
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`gpuward {cmd_name}` needs {error.name}: pip install '{distribution}'"
            ) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUBCOMMANDS[name][2]) for name in sorted(SUBCOMMANDS)])


@click.command(cls=LazyGroup)
@click.version_option(package_name="gpuward", prog_name="gpuward")
def main() -> None:
    """Watch GPU inference, say why it fails, page who can act."""
