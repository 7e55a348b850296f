"""The coordinator's configuration, read and checked as a whole before anything starts.

What one table cannot know of another is checked here: that whoever is named is somebody, reachable
on a channel that exists.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.coordinator.config_tables import CoordinatorConfig
from gpuward.coordinator.escalation import DEFAULT_POLICY, PolicyStep
from gpuward.coordinator.fallback import Fallback
from gpuward.coordinator.model import CauseDomain, Rotation, Severity
from gpuward.coordinator.oncall import Person, Roster, Team
from gpuward.daemon.config import ConfigError, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from gpuward.coordinator.config_tables import PersonConfig, RotationConfig, StepConfig

PLACEHOLDER = "on-call"
MAX_SPEED = 10_000.0
MAX_PORT = 65_535
# Beyond that the next step of the escalation comes first.
MAX_FALLBACK_S = 900.0


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
    fallback(config)


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


def fallback(config: CoordinatorConfig) -> Fallback:
    """Return where pages go that are not delivered; raises ``ConfigError``."""
    delivery = config.delivery
    after_s = delivery.fallback_after_s
    if not 0 <= after_s <= MAX_FALLBACK_S:
        raise ConfigError(f"delivery.fallback_after_s: {after_s} is not in 0..{MAX_FALLBACK_S:g}")
    names = tuple(notifier.name for notifier in config.notifiers)
    _all_known(delivery.last_resort, names, "delivery.last_resort")
    channels = {person.name: person.channels for person in config.people} or {PLACEHOLDER: names}
    return Fallback(channels, delivery.last_resort, after_s)


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
