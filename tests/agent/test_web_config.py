"""The file that exporters share: what of it is read, and what is refused by its line."""

import pytest
from click.testing import CliRunner

from gpuward.agent import web_config
from gpuward.agent.__main__ import agent
from gpuward.agent.web_config import TlsConfig, WebConfig
from gpuward.daemon.config import ConfigError

HASH = "$2y$04$abcdefghijklmnopqrstuuxXxXxXxXxXxXxXxXxXxXxXxXxXxXxXx"[:60]
# As in docs/web-configuration.md of the toolkit, without what is refused below.
FULL = f"""---
# for all exporters
tls_server_config:
  cert_file: server.crt   # relative
  key_file: "server.key"
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: 'ca.crt'
  min_version: TLS13

basic_auth_users:
    prometheus: {HASH}
    "alice b": '{HASH}'
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "web.yml"
        path.write_text(text)
        return web_config.load(path)

    return read


def test_all_that_is_understood(read):
    tls = TlsConfig(
        cert_file="server.crt",
        key_file="server.key",
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file="ca.crt",
        min_version="TLS13",
    )

    assert WebConfig(
        tls_server_config=tls, basic_auth_users={"prometheus": HASH, "alice b": HASH}
    ) == read(FULL)


def test_an_empty_file_asks_for_nothing(read):
    assert WebConfig() == read("# nothing yet\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("http_server_config:\n  http2: true\n", "http_server_config", id="section"),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [A]\n",
            "line 4",
            id="a list",
        ),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites:\n  - A\n",
            "line 4",
            id="a list of lines",
        ),
        pytest.param("tls_server_config: {cert_file: a}\n", "line 1", id="braces"),
        pytest.param("tls_server_config:\n\tcert_file: a\n", "line 2", id="a tab"),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n    key_file: b\n", "line 3", id="deeper"
        ),
        pytest.param("  cert_file: a\n", "line 1", id="no section"),
        pytest.param("basic_auth_users:\n  a: b c\n", "line 2", id="two words"),
        pytest.param("basic_auth_users:\n  a: *b\n", "line 2", id="an alias"),
        pytest.param(
            f"basic_auth_users:\n  a: {HASH}\nbasic_auth_users:\n  b: {HASH}\n",
            "line 3: basic_auth_users a second time",
            id="a section twice",
        ),
        pytest.param(f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n", "line 3", id="a name twice"),
        pytest.param("basic_auth_users:\n  a: secret\n", "basic_auth_users", id="no hash"),
        pytest.param(
            f"basic_auth_users:\n  a: {HASH.replace('$04', '$15')}\n", "basic_auth", id="rounds"
        ),
        pytest.param("tls_server_config:\n  cert_file: a\n", "key_file", id="no key"),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS10\n",
            "TLS10",
            id="an old version",
        ),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n"
            "  client_auth_type: RequireAnyClientCert\n",
            "RequireAnyClientCert",
            id="certificates that nobody checks",
        ),
        pytest.param(
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  client_ca_file: c\n",
            "go together",
            id="an authority that nobody asks",
        ),
    ],
)
def test_what_is_not_understood_is_refused(read, text, said):
    """An ignored line could be the one that locks the door."""
    with pytest.raises(ConfigError, match=said) as caught:
        read(text)

    assert "web.yml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"web\.yml: No such file"):
        web_config.load(tmp_path / "web.yml")


def test_check_config_looks_into_it(tmp_path):
    """Before a restart, not after it."""
    (tmp_path / "web.yml").write_text("basic_auth_users:\n  ada: secret\n")
    (tmp_path / "agent.toml").write_text(f'[http]\nweb_config = "{tmp_path}/web.yml"\n')

    result = CliRunner().invoke(agent, ["check-config", "--config", f"{tmp_path}/agent.toml"])

    assert 2 == result.exit_code
    assert result.stderr.startswith(f"gpuward agent: [http] web_config: {tmp_path}/web.yml: ")
