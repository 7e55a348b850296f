"""The agent's file: what is accepted, and which line says what to mend."""

from __future__ import annotations

import pytest

from gpuward.agent.config import AgentConfig, host_port
from gpuward.daemon.config import ConfigError, parse


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing: every value has a default"),
        pytest.param('[grpc]\naddress = "unix:/run/gpuward/agent.sock"', id="a socket"),
        pytest.param('[http]\naddress = "0.0.0.0:9477"', id="metrics on every interface"),
        pytest.param('[http]\naddress = "[::1]:0"', id="IPv6, any free port"),
        pytest.param('[coordinator]\naddress = "gpuward.example.org:9479"', id="a coordinator"),
        pytest.param(
            '[[engines]]\nservice = "chat"\nurl = "http://127.0.0.1:8000"', id="an engine"
        ),
        pytest.param('[probes]\nmode = "off"', id="no probes"),
    ],
)
def test_good(text):
    parse(text, AgentConfig, name="agent.toml")


def test_defaults_are_the_documented_ones():
    config = AgentConfig()

    assert config.http.address == "127.0.0.1:9477"
    assert config.grpc.address == "127.0.0.1:9478"
    assert config.coordinator.address == ""
    assert config.coordinator.report_interval_s == 10.0
    assert config.tap.directory == "/run/gpuward/tap"
    assert config.state.directory == "/var/lib/gpuward-agent"
    assert config.kmsg.path == "/dev/kmsg"
    assert config.node_name


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        pytest.param("[htpp]", "htpp", "unknown field `htpp`", id="unknown table"),
        pytest.param("[http]\nport = 1", "$.http", "unknown field `port`", id="unknown key"),
        pytest.param("[http]\naddress = 9477", "$.http.address", "Expected `str`", id="wrong type"),
        pytest.param('[http]\naddress = "9477"', "$.http", "is not host:port", id="no host"),
        pytest.param(
            '[http]\naddress = "a:65536"', "$.http", "is not host:port", id="no such port"
        ),
        pytest.param('[grpc]\naddress = "0.0.0.0:1"', "$.grpc", "mutual TLS", id="queries for all"),
        pytest.param('[grpc]\naddress = "unix:"', "$.grpc", "needs a path", id="a nameless socket"),
        pytest.param(
            f'[grpc]\naddress = "unix:/{"x" * 107}"', "$.grpc", "at most 107", id="a long socket"
        ),
        pytest.param(
            "[coordinator]\nreport_interval_s = 0.9", "$.coordinator", "1 to 300", id="too often"
        ),
        pytest.param(
            "[coordinator]\nreport_interval_s = 301", "$.coordinator", "1 to 300", id="too seldom"
        ),
        pytest.param('[state]\ndirectory = "x"', "$.state", "absolute", id="relative folder"),
        pytest.param("[[engines]]", "$.engines[0]", "missing required field", id="engine without"),
        pytest.param('[probes]\nmode = "on"', "$.probes.mode", "Invalid enum", id="no such mode"),
        pytest.param("[http", "end of", "Expected ']'", id="no TOML"),
    ],
)
def test_bad(text, place, what):
    """One line with the file, the place in it, and the reason."""
    with pytest.raises(ConfigError) as error:
        parse(text, AgentConfig, name="agent.toml")

    message = str(error.value)
    assert message.startswith("agent.toml: ")
    assert place in message
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("node-1.example.org:65535", ("node-1.example.org", 65_535)),
        ("[::1]:9477", ("::1", 9_477)),
    ],
)
def test_host_port(address, parts):
    assert host_port(address) == parts
