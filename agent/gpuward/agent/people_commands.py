"""The subcommands of `gpuward agent` for people; each loads its work only when it is run."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from gpuward.agent.command_line import (
    CANNOT_START,
    CONFIG_OPTION,
    WRONG_CONFIG,
    exit_with,
    load_or_default,
)

WIDTH_WITHOUT_TERMINAL = 120
# Far beyond every code that there is, and within what travels.
MOST_CODE = (1 << 31) - 1

ADDRESS_OPTION = click.option(
    "--address", default="", help="The agent's [grpc] address; found where it is left out."
)


@click.command()
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="For programs: stable names, base units.")
def scan(*, path: Path, as_json: bool) -> None:
    """Look at this node once, without a running agent.

    Exit status: 0 nothing is wrong, 1 a finding worth a ticket, 2 one worth a page, 3 could not
    look.
    """
    from gpuward.agent import scan_command as command

    # A file that cannot be used is no page.
    view = command.scan(load_or_default(path, command.Status.COULD_NOT_LOOK))
    if as_json:
        click.echo(command.as_json(view))
    else:
        columns, _ = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 0))
        click.echo(command.as_text(view, width=columns, colours=wants_colours()))
    sys.exit(command.status(view))


@click.command()
@CONFIG_OPTION
@ADDRESS_OPTION
@click.option("--once", is_flag=True, help="Print one frame and end.")
def top(*, path: Path, address: str, once: bool) -> None:
    """Watch what the running agent sees: fragmentation, headroom, limits, findings, services.

    q ends it.
    """
    from gpuward.agent import top_command as command
    from gpuward.agent.agent_client import NoAnswerError, address_of

    address = address or address_of(load_or_default(path))
    try:
        if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            click.echo(command.once(address, colours=wants_colours()))
        else:
            command.live(address, colours=wants_colours())
    except NoAnswerError as error:
        exit_with(str(error), CANNOT_START)


@click.command()
@CONFIG_OPTION
def doctor(*, path: Path) -> None:
    """Say what hides something from the agent on this machine, and how to mend it.

    Exit status: 0 all is well, 1 something is hidden, 2 something is broken.
    """
    from gpuward.agent import doctor_command as command

    found = command.doctor(load_or_default(path))
    click.echo(command.as_text(found, colours=wants_colours()))
    sys.exit(command.worst(found))


@click.command()
@CONFIG_OPTION
@ADDRESS_OPTION
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, .tar.gz.",
)
def bundle(*, path: Path, address: str, out: Path) -> None:
    """Write what a manufacturer asks for before taking a GPU back: findings, samples, logs.

    Without a running agent there is no history in it.
    """
    from gpuward.agent import bundle_command as command

    try:
        size = command.bundle(load_or_default(path), address, out)
    except OSError as error:
        exit_with(f"--out {out}: {error.strerror}", CANNOT_START)
    click.echo(f"{out}: {size / 1024:.0f} KiB")


@click.command()
@CONFIG_OPTION
@ADDRESS_OPTION
@click.argument("kind", default="")
@click.option(
    "--code", default=0, type=click.IntRange(0, MOST_CODE), help="Of a kind with codes: the XID."
)
@click.option("--gpu", default="", metavar="UUID|INDEX", help="What it is about.")
@click.option("--process", "process_key", default="", metavar="KEY", help="Or a process.")
@click.option("--minutes", default=5.0, show_default=True, help="It ends by itself.")
@click.option("--page", is_flag=True, help="Page, as the real fault may; else it is a ticket.")
@click.option("--end", is_flag=True, help="End every drill.")
def inject(
    *,
    path: Path,
    address: str,
    kind: str,
    code: int,
    gpu: str,
    process_key: str,
    minutes: float,
    page: bool,
    end: bool,
) -> None:
    """Raise a finding of KIND on purpose: a fault drill.  Nothing is touched but people.

    Kinds are those of docs/findings.md.  The agent refuses unless [drills] allowed = true.
    """
    from gpuward.agent import inject_command as command
    from gpuward.agent.agent_client import NoAnswerError, address_of
    from gpuward.agent.drills import Drill
    from gpuward.agent.model import Subject

    if bool(kind) == end:
        exit_with("inject: name a KIND, or --end", WRONG_CONFIG)
    address = address or address_of(load_or_default(path))
    subject = Subject(gpu=gpu, process=process_key)
    try:
        drill = Drill(kind, code, subject, 60.0 * minutes, page)
        click.echo(command.end(address) if end else command.start(address, drill))
    except NoAnswerError as error:
        exit_with(str(error), CANNOT_START)


def wants_colours() -> bool:
    """Return whether standard output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
