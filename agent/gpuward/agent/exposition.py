"""Write a snapshot in the Prometheus text format, by hand because it must be quick.

``prometheus_client.generate_latest`` needs 30 ms for 5,000 series; this needs one, because from
scrape to scrape only values are new: all text between them is kept while the series are the same.
Help and type come from ``SIGNALS``, labels from the series' key, so one key is one series.  A value
that is not in the snapshot is stale, and absent here.  The order is that of ``SIGNALS``, and of the
labels within a family: two pages of the same node differ in values alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from gpuward.agent.coverage import TAP_DEGRADED, TAPS_READABLE, are_readable, coverage
from gpuward.agent.exposition_format import CLASSIC
from gpuward.agent.fragmentation_cache import RESERVED
from gpuward.agent.gpu_checks import states
from gpuward.agent.kinds import class_of
from gpuward.agent.limiter import Limiter
from gpuward.agent.model import FindingClass, Result, SeriesKey
from gpuward.agent.saturation import Verdict
from gpuward.agent.series_key import MAX_KNOWN
from gpuward.agent.signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from enum import IntEnum

    from gpuward.agent.exposition_format import Format
    from gpuward.agent.model import Gpu, Process, Snapshot

    Heading = Callable[[str, str], str]

DRIVER_UP = SeriesKey("driver_up")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Exposition:
    """Writes snapshots of one agent in one format."""

    def __init__(self, page_format: Format = CLASSIC) -> None:
        self._heading = page_format.heading
        # Series in the snapshot's order, the text before each value in the page's, and the place
        # of each of the page's values in the snapshot.
        self._keys: list[SeriesKey] = []
        self._before: list[str] = []
        self._order: list[int] = []
        self._gpus: tuple[Gpu, ...] = ()
        self._checks: list[str] = []
        self._processes: tuple[Process, ...] = ()
        self._process_lines: list[str] = []

    def text(self, snapshot: Snapshot, others: str = "") -> str:
        """Return the metrics of ``snapshot``, in the order of ``SIGNALS``, each family once.

        ``others`` is the text of further families, which comes last: a page is copied only once.
        """
        self._renew(snapshot)
        lines: list[str] = []
        lines += _driver(snapshot, self._heading)
        lines += _gpus(snapshot, self._heading)
        lines += _limiters(snapshot, self._heading)
        lines += self._process_lines
        lines += self._series(snapshot)
        lines += self._checks
        lines += _findings(snapshot, self._heading)
        lines += _components(snapshot, self._heading)
        lines.append(others)
        return "".join(lines)

    def _renew(self, snapshot: Snapshot) -> None:
        """Make anew what changes only with what there is: of series, GPUs and processes."""
        keys = list(snapshot.samples)
        has_changed = keys != self._keys
        if has_changed:
            self._lay_out(keys)
        if has_changed or snapshot.gpus != self._gpus:
            self._gpus, self._checks = snapshot.gpus, list(_checks(snapshot, self._heading))
        if has_changed or snapshot.processes != self._processes:
            self._processes = snapshot.processes
            self._process_lines = list(_processes(snapshot, self._heading))

    def _series(self, snapshot: Snapshot) -> list[str]:
        values = [sample.value for sample in snapshot.samples.values()]
        lines = [""] * (2 * len(self._order))
        lines[::2] = self._before
        lines[1::2] = map(repr, map(values.__getitem__, self._order))
        if lines:
            lines.append("\n")
        return lines

    def _lay_out(self, keys: list[SeriesKey]) -> None:
        families: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            families.setdefault(key.signal, []).append(place)
        self._keys, self._before, self._order = keys, [], []
        for name, signal in SIGNALS.items():
            heading = self._heading(f"gpuward_{name}", signal.help)
            # Shown apart, above all others.
            shown = families.get(name, ()) if name != DRIVER_UP.signal else ()
            for place in sorted(shown, key=keys.__getitem__):
                end_of_last = "\n" if self._before else ""
                self._before.append(f"{end_of_last}{heading}{_name(keys[place])} ")
                self._order.append(place)
                heading = ""


# The same few UUIDs and process keys stand in thousands of series.
@lru_cache(maxsize=4_096)
def label(value: str) -> str:
    """Return ``value`` escaped and valid UTF-8, between the quotes of a label."""
    return value.translate(_ESCAPES).encode("utf-8", "replace").decode()


# A page is laid out anew when a series comes or goes; the others go by the name they had.
@lru_cache(maxsize=MAX_KNOWN)
def _name(key: SeriesKey) -> str:
    gpu = f',gpu="{label(key.gpu)}"' if key.gpu else ""
    process = f',process="{label(key.process)}"' if key.process else ""
    service = f',service="{label(key.service)}"' if key.service else ""
    labels = gpu + process + service + _endpoint(key)
    return f"gpuward_{key.signal}{{{labels[1:]}}}" if labels else f"gpuward_{key.signal}"


def _endpoint(key: SeriesKey) -> str:
    if not key.endpoint:
        return ""
    return f',{"replica" if key.service else "upstream"}="{label(key.endpoint)}"'


def _family(heading: str, series: Iterable[str]) -> Iterator[str]:
    yield heading
    yield from series


def _driver(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    # Always there: an agent that cannot look must not look like one whose driver is well.
    up = snapshot.samples.get(DRIVER_UP)
    line = f"gpuward_driver_up {0.0 if up is None else up.value!r}\n"
    yield from _family(heading("gpuward_driver_up", SIGNALS["driver_up"].help), (line,))
    if snapshot.driver.version:
        line = f'gpuward_driver_info{{version="{label(snapshot.driver.version)}"}} 1\n'
        yield from _family(heading("gpuward_driver_info", "Version of the loaded driver."), (line,))


def _gpus(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    if not snapshot.gpus:
        return
    series = (
        f'gpuward_gpu_info{{gpu="{label(gpu.uuid)}",index="{gpu.index}",name="{label(gpu.name)}",'
        f'pci_bus_id="{label(gpu.pci_bus_id)}",serial="{label(gpu.serial)}"}} 1\n'
        for gpu in snapshot.gpus
    )
    yield from _family(heading("gpuward_gpu_info", "Identity of a GPU."), series)


def _limiters(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    series = []
    for gpu in snapshot.gpus:
        limiter = _word(snapshot, "gpu_limiter", gpu, Limiter)
        verdict = _word(snapshot, "gpu_load_verdict", gpu, Verdict)
        if limiter and verdict:
            series.append(
                f'gpuward_gpu_load_info{{gpu="{label(gpu.uuid)}",limiter="{limiter}",'
                f'verdict="{verdict}"}} 1\n'
            )
    if series:
        help_text = "What holds a GPU back, and what that is together with how its service fares."
        yield from _family(heading("gpuward_gpu_load_info", help_text), series)


def _word(snapshot: Snapshot, signal: str, gpu: Gpu, numbers: type[IntEnum]) -> str:
    sample = snapshot.samples.get(SeriesKey(signal, gpu=gpu.uuid))
    names = (each.name.lower() for each in numbers if sample is not None and each == sample.value)
    return next(names, "")


def _checks(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    series = [
        f'gpuward_gpu_check{{gpu="{label(gpu.uuid)}",kind="{kind}",state="{state}"}} 1\n'
        for gpu in snapshot.gpus
        for kind, state in states(snapshot, gpu)
    ]
    if series:
        help_text = "Whether a kind of finding is looked for: checked, unsupported, or unknown."
        yield from _family(heading("gpuward_gpu_check", help_text), series)


def _processes(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    # A process that is on several GPUs is on each of them a series, to be joined with its figures.
    # Its pid is in none: processes that share a name are one series, and a restart makes no other.
    series = {
        _process(snapshot, process, gpu) for process in snapshot.processes for gpu in process.gpus
    }
    if series:
        help_text = "Who a process on a GPU is, and how much of its allocator is in sight."
        yield from _family(heading("gpuward_process_info", help_text), sorted(series))


def _process(snapshot: Snapshot, process: Process, gpu: str) -> str:
    seen = coverage(
        is_seen=SeriesKey(RESERVED, gpu=gpu, process=process.key) in snapshot.samples,
        has_tap=process.tapped,
        is_degraded=SeriesKey(TAP_DEGRADED, gpu=gpu, process=process.key) in snapshot.samples,
        engine=process.engine,
        are_taps_readable=are_readable(snapshot.samples.get(TAPS_READABLE)),
    )
    # As a DCGM exporter names them; a pod whose name the node does not tell goes by its UID.
    namespace, _, pod = process.pod_name.partition("/")
    names = (process.unit, pod or process.pod, process.container, process.engine, process.model)
    unit, pod, container, engine, model = map(label, names)
    return (
        f'gpuward_process_info{{gpu="{label(gpu)}",process="{label(process.key)}",'
        f'rank="{label(process.rank)}",unit="{unit}",namespace="{label(namespace)}",'
        f'pod="{pod}",container="{container}",engine="{engine}",model="{model}",'
        f'service="{label(process.service)}",coverage="{seen.sight}",reason="{seen.reason}"}} 1\n'
    )


def _findings(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    if not snapshot.open_findings:
        return
    series = set()
    for opened in snapshot.open_findings:
        finding, about = opened.finding, opened.finding.subject
        # Of a consequence nobody is told.
        loudness = FindingClass.STORE if opened.suppressed else class_of(finding)
        more = f',endpoint="{label(about.endpoint)}"' if about.endpoint else ""
        more += "" if finding.drill is None else ',drill="1"'
        series.add(
            f'gpuward_finding_open{{kind="{finding.kind}",code="{finding.code}",'
            f'class="{loudness}",result="{finding.result}",gpu="{label(about.gpu)}",'
            f'process="{label(about.process)}",service="{label(about.service)}"{more}}} 1\n'
        )
    yield from _family(
        heading("gpuward_finding_open", "A finding that is open now."), sorted(series)
    )


def _components(snapshot: Snapshot, heading: Heading) -> Iterator[str]:
    if not snapshot.components:
        return
    series = (
        f'gpuward_component_up{{component="{label(health.component)}"}} '
        f"{int(health.result is Result.OK)}\n"
        for health in snapshot.components
    )
    help_text = "1 when a part of the agent worked on its last turn, 0 when it failed."
    yield from _family(heading("gpuward_component_up", help_text), series)
