"""`gpuward agent record`: write what the running agent sees to a file, to be judged again later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default
from gpuward.agent.release_command import to_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

# What it tells is for whoever recorded it.
MODE = 0o600
# Beyond its length, for the first five minutes to be sent.
PATIENCE_S = 60.0


@click.command()
@CONFIG_OPTION
@click.option("--address", default="", help="The agent's [grpc] address; found where left out.")
@click.option("--for", "for_s", callback=to_seconds, default="10m", show_default=True)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.",
)
@click.option("--with-names", is_flag=True, help="Keep the names of processes, pods, hosts, GPUs.")
def record(*, path: Path, address: str, for_s: int, out: Path, with_names: bool) -> None:
    """Record what the agent sees, and the five minutes before; Ctrl-C ends it early.

    The file has figures and times, no prompt and no answer of any model.  The agent refuses unless
    [recording] allowed = true.  gpuward agent replay judges it again, anywhere.
    """
    from gpuward.agent.agent_client import NoAnswerError, address_of

    address = address or address_of(load_or_default(path))
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE), "wb") as file:
            _write(file, address, for_s, with_names=with_names)
    except NoAnswerError as error:
        if out.stat().st_size == 0:
            out.unlink()
        exit_with(str(error), CANNOT_START)
    except OSError as error:
        exit_with(f"--out {out}: {error.strerror}", CANNOT_START)
    click.echo(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


def _write(file: Any, address: str, for_s: int, *, with_names: bool) -> None:
    """Write what the agent sends to ``file``; raises ``NoAnswerError`` and ``OSError``."""
    from gpuward.agent.recording_file import RecordingFile

    recording = None
    try:
        for chunk in _chunks(address, for_s, with_names=with_names):
            # Nothing is written of a recording that is refused.
            recording = recording or RecordingFile(file)
            recording.write(chunk)
    except KeyboardInterrupt:
        # What there is can be replayed.
        return


def _chunks(address: str, for_s: int, *, with_names: bool) -> Iterator[bytes]:
    import grpc
    from google.protobuf.duration_pb2 import Duration

    from gpuward.agent.agent_client import OPTIONS, NoAnswerError, complaint
    from gpuward.v1 import recording_pb2, recording_pb2_grpc

    request = recording_pb2.RecordRequest(duration=Duration(seconds=for_s), with_names=with_names)
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = recording_pb2_grpc.RecordingServiceStub(channel)
        try:
            for answer in stub.Record(request, timeout=for_s + PATIENCE_S):
                yield answer.records
        except grpc.RpcError as error:
            raise NoAnswerError(f"{address}: {complaint(error)}") from error
