"""`gpuward agent replay`: print what was found in a recording, when, and when it was over."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from gpuward.agent.command_line import CANNOT_START, CONFIG_OPTION, exit_with, load_or_default

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuward.agent.model import Subject
    from gpuward.agent.recording_file import RecordingReader
    from gpuward.agent.recording_replay import Replay, Told
    from gpuward.agent.xid_catalogue import Xid


@click.command()
@CONFIG_OPTION
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each, with evidence.")
@click.option(
    "--anew",
    is_flag=True,
    help="Derive anew what was derived: it shows what this version would have said.",
)
def replay(*, path: Path, file: Path, as_json: bool, anew: bool) -> None:
    """Judge what gpuward agent record has written to FILE; no agent is needed.

    The same file always gives the same lines.  One that was cut off gives what was whole.  Of the
    configuration only [xid.overrides] counts, as it does in the agent.  Exit status: 0 all of it
    was judged, 1 there is an error, or FILE ended early, 2 the configuration cannot be used.
    """
    from gpuward.agent.recording import RecordingError
    from gpuward.agent.recording_file import RecordingReader
    from gpuward.daemon import log

    # What the judge logs is what is printed.
    log.configure(level="critical")
    xids = load_or_default(path).xid.catalogue()
    try:
        with file.open("rb") as opened:
            reader = RecordingReader(opened)
            asyncio.run(_print(reader, xids, as_json=as_json, anew=anew))
    except OSError as error:
        exit_with(f"{file}: {error.strerror}", CANNOT_START)
    except RecordingError as error:
        exit_with(f"{file}: {error}", CANNOT_START)
    if reader.damage:
        exit_with(f"{file}: not all of it: {reader.damage}", CANNOT_START)


async def _print(
    reader: RecordingReader, xids: Mapping[int, Xid], *, as_json: bool, anew: bool
) -> None:
    from gpuward.agent.recording_replay import Replay

    with tempfile.TemporaryDirectory() if anew else nullcontext() as folder:
        replaying = Replay(reader, None if folder is None else Path(folder), xids=xids)
        count = 0
        async for told in replaying.run():
            count += 1
            click.echo(_json(told) if as_json else _line(told))
    if not as_json:
        for line in _summary(replaying, reader, count):
            click.echo(line)


def _line(told: Told) -> str:
    """Return one line: when, what became of it, how loud, of what kind, about whom, in words."""
    from gpuward.agent.kinds import class_of
    from gpuward.memory_map.text import plain

    finding = told.opened.finding
    loudness = "told elsewhere" if told.opened.suppressed else class_of(finding).value
    about = " ".join(_about(finding.subject)) or "the node"
    code = f" {finding.code}" if finding.code else ""
    return plain(
        f"{_time(told.wall_s)}  {told.turn.value:<8}  {loudness:<6}  {finding.kind}{code}"
        f"  {about}  {finding.summary}"
    )


def _json(told: Told) -> str:
    from gpuward.agent.kinds import class_of

    finding = told.opened.finding
    return msgspec.json.encode(
        {
            "at": _time(told.wall_s),
            "turn": told.turn.value,
            "class": class_of(finding).value,
            "suppressed": told.opened.suppressed,
            "kind": finding.kind,
            "code": finding.code,
            "about": _about(finding.subject),
            "result": finding.result.value,
            "confidence": finding.confidence,
            "summary": finding.summary,
            "evidence": [
                {
                    "name": fact.name,
                    "value": fact.value,
                    "unit": fact.unit,
                    "threshold": fact.threshold,
                    "text": fact.text,
                }
                for fact in finding.evidence
            ],
        }
    ).decode()


def _about(subject: Subject) -> list[str]:
    fields = (subject.service, subject.endpoint, subject.gpu, subject.process)
    return [field for field in fields if field]


def _summary(replaying: Replay, reader: RecordingReader, count: int) -> list[str]:
    lines = [f"{replaying.seconds:.0f} s, {replaying.judgements} judgements, {count} lines"]
    if reader.passed_over:
        lines.append(f"{reader.passed_over} samples and events are of no kind that is known here")
    for part, times in sorted(replaying.components.failures.items()):
        lines.append(f"{part} failed {times} times")
    return lines


def _time(wall_s: float) -> str:
    """Return UTC to the millisecond; far beyond any clock, the seconds."""
    try:
        moment = datetime.fromtimestamp(wall_s, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{wall_s:.3f}"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1_000:03d}Z"
