"""The coordinator's configuration: TOML, typed, checked as a whole before anything starts.

Without a file it runs on loopback and pages one placeholder person on the console.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from gpuward.coordinator.escalation import DEFAULT_POLICY, PolicyStep
from gpuward.coordinator.model import CauseDomain, Rotation, Severity
from gpuward.coordinator.notifiers import NotifierConfig  # noqa: TC001 - msgspec reads it
from gpuward.coordinator.notifiers.console import ConsoleConfig
from gpuward.coordinator.oncall import Person, Roster, Team
from gpuward.daemon.config import ConfigError, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEFAULT_STATE_DIRECTORY = "/var/lib/gpuward-coordinator"
DATABASE_FILE = "coordinator.db"
PLACEHOLDER = "on-call"
MAX_SPEED = 10_000.0
MAX_PORT = 65_535


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class StateConfig(_Section, frozen=True):
    """Where the coordinator keeps what must survive it."""

    directory: str = DEFAULT_STATE_DIRECTORY


class DatabaseConfig(_Section, frozen=True):
    """SQLAlchemy URL; empty for SQLite in the state directory."""

    url: str = ""


class GrpcConfig(_Section, frozen=True):
    """Where agents connect; port 0 picks a free one."""

    address: str = "127.0.0.1:9479"


class HttpConfig(_Section, frozen=True):
    """Where people connect; ``url`` is how they reach it from elsewhere, for links in pages."""

    address: str = "127.0.0.1:9480"
    url: str = ""


class StepConfig(_Section, frozen=True):
    """Changes the policy row of a level; what is not given stays."""

    level: str
    severities: tuple[str, ...]
    after_s: float


class EscalationConfig(_Section, frozen=True):
    """``speed`` divides every delay, deadline, window and hold: 1 but for demonstrations."""

    speed: float = 1.0
    executive: str = ""
    steps: tuple[StepConfig, ...] = ()


class PersonConfig(_Section, frozen=True):
    """Somebody who can be paged; ``channels`` are notifier names, the preferred one first."""

    name: str
    channels: tuple[str, ...]


class RotationConfig(_Section, frozen=True):
    """Who holds which place, by name; ``channels`` per level override those of the person."""

    primary: str
    secondary: str = ""
    lead: str = ""
    channels: dict[str, tuple[str, ...]] = {}


class CoordinatorConfig(_Section, frozen=True):
    """The whole file."""

    state: StateConfig = StateConfig()
    database: DatabaseConfig = DatabaseConfig()
    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    escalation: EscalationConfig = EscalationConfig()
    people: tuple[PersonConfig, ...] = ()
    rotations: dict[Rotation, RotationConfig] = {}
    experts: dict[CauseDomain, str] = {}
    notifiers: tuple[NotifierConfig, ...] = (ConsoleConfig(name="console"),)

    @property
    def database_url(self) -> str:
        path = Path(self.state.directory) / DATABASE_FILE
        return self.database.url or f"sqlite+aiosqlite:///{path}"


def read(path: Path | None) -> CoordinatorConfig:
    """Return the file's configuration, the default without one; raises ``ConfigError``."""
    if path is None:
        return CoordinatorConfig()
    config = load(path, CoordinatorConfig)
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def check(config: CoordinatorConfig) -> None:
    """Raise ``ConfigError`` where one part contradicts another."""
    if not 0 < config.escalation.speed <= MAX_SPEED:
        raise ConfigError(f"escalation.speed: {config.escalation.speed} is not in 0..{MAX_SPEED:g}")
    for name, address in (("grpc", config.grpc.address), ("http", config.http.address)):
        host_port(address, f"{name}.address")
    _unique([n.name for n in config.notifiers], "notifiers")
    _unique([p.name for p in config.people], "people")
    policy(config)
    roster(config)


def host_port(address: str, where: str) -> tuple[str, int]:
    """Return the two parts of ``host:port``; raises ``ConfigError`` naming ``where``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ConfigError(f"{where}: not host:port: {address!r}")
    return host.strip("[]"), int(port)


def policy(config: CoordinatorConfig) -> tuple[PolicyStep, ...]:
    """Return the default policy with the rows that the file moves; raises ``ConfigError``."""
    rows: Sequence[PolicyStep] = DEFAULT_POLICY
    for place, change in enumerate(config.escalation.steps):
        rows = _moved(rows, change, f"escalation.steps[{place}]")
    return tuple(rows)


def roster(config: CoordinatorConfig) -> Roster:
    """Return who is on call; raises ``ConfigError`` for a name that nobody has."""
    if not config.people:
        return _placeholder_roster(config)
    channels = {notifier.name for notifier in config.notifiers}
    people = {p.name: _person(p, channels) for p in config.people}
    for rotation in Rotation:
        if rotation not in config.rotations:
            raise ConfigError(f"rotations.{rotation}: missing; each rotation needs a primary")
    return Roster(
        teams={
            rotation: _team(places, people, channels, f"rotations.{rotation}")
            for rotation, places in config.rotations.items()
        },
        experts={
            domain: _known(name, people, f"experts.{domain}")
            for domain, name in config.experts.items()
        },
        executive=_optional(config.escalation.executive, people, "escalation.executive"),
    )


def _placeholder_roster(config: CoordinatorConfig) -> Roster:
    if config.rotations or config.experts or config.escalation.executive:
        raise ConfigError("people: missing; rotations, experts and executive name people")
    person = Person(PLACEHOLDER, tuple(n.name for n in config.notifiers))
    team = Team(primary=person, secondary=person, lead=person)
    return Roster(
        teams=dict.fromkeys(Rotation, team),
        experts=dict.fromkeys(CauseDomain, person),
        executive=person,
    )


def _person(config: PersonConfig, channels: Iterable[str]) -> Person:
    where = f"people.{config.name}.channels"
    if not config.channels:
        raise ConfigError(f"{where}: empty; nobody can be paged on no channel")
    _all_known(config.channels, channels, where)
    return Person(config.name, config.channels)


def _team(
    places: RotationConfig, people: Mapping[str, Person], channels: Iterable[str], where: str
) -> Team:
    for level, names in places.channels.items():
        _all_known(names, channels, f"{where}.channels.{level}")
        if not names:
            raise ConfigError(f"{where}.channels.{level}: empty")
    return Team(
        primary=_known(places.primary, people, f"{where}.primary"),
        secondary=_optional(places.secondary, people, f"{where}.secondary"),
        lead=_optional(places.lead, people, f"{where}.lead"),
        channels=MappingProxyType(dict(places.channels)),
    )


def _known(name: str, people: Mapping[str, Person], where: str) -> Person:
    if name not in people:
        raise ConfigError(f"{where}: no person is named {name!r}; add it to [[people]]")
    return people[name]


def _optional(name: str, people: Mapping[str, Person], where: str) -> Person | None:
    return _known(name, people, where) if name else None


def _all_known(names: Iterable[str], channels: Iterable[str], where: str) -> None:
    for name in names:
        if name not in channels:
            raise ConfigError(f"{where}: no notifier is named {name!r}; add it to [[notifiers]]")


def _unique(names: Sequence[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: {name!r} is there twice")


def _moved(rows: Sequence[PolicyStep], change: StepConfig, where: str) -> Sequence[PolicyStep]:
    """Return ``rows`` with the level's delay changed for the severities that ``change`` names."""
    if change.after_s < 0:
        raise ConfigError(f"{where}.after_s: {change.after_s} is negative")
    wanted = {_severity(name, where) for name in change.severities}
    found = {s for row in rows if row.level == change.level for s in row.severities}
    if not wanted or not wanted <= found:
        missing = ", ".join(sorted(s.name for s in wanted - found)) or "no severity"
        levels = ", ".join(sorted({row.level for row in rows}))
        raise ConfigError(f"{where}: no level {change.level!r} for {missing}; levels: {levels}")
    result: list[PolicyStep] = []
    for row in rows:
        moved = tuple(s for s in row.severities if row.level == change.level and s in wanted)
        kept = tuple(s for s in row.severities if s not in moved)
        if kept:
            result.append(replace(row, severities=kept))
        if moved:
            result.append(replace(row, severities=moved, after_s=change.after_s))
    return result


def _severity(name: str, where: str) -> Severity:
    if name not in Severity.__members__:
        raise ConfigError(f"{where}.severities: {name!r} is none of SEV1 SEV2 SEV3 SEV4")
    return Severity[name]
