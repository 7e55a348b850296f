"""Read the web configuration that Prometheus' exporters share: TLS, and who may ask.

Format: docs/web-configuration.md of prometheus/exporter-toolkit.  It is YAML, which nothing else
here is: sites have one such file for all exporters.  Of YAML it uses two levels of ``key: value``,
and just that is read here; a parser for the rest would be a dependency of every node for one file
of few.  What is not understood is refused with its line: never half a configuration of who may ask.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from gpuward.daemon.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_WORD = r"""(?:"[^"\\]*"|'[^']*'|[^\s#"'\[\]{}&*!|>%@`][^\s#]*)"""
_SECTION = re.compile(r"(?P<name>\w+):\s*(?:#.*)?")
_ENTRY = re.compile(rf"(?P<indent> +)(?P<key>{_WORD}):\s+(?P<value>{_WORD})\s*(?:\s#.*)?")
_NOTHING = re.compile(r"\s*(?:#.*)?|---\s*")
_BCRYPT = r"^\$2[aby]\$(0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$"


class TlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``tls_server_config``; relative paths start at the file's folder."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    # The toolkit's other two take certificates that nobody checks, which Python does not.
    client_auth_type: Literal[
        "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
    ] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"

    def __post_init__(self) -> None:
        if (self.client_auth_type == "NoClientCert") != (not self.client_ca_file):
            raise ValueError("client_ca_file and a client_auth_type that verifies go together")


class WebConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    tls_server_config: TlsConfig | None = None
    # Names and bcrypt hashes; beyond 14 rounds one check takes seconds.
    basic_auth_users: dict[str, Annotated[str, msgspec.Meta(pattern=_BCRYPT)]] = {}


def load(path: Path) -> WebConfig:
    """Return the configuration at ``path``; raises ``ConfigError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    try:
        return msgspec.convert(parse(text), WebConfig)
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of ``text``; raises ``ValueError`` with the line that is not one."""
    sections: dict[str, dict[str, str]] = {}
    entries: dict[str, str] | None = None
    indent = ""
    for number, line in enumerate(text.splitlines(), 1):
        if _NOTHING.fullmatch(line):
            continue
        if section := _SECTION.fullmatch(line):
            entries, indent = {}, ""
            if sections.setdefault(section["name"], entries) is not entries:
                raise ValueError(f"line {number}: {section['name']} a second time")
        elif (entry := _ENTRY.fullmatch(line)) and entries is not None:
            indent = indent or entry["indent"]
            key = entry["key"].strip("\"'")
            if entry["indent"] != indent or key in entries:
                raise ValueError(f"line {number}: indented otherwise, or {key} a second time")
            entries[key] = entry["value"].strip("\"'")
        else:
            raise ValueError(
                f"line {number}: only `section:` and indented `key: value` are read here,"
                " no lists, and no more levels"
            )
    return sections
