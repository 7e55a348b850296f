"""The tables of the coordinator's configuration file: names, types, defaults and meanings.

docs/configuration.md is made from them.  Without a file the coordinator runs on loopback and pages
one placeholder person on the console.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from gpuward.coordinator.model import CauseDomain, Rotation  # noqa: TC001 - msgspec reads it
from gpuward.coordinator.notifiers import NotifierConfig  # noqa: TC001 - msgspec reads it
from gpuward.coordinator.notifiers.console import ConsoleConfig

DEFAULT_STATE_DIRECTORY = "/var/lib/gpuward-coordinator"
DATABASE_FILE = "coordinator.db"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file."""


class StateConfig(_Section, frozen=True):
    """Where the coordinator keeps what must survive it."""

    directory: Annotated[
        str, Meta(description="Folder with the database; it must outlive restarts.")
    ] = DEFAULT_STATE_DIRECTORY


class DatabaseConfig(_Section, frozen=True):
    """Where incidents, pages and timers are kept."""

    url: Annotated[str, Meta(description="SQLAlchemy URL; empty: SQLite in the state folder.")] = ""


class GrpcConfig(_Section, frozen=True):
    """Where agents connect."""

    address: Annotated[str, Meta(description="`host:port`; port 0 takes a free one.")] = (
        "127.0.0.1:9479"
    )


class HttpConfig(_Section, frozen=True):
    """Where people connect."""

    address: Annotated[str, Meta(description="`host:port`; port 0 takes a free one.")] = (
        "127.0.0.1:9480"
    )
    url: Annotated[
        str,
        Meta(description="How people reach it by name, for links in pages; empty: by address."),
    ] = ""


class StepConfig(_Section, frozen=True):
    """Changes the policy row of a level; what is not given stays."""

    level: Annotated[str, Meta(description="`L1`, `L1-repeat`, `L2`, `L3` or `executive`.")]
    severities: Annotated[
        tuple[str, ...],
        Meta(description="For which of `SEV1` to `SEV4`; each must have the level."),
    ]
    after_s: Annotated[
        float, Meta(description="Seconds from the decision to page until this level is paged.")
    ]


class EscalationConfig(_Section, frozen=True):
    """Who is paged when nobody acts."""

    speed: Annotated[
        float,
        Meta(description="Divides every delay, deadline, window and hold; 1 but for demos."),
    ] = 1.0
    executive: Annotated[
        str, Meta(description="Name of who hears of users hurt for half an hour; empty: nobody.")
    ] = ""
    steps: Annotated[
        tuple[StepConfig, ...], Meta(description="Delays that differ from the default policy.")
    ] = ()


class DeliveryConfig(_Section, frozen=True):
    """What happens to a page that its channel does not deliver."""

    fallback_after_s: Annotated[
        float,
        Meta(
            description="Seconds until a page that was not taken goes out by another channel too; "
            "one that was refused does at once."
        ),
    ] = 60.0
    last_resort: Annotated[
        tuple[str, ...],
        Meta(description="Names of notifiers to try after all channels of the person."),
    ] = ()


class PersonConfig(_Section, frozen=True):
    """Somebody who can be paged."""

    name: Annotated[str, Meta(description="What rotations call this person; unique.")]
    channels: Annotated[
        tuple[str, ...],
        Meta(description="Names of notifiers, the preferred one first; at least one."),
    ]


class RotationConfig(_Section, frozen=True):
    """Who holds which place."""

    primary: Annotated[str, Meta(description="Who is paged first.")]
    secondary: Annotated[
        str, Meta(description="Who is paged when the primary does not acknowledge; empty: nobody.")
    ] = ""
    lead: Annotated[
        str, Meta(description="Who is paged when it is not resolved; empty: nobody.")
    ] = ""
    channels: Annotated[
        dict[str, tuple[str, ...]],
        Meta(description="By level: notifiers that take the place of the person's own."),
    ] = {}


class CoordinatorConfig(_Section, frozen=True):
    """The whole file."""

    state: StateConfig = StateConfig()
    database: DatabaseConfig = DatabaseConfig()
    grpc: GrpcConfig = GrpcConfig()
    http: HttpConfig = HttpConfig()
    escalation: EscalationConfig = EscalationConfig()
    delivery: DeliveryConfig = DeliveryConfig()
    people: Annotated[
        tuple[PersonConfig, ...],
        Meta(description="Who can be paged; empty: one placeholder holds every place."),
    ] = ()
    rotations: Annotated[
        dict[Rotation, RotationConfig],
        Meta(description="Each rotation, as soon as there are people."),
    ] = {}
    experts: Annotated[
        dict[CauseDomain, str],
        Meta(description="By domain of the cause: whom L3 pages beside the lead."),
    ] = {}
    notifiers: Annotated[
        tuple[NotifierConfig, ...], Meta(description="Channels that pages go out on.")
    ] = (ConsoleConfig(name="console"),)

    @property
    def database_url(self) -> str:
        path = Path(self.state.directory) / DATABASE_FILE
        return self.database.url or f"sqlite+aiosqlite:///{path}"
