"""`gpuward tap`: bring the tap into inference processes without a change to their image or code.

torch finds the tap by an entry point, so that a folder with the package and its metadata on
PYTHONPATH is all a process needs: mounted into a container, or named in the environment of one
command.  Such a copy carries the distribution's own name, and being found first it replaces an
installed one.  The tap is copied, never imported: it belongs into other processes.
"""

from __future__ import annotations

import os
import shutil
from importlib import metadata, util
from pathlib import Path

import click

DISTRIBUTION = "gpuward-tap"
PACKAGE = "gpuward.tap"


@click.group("tap")
def tap() -> None:
    """Bring the tap into inference processes: it shows the agent torch's allocator."""


@tap.command()
@click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write; made when it is not there.",
)
def install(folder: Path) -> None:
    """Write a folder that holds the tap, for mounting into containers.

    Set PYTHONPATH to it there, and mount the tap directory of the node, /run/gpuward/tap, at the
    same place.
    """
    try:
        write_tap(folder)
    except OSError as error:
        raise click.ClickException(f"cannot write {folder}: {error.strerror}") from error
    click.echo(f"PYTHONPATH={folder.absolute()}")


@tap.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...]) -> None:
    """Run COMMAND with the tap: gpuward tap run -- vllm serve MODEL.

    Only PYTHONPATH is set; the command then takes the place of this process.  The copy of the tap
    that it finds lies in the cache of this user.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpuward"
    folder = cache / f"tap-{_distribution().version}"
    try:
        write_tap(folder)
    except OSError as error:
        raise click.ClickException(f"cannot write {folder}: {error.strerror}") from error
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the user's own command
    except OSError as error:
        raise click.ClickException(f"cannot run {command[0]}: {error.strerror}") from error


def write_tap(folder: Path) -> None:
    """Write package and metadata into ``folder``; other versions of the tap there go away.

    Each file is replaced as a whole, so that processes may import the tap meanwhile.
    """
    distribution = _distribution()
    info = folder / f"gpuward_tap-{distribution.version}.dist-info"
    for old in folder.glob("gpuward_tap-*.dist-info"):
        if old != info:
            shutil.rmtree(old)
    wanted = {source.name: source.read_bytes() for source in _modules()}
    package = folder / "gpuward" / "tap"
    for name, content in wanted.items():
        _replace(package / name, content)
    for old in package.iterdir():
        if old.is_file() and old.name not in wanted:
            old.unlink()
    for name in ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE"):
        text = distribution.read_text(name)
        if text is not None:
            _replace(info / name, text.encode())
    _replace(info / "INSTALLER", b"gpuward\n")


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == content:
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _distribution() -> metadata.Distribution:
    try:
        return metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        message = f"the tap is not installed: pip install '{DISTRIBUTION}'"
        raise click.ClickException(message) from error


def _modules() -> list[Path]:
    """Return the files of the package; looked up, which imports the namespace gpuward alone."""
    found = util.find_spec(PACKAGE)
    # An editable installation has locations but no origin.
    folders = (found.submodule_search_locations if found is not None else None) or []
    files = [path for folder in folders for path in Path(folder).iterdir()]
    modules = [path for path in files if path.suffix == ".py" or path.name == "py.typed"]
    if not modules:
        raise click.ClickException(f"the package {PACKAGE} is missing: pip install {DISTRIBUTION}")
    return modules
