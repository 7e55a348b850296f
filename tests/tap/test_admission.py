"""Which processes take part: services by name, hosts by share."""

from __future__ import annotations

import pytest

from gpuward.tap.admission import is_admitted, service_name


@pytest.mark.parametrize(
    ("environment", "program", "name"),
    [
        pytest.param({}, "/srv/serve.py", "serve", id="script"),
        pytest.param({}, "/x/vllm/entrypoints/openai/api_server.py", "api_server", id="module"),
        pytest.param({}, "/x/mine/__main__.py", "mine", id="package"),
        pytest.param({}, "/usr/bin/vllm", "vllm", id="command"),
        pytest.param({}, "", "", id="none"),
        pytest.param({"GPUWARD_TAP_SERVICE": "chat"}, "/usr/bin/vllm", "chat", id="named"),
    ],
)
def test_service_name(environment, program, name):
    assert service_name(environment, program) == name


@pytest.mark.parametrize(
    ("environment", "admitted"),
    [
        pytest.param({}, True, id="all by default"),
        pytest.param({"GPUWARD_TAP_ALLOW": "chat"}, True, id="named"),
        pytest.param({"GPUWARD_TAP_ALLOW": "embed, ch*"}, True, id="pattern in a list"),
        pytest.param({"GPUWARD_TAP_ALLOW": "embed"}, False, id="others only"),
        pytest.param({"GPUWARD_TAP_ALLOW": ""}, False, id="nobody"),
        pytest.param({"GPUWARD_TAP_SHARE": "1"}, True, id="whole"),
        pytest.param({"GPUWARD_TAP_SHARE": "0"}, False, id="no share"),
        pytest.param({"GPUWARD_TAP_SHARE": "10%"}, False, id="not a number"),
        pytest.param({"GPUWARD_TAP_SHARE": "nan"}, False, id="no number at all"),
        pytest.param({"GPUWARD_TAP_SHARE": "1", "GPUWARD_TAP_ALLOW": "x"}, False, id="both"),
    ],
)
def test_is_admitted(environment, admitted):
    assert is_admitted(environment, "chat", "node-1") is admitted


def test_a_share_of_hosts_grows_and_keeps_who_was_in():
    hosts = [f"node-{number}" for number in range(2000)]
    shares = [
        {host for host in hosts if is_admitted({"GPUWARD_TAP_SHARE": share}, "chat", host)}
        for share in ("0.05", "0.5")
    ]

    assert shares[0] < shares[1]
    assert (60 < len(shares[0]) < 140, 900 < len(shares[1]) < 1100) == (True, True)


def test_services_begin_on_different_hosts():
    hosts = [f"node-{number}" for number in range(200)]
    chosen = [
        [host for host in hosts if is_admitted({"GPUWARD_TAP_SHARE": "0.1"}, service, host)]
        for service in ("chat", "embed")
    ]

    assert chosen[0] != chosen[1]
