"""The agent's configuration file as types; each default is what a node of one needs.

A value that cannot be used is refused where it is read, with the place and what to do; the file
has no secrets and is read once, because a restart takes less than a second.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gpuward.agent.engine_config import DiscoveryConfig, EngineConfig
from gpuward.agent.samplers.endpoint_config import (
    EndpointConfig,  # noqa: TC001 - msgspec reads it
)
from gpuward.agent.samplers.ingress_config import (
    IngressConfig,  # noqa: TC001 - msgspec reads it
)
from gpuward.agent.samplers.upstream_config import (
    UpstreamConfig,  # noqa: TC001 - msgspec reads it
)
from gpuward.agent.xid_overrides import XidConfig

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SHORTEST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 300.0
# The longest path that a Unix socket's address holds, unix(7).
MAX_SOCKET_PATH = 107
_HOST_PORT = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
MAX_PORT = 65_535


def host_port(address: str) -> tuple[str, int]:
    """Return the parts of ``host:port``, an IPv6 host without brackets; raises ``ValueError``."""
    found = _HOST_PORT.fullmatch(address)
    if found is None or int(found["port"]) > MAX_PORT:
        raise ValueError(f"address {address!r} is not host:port")
    return found["host"].strip("[]"), int(found["port"])


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which node this is."""

    name: Annotated[
        str,
        Meta(description="What the coordinator and people call this node; empty: its host name."),
    ] = ""


class StateConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What must survive a restart."""

    directory: Annotated[
        str,
        Meta(
            description="Absolute path of the folder with spool, history, and what was learned;"
            " one agent's own, and it must outlive restarts."
        ),
    ] = "/var/lib/gpuward-agent"

    def __post_init__(self) -> None:
        if not Path(self.directory).is_absolute():
            raise ValueError(f"directory {self.directory!r} is not an absolute path")


class HttpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Pages for Prometheus and for health checks."""

    address: Annotated[
        str,
        Meta(description="`host:port` of /metrics, /healthz and /readyz; port 0 takes a free one."),
    ] = "127.0.0.1:9477"
    web_config: Annotated[
        str,
        Meta(
            description="Web configuration file of Prometheus' exporters, for TLS and passwords;"
            " empty: neither."
        ),
    ] = ""

    def __post_init__(self) -> None:
        host_port(self.address)
        if self.web_config and not Path(self.web_config).is_absolute():
            raise ValueError(f"web_config {self.web_config!r} is not an absolute path")


class GrpcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Queries about this node."""

    address: Annotated[
        str, Meta(description="`unix:/path`, or `host:port` on loopback; port 0 takes a free one.")
    ] = "127.0.0.1:9478"

    def __post_init__(self) -> None:
        if self.address.startswith("unix:"):
            if not 1 < len(self.address) - len("unix:") <= MAX_SOCKET_PATH:
                raise ValueError(f"a socket needs a path of at most {MAX_SOCKET_PATH} bytes")
        elif host_port(self.address)[0] not in LOOPBACK:
            raise ValueError(
                "queries beyond loopback need mutual TLS, which this version does not have;"
                " use 127.0.0.1:9478 or unix:/path"
            )


class CoordinatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whom to report to."""

    address: Annotated[
        str, Meta(description="`host:port` to report to; empty: report to nobody.")
    ] = ""
    report_interval_s: Annotated[
        float,
        Meta(description="Seconds between reports, 1 to 300; the coordinator may ask for others."),
    ] = 10.0

    def __post_init__(self) -> None:
        if self.address:
            host_port(self.address)
        if not SHORTEST_INTERVAL_S <= self.report_interval_s <= LONGEST_INTERVAL_S:
            raise ValueError(
                f"report_interval_s must be {SHORTEST_INTERVAL_S:g} to {LONGEST_INTERVAL_S:g}"
            )


class TapConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Memory of torch processes."""

    directory: Annotated[
        str, Meta(description="Where taps publish; must be what `GPUWARD_TAP_DIR` says to them.")
    ] = "/run/gpuward/tap"


class KmsgConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Errors that the driver logs."""

    path: Annotated[str, Meta(description="The kernel's log.")] = "/dev/kmsg"


class DriverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The driver's kernel module."""

    files: Annotated[
        str,
        Meta(description="The folder that is there while the module is loaded."),
    ] = "/proc/driver/nvidia"


class PciConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """GPUs as PCI sees them, also while the driver hangs."""

    devices: Annotated[str, Meta(description="The kernel's folder of PCI devices.")] = (
        "/sys/bus/pci/devices"
    )


class DcgmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Profiling counters of GPUs older than Hopper, which only DCGM may read where it runs."""

    url: Annotated[
        str,
        Meta(
            description="`http://host:port` of a DCGM exporter on this node; empty: there is none."
        ),
    ] = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if self.url and (parts.scheme != "http" or not parts.hostname):
            raise ValueError(f"url {self.url!r} is not http://host:port of an exporter")


class ProbesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Measurements that the agent makes itself."""

    mode: Annotated[
        Literal["auto", "cpu", "off"],
        Meta(
            description="Who measures: workers of GPUs too, where and when that is safe (unit"
            " `gpuward-probe@UUID`), the CPU alone, or nobody."
        ),
    ] = "auto"
    directory: Annotated[
        str,
        Meta(description="Of the workers' sockets; empty: systemd's, else in the state folder."),
    ] = ""
    beside_mps: Annotated[
        bool,
        Meta(
            description="Whether GPUs that MPS shares are measured too, in a time slice beside it."
        ),
    ] = False


class DrillsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Findings that a person raises on purpose."""

    allowed: Annotated[
        bool,
        Meta(
            description=(
                "Whether `gpuward agent inject` may raise a finding here; whoever reaches the"
                " `[grpc]` address can then page people, so a `unix:` address is best."
            )
        ),
    ] = False


class RecordingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the agent sees, in a file."""

    allowed: Annotated[
        bool,
        Meta(
            description="Whether `gpuward agent record` may write down what this agent sees:"
            " figures and times, and names when it is asked for them, but no prompts; whoever"
            " reaches the `[grpc]` address can then record, so a `unix:` address is best."
        ),
    ] = False


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    node: NodeConfig = NodeConfig()
    state: StateConfig = StateConfig()
    http: HttpConfig = HttpConfig()
    grpc: GrpcConfig = GrpcConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    tap: TapConfig = TapConfig()
    kmsg: KmsgConfig = KmsgConfig()
    xid: XidConfig = XidConfig()
    driver: DriverConfig = DriverConfig()
    pci: PciConfig = PciConfig()
    dcgm: DcgmConfig = DcgmConfig()
    probes: ProbesConfig = ProbesConfig()
    drills: DrillsConfig = DrillsConfig()
    recording: RecordingConfig = RecordingConfig()
    engines: tuple[EngineConfig, ...] = ()
    discovery: DiscoveryConfig = DiscoveryConfig()
    endpoints: tuple[EndpointConfig, ...] = ()
    ingresses: tuple[IngressConfig, ...] = ()
    upstreams: tuple[UpstreamConfig, ...] = ()

    def __post_init__(self) -> None:
        for which, names in (
            ("engines", [(table.service, table.instance) for table in self.engines]),
            ("endpoints", [(table.service, table.instance) for table in self.endpoints]),
            ("ingresses", [(table.service, table.instance) for table in self.ingresses]),
            ("upstreams", [("", table.name) for table in self.upstreams]),
        ):
            for service, name in names:
                if names.count((service, name)) > 1:
                    of = f" of service {service!r}" if service else ""
                    raise ValueError(f"[[{which}]]: {name} is there twice{of}")

    @property
    def node_name(self) -> str:
        """Return the configured name, or the host's."""
        return self.node.name or socket.gethostname()
