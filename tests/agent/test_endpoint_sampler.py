"""Own requests over loopback: what each meets, when the next one comes, and that none pile up."""

from __future__ import annotations

import asyncio
import random
import ssl
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from gpuward.agent.model import Result
from gpuward.agent.samplers import endpoint_http
from gpuward.agent.samplers.endpoint import EndpointSampler
from gpuward.agent.samplers.endpoint_canary import Canaries
from gpuward.agent.samplers.endpoint_config import EndpointConfig
from gpuward.agent.service_totals import ServiceTotals
from gpuward.daemon.config import ConfigError, parse

SECRET = "sk-do-not-tell"


class Steady:
    """Jitter that is none."""

    def uniform(self, low, high):
        return 0.0


class Node:
    """A sampler that is asked each second of the test's clock."""

    def __init__(self, sampler, clock, loopback):
        self.sampler = sampler
        self.clock = clock
        self.loopback = loopback
        self.samples = []
        self.services = []
        self.is_maintained = False
        self.may_load = True

    async def turn(self, seconds=1):
        for _ in range(seconds):
            batch = await self.sampler.sample(self.clock.mono_s())
            self.samples += batch.samples
            await self.loopback()
            await self.clock.advance(1.0)

    def values(self, signal):
        return [sample.value for sample in self.samples if sample.key.signal == signal]

    def times(self, signal):
        return [sample.at_s - 1_000.0 for sample in self.samples if sample.key.signal == signal]


@pytest.fixture
async def watch(clock, loopback, tmp_path):
    """Watch one endpoint, or several; returns the node."""
    async with AsyncExitStack() as parts:

        async def start(*endpoints, jitter=None):
            node = Node(None, clock, loopback)
            node.sampler = EndpointSampler(
                endpoints,
                clock,
                services=lambda: node.services,
                is_maintained=lambda: node.is_maintained,
                may_load=lambda _: node.may_load,
                jitter=jitter or Steady(),
                canaries=Canaries(tmp_path / "canary.json"),
            )
            await parts.enter_async_context(node.sampler)
            return node

        yield start


def at(llm, **changes):
    return EndpointConfig(**{"service": "chat", "url": llm.url, **changes})


async def test_a_good_answer(llm, watch):
    node = await watch(at(llm, model="m"))
    await node.turn(2)

    assert node.values("endpoint_up") == [1.0]
    assert node.values("endpoint_status") == [200.0]
    assert node.values("endpoint_probes_total") == [1.0]
    assert node.values("endpoint_gateway") == [0.0]
    assert len(node.values("endpoint_first_token_seconds")) == 1
    ((head, body),) = llm.asked
    assert head.startswith("POST /v1/completions HTTP/1.1\r\n")
    assert (body["max_tokens"], body["model"]) == (1, "m")
    assert node.samples[-1].key.service == "chat"
    assert node.samples[-1].key.endpoint == llm.address


async def test_the_path_of_a_gateway_comes_first(llm, watch):
    node = await watch(at(llm, url=f"{llm.url}/llm/", role="gateway", kind="chat"))
    await node.turn(2)

    assert llm.asked[0][0].startswith("POST /llm/v1/chat/completions ")
    assert node.values("endpoint_gateway") == [1.0]


@pytest.mark.parametrize(
    ("mode", "up", "counter"),
    [
        pytest.param(500, [0.0], "endpoint_probes_failed_total", id="500"),
        pytest.param(503, [0.0], "endpoint_probes_failed_total", id="503"),
        pytest.param("drop", [0.0], "endpoint_probes_failed_total", id="hangs up"),
        pytest.param(401, [], "endpoint_probes_failed_total", id="401: the key may be wrong"),
        pytest.param(404, [], "endpoint_probes_failed_total", id="404: the model may be wrong"),
        pytest.param(429, [], None, id="429: we ask too much"),
    ],
)
async def test_a_bad_answer(llm, watch, mode, up, counter):
    llm.mode = mode
    node = await watch(at(llm))
    await node.turn(2)

    assert up == node.values("endpoint_up")
    for signal in ("endpoint_probes_failed_total", "endpoint_probes_timed_out_total"):
        assert node.values(signal) == [float(signal == counter)]
    assert node.sampler.health.result is (Result.OK if up else Result.UNKNOWN)


async def test_the_same_request_was_good_before(llm, watch):
    """So it is not the request that is wrong."""
    node = await watch(at(llm))
    await node.turn(2)
    llm.mode = 401
    await node.turn(15)

    assert node.values("endpoint_up") == [1.0, 0.0]
    assert node.sampler.health.result is Result.OK


async def test_an_answer_without_a_token_is_none(llm, watch):
    llm.body = b'{"choices": []}'
    node = await watch(at(llm))
    await node.turn(2)

    assert node.values("endpoint_up") == [0.0]


async def test_an_endless_answer_is_none(llm, watch):
    llm.body = b"data: {}\n\n" * 30_000
    node = await watch(at(llm))
    await node.turn(2)

    assert node.values("endpoint_up") == [0.0]


async def test_one_that_hangs_is_given_up_and_none_pile_up(llm, watch):
    """Ten minutes: the engine is left alone between, and never has two."""
    llm.mode = "hang"
    node = await watch(at(llm))
    await node.turn(600)

    assert llm.most_under_way == 1
    assert set(node.values("endpoint_up")) == {0.0}
    assert node.times("endpoint_up")[:3] == [10.0, 25.0, 40.0]
    assert node.values("endpoint_probes_timed_out_total")[-1] == len(llm.asked) - llm.under_way
    assert len(llm.asked) <= 42


async def test_pace(llm, watch):
    """A failure is looked at again at once, and then at the usual pace."""
    node = await watch(at(llm))
    await node.turn(17)
    llm.mode = 500
    await node.turn(44)

    assert node.values("endpoint_up") == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert node.times("endpoint_up") == [1.0, 16.0, 31.0, 37.0, 52.0]


async def test_requests_of_many_endpoints_do_not_keep_step(llm, watch):
    node = await watch(at(llm), jitter=random.Random(1))
    await node.turn(600)
    times = node.times("endpoint_up")
    gaps = [after - before for before, after in pairwise(times)]

    assert 12.0 <= min(gaps) < 14.0 < max(gaps) <= 19.0


async def test_sixteen_at_once_are_enough(llm, watch):
    """The others are asked as soon as there is room."""
    llm.mode = "hang"
    node = await watch(*(at(llm, service=f"s{number}") for number in range(20)))
    await node.turn(3)
    assert llm.most_under_way == 16
    await node.turn(10)

    assert {sample.key.service for sample in node.samples if sample.value == 0.0} > {"s19"}
    assert llm.most_under_way <= 20


async def test_nobody_listens(llm, watch):
    """An engine may be loading for a quarter of an hour; one that has answered is not."""
    await llm.listen_no_more()
    node = await watch(at(llm))
    await node.turn(900)
    assert node.values("endpoint_up") == []
    assert node.values("endpoint_probes_unreachable_total")[-1] > 50
    await node.turn(15)

    assert node.values("endpoint_up") == [0.0, 0.0]


@pytest.mark.parametrize(
    ("role", "may_load"),
    [
        pytest.param("replica", False, id="no process is there that could become it"),
        pytest.param("gateway", True, id="a gateway loads no model"),
    ],
)
async def test_nobody_listens_and_nobody_will(llm, watch, role, may_load):
    """Four minutes are enough to be restarted."""
    await llm.listen_no_more()
    node = await watch(at(llm, role=role))
    node.may_load = may_load
    await node.turn(240)
    assert node.values("endpoint_up") == []
    await node.turn(25)

    assert set(node.values("endpoint_up")) == {0.0}


async def test_it_listens_no_more(llm, watch):
    node = await watch(at(llm))
    await node.turn(2)
    await llm.listen_no_more()
    await node.turn(15)

    assert node.values("endpoint_up") == [1.0, 0.0]


def totals(llm, *, ready):
    return ServiceTotals("chat", llm.address, 1.0, 2.0, 0, 0, 0, 0, 0, ready, 0, 0)


async def test_an_engine_that_starts_is_left_alone(llm, watch):
    node = await watch(at(llm), at(llm, service="gateway", role="gateway"))
    node.services = [totals(llm, ready=False)]
    await node.turn(60)
    assert {head.split()[1] for head, _ in llm.asked} == {"/v1/completions"}
    assert {s.key.service for s in node.samples if s.key.signal == "endpoint_up"} == {"gateway"}

    node.services = [totals(llm, ready=True)]
    await node.turn(2)
    assert {s.key.service for s in node.samples if s.key.signal == "endpoint_up"} > {"chat"}


async def test_an_engine_that_has_answered_does_not_start(llm, watch):
    """One that has died says that it is not ready, too."""
    node = await watch(at(llm))
    await node.turn(2)
    node.services, llm.mode = [totals(llm, ready=False)], 500
    await node.turn(30)

    assert node.values("endpoint_up") == [1.0, 0.0, 0.0]


async def test_maintenance(llm, watch):
    node = await watch(at(llm))
    node.is_maintained = True
    await node.turn(60)

    assert llm.asked == []
    assert node.values("endpoint_gateway"), "it is watched all the same, and unknown"


@pytest.mark.parametrize("place", ["api_key_file", "api_key_env"])
async def test_the_key_is_sent_and_told_nobody(llm, watch, tmp_path, monkeypatch, place):
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    monkeypatch.setenv("GPUWARD_TEST_KEY", SECRET)
    value = str(path) if place == "api_key_file" else "GPUWARD_TEST_KEY"
    llm.mode = 401
    with capture_logs() as logs:
        node = await watch(at(llm, **{place: value}))
        await node.turn(2)

    assert f"\r\nAuthorization: Bearer {SECRET}\r\n" in llm.asked[0][0]
    assert SECRET not in f"{logs} {node.samples} {node.sampler.health}"
    assert SECRET not in repr(vars(node.sampler))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="empty"),
        pytest.param(b"sk-do\nX-Admin: 1\n", id="two lines would be two headers"),
        pytest.param(b"sk-\xff", id="not ASCII"),
    ],
)
async def test_no_key_can_be_had(llm, watch, tmp_path, content):
    """Nothing is sent, and nothing of what is there is repeated."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with capture_logs() as logs:
        node = await watch(at(llm, api_key_file=str(path)))
        await node.turn(2)

    assert llm.asked == []
    assert node.values("endpoint_up") == []
    assert node.values("endpoint_probes_total") == [0.0]
    assert node.sampler.health.result is Result.UNKNOWN
    assert str(path) in node.sampler.health.reason
    assert "sk-" not in f"{logs} {node.sampler.health}"


async def test_the_key_is_gone(llm, watch, tmp_path):
    """Then the endpoint is unknown, and why is told, though it answered before."""
    path = tmp_path / "key"
    path.write_text(SECRET)
    node = await watch(at(llm, api_key_file=str(path)))
    await node.turn(2)
    path.unlink()
    await node.turn(15)

    assert node.values("endpoint_up") == [1.0]
    assert "No such file" in node.sampler.health.reason


async def test_state_is_logged_when_it_changes(llm, watch):
    with capture_logs() as logs:
        node = await watch(at(llm))
        await node.turn(32)
        llm.mode = 500
        await node.turn(32)

    assert ["endpoint.answered", "endpoint.not_answered"] == [entry["event"] for entry in logs]
    assert logs[1]["reason"] == "status 500"


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_https(certificate, clock, watch, monkeypatch, is_trusted):
    """Who is not who they say gets no key."""
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    endpoint_http._trust.cache_clear()
    asked = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        body = b'{"choices": [{"text": "52"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        node = await watch(
            EndpointConfig(service="chat", url=f"https://localhost:{port}", role="gateway")
        )
        await node.turn()
        async with asyncio.timeout(200):
            while not node.values("endpoint_probes_total"):
                await asyncio.sleep(0.01)
                await node.turn()
    endpoint_http._trust.cache_clear()

    assert len(asked) == int(is_trusted)
    assert node.values("endpoint_up") == ([1.0] if is_trusted else [])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param('url = "http://a"', "required", id="no service"),
        pytest.param('service = ""\nurl = "http://a"', "service is empty", id="empty service"),
        pytest.param('service = "s"\nurl = "ftp://a"', "url is not", id="another scheme"),
        pytest.param('service = "s"\nurl = "http://a:x"', "url is not", id="port is a word"),
        pytest.param('service = "s"\nurl = "http://u:p@a"', "api_key_file", id="a password"),
        pytest.param('service = "s"\nurl = "http://a/?k=v"', "more than", id="a query"),
        pytest.param('service = "s"\nurl = "http://a/x y"', "more than", id="a blank"),
        pytest.param('service = "s"\nurl = "http://a"\ninterval_s = 4.9', "5 to 60", id="often"),
        pytest.param('service = "s"\nurl = "http://a"\ninterval_s = 61', "5 to 60", id="seldom"),
        pytest.param('service = "s"\nurl = "http://a"\ntimeout_s = 0', "above 0", id="no time"),
        pytest.param('service = "s"\nurl = "http://a"\ntimeout_s = 31', "at most 30", id="long"),
        pytest.param('service = "s"\nurl = "http://a"\nkind = "triton"', "model", id="triton"),
        pytest.param(
            'service = "s"\nurl = "http://a"\ncanary_interval_s = 5', "interval_s", id="canaries"
        ),
        pytest.param(
            'service = "s"\nurl = "http://a"\nrole = "gateway"\ncanary_interval_s = 60',
            "not of one replica",
            id="a gateway's canary",
        ),
        pytest.param(
            'service = "s"\nurl = "http://a"\napi_key_file = "/k"\napi_key_env = "K"',
            "only one",
            id="two keys",
        ),
        pytest.param(
            'service = "s"\nurl = "http://a"\napi_key_file = "k"', "absolute", id="relative"
        ),
    ],
)
def test_config_that_cannot_be_used(settings, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        parse(settings, EndpointConfig, name="agent.toml")

    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("seconds", ["5", "60"])
def test_config_at_its_limits(seconds):
    text = f'service = "s"\nurl = "https://a/v"\ninterval_s = {seconds}\ntimeout_s = 30'

    assert parse(text, EndpointConfig, name="agent.toml").instance == "a"


async def test_canary(llm, watch):
    """Sixteen tokens a minute, beside requests of one; a garbled answer is seen in them alone."""
    llm.text = " ".join(str(number) for number in range(16))
    node = await watch(at(llm, canary_interval_s=60.0))
    await node.turn(60 * 30)
    assert set(node.values("endpoint_canary_agreement_ratio")) == {1.0}
    tokens = [body["max_tokens"] for _, body in llm.asked]
    assert 25 <= tokens.count(16) <= 31 < tokens.count(1)
    llm.text = "what is this"
    await node.turn(60 * 9)

    assert node.values("endpoint_up")[-1] == 1.0
    assert node.values("endpoint_canary_agreement_ratio")[-1] == 0.0
    assert node.values("endpoint_canary_evidence_ratio")[-1] >= 1.0


async def test_a_canary_whose_build_is_not_told_is_not_compared(llm, watch):
    """It might be another model; the request counts all the same."""
    llm.get_status = 503
    node = await watch(at(llm, canary_interval_s=60.0))
    await node.turn(60 * 8)

    assert set(node.values("endpoint_up")) == {1.0}
    assert node.values("endpoint_canary_agreement_ratio") == []
