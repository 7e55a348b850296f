"""What a client asks for in its headers, and what it is given."""

import pytest

from gpuward.agent.negotiation import prefers_openmetrics, takes_gzip

# What Prometheus 2.42 and 3.5 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(PROMETHEUS_2, True, id="Prometheus 2"),
        pytest.param(PROMETHEUS_3, True, id="Prometheus 3"),
        pytest.param("", False, id="nothing asked for"),
        pytest.param("*/*", False, id="curl"),
        pytest.param("text/html,*/*;q=0.8", False, id="a browser"),
        pytest.param("application/openmetrics-text", True, id="any version"),
        pytest.param("application/openmetrics-text; version=0.0.1", False, id="another version"),
        pytest.param("application/openmetrics-text;q=0", False, id="refused"),
        pytest.param("application/openmetrics-text;q=0.4,text/plain;q=0.5", False, id="text first"),
        pytest.param("application/openmetrics-text;q=0.5,text/plain;q=0.5", True, id="as much"),
        pytest.param('Application/OpenMetrics-Text;version="1.0.0"', True, id="case and quotes"),
        pytest.param("application/openmetrics-text;q=nan", False, id="a weight that is none"),
        pytest.param(",;=,;q=", False, id="rubbish"),
    ],
)
def test_format(accept, expected):
    assert expected == prefers_openmetrics(accept)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        pytest.param("gzip", True, id="Prometheus"),
        pytest.param("br;q=1.0, gzip;q=0.8, *;q=0.1", True, id="a list"),
        pytest.param("*", True, id="anything"),
        pytest.param("identity", False, id="as it is"),
        pytest.param("", False, id="nothing said"),
        pytest.param("gzip;q=0, *", False, id="anything but gzip"),
    ],
)
def test_compression(accept_encoding, expected):
    assert expected == takes_gzip(accept_encoding)
