"""Requests of few tokens, and what answers say, by each API's own shapes."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.samplers.endpoint_request import AnswerError, ask_build, has_token, read, write


@pytest.mark.parametrize(
    ("kind", "path", "tokens"),
    [
        pytest.param("completions", "/v1/completions", "max_tokens", id="OpenAI"),
        pytest.param("chat", "/v1/chat/completions", "max_tokens", id="OpenAI, chat"),
        pytest.param("triton", "/v2/models/a%2Fb/generate_stream", "max_tokens", id="Triton"),
    ],
)
def test_request(kind, path, tokens):
    written = write(kind, "a/b", 1)
    body = json.loads(written.body)

    assert path == written.path
    assert body[tokens] == 1
    assert body["temperature"] == 0
    assert body["stream"]


def test_request_of_sglang():
    written = write("sglang", "", 16)

    assert written.path == "/generate"
    sampling = json.loads(written.body)["sampling_params"]
    assert sampling == {"max_new_tokens": 16, "temperature": 0}


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param("completions", "/version", id="vLLM"),
        pytest.param("chat", "/version", id="vLLM, chat"),
        pytest.param("sglang", "/get_model_info", id="SGLang"),
        pytest.param("triton", "/v2/models/a%2Fb", id="Triton"),
    ],
)
def test_what_tells_the_build(kind, path):
    asked = ask_build(kind, "a/b")

    assert (asked.path, asked.body) == (path, b"")


def test_no_model_is_named_where_none_is_configured():
    assert "model" not in json.loads(write("completions", "", 1).body)
    assert json.loads(write("chat", "m", 1).body)["model"] == "m"


def events(*parts):
    return "".join(f"data: {json.dumps(part)}\n\n" for part in parts).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(
            events({"choices": [{"text": "52 9"}]}, {"choices": [{"text": "4"}]}), "52 94"
        ),
        pytest.param(
            events(
                {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
                {"choices": [{"delta": {"content": "52"}}]},
                {"choices": [], "usage": {"total_tokens": 3}},
            ),
            "52",
            id="chat: a part with the role, one with the usage",
        ),
        pytest.param(
            events({"text": "52", "meta_info": {}}, {"text": "52 94", "meta_info": {}}),
            "52 94",
            id="SGLang repeats itself",
        ),
        pytest.param(events({"text_output": "52 "}, {"text_output": "94"}), "52 94", id="Triton"),
        pytest.param(
            b'{"choices": [{"message": {"content": "52 94"}}]}', "52 94", id="in one piece"
        ),
        pytest.param(events({"choices": [{"text": ""}]}), "", id="a token without a text"),
        pytest.param(
            b': ping\r\n\r\ndata:{"choices":[{"text":"52"}]}\r\n\r\n', "52", id="comments"
        ),
    ],
)
def test_answer(body, words):
    assert tuple(words.split()) == read(body).words


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"data: [DONE]\n\n", id="no token"),
        pytest.param(b"<html>", id="a page"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b"[1]", id="another shape"),
        pytest.param(b'{"choices": []}', id="no choice"),
        pytest.param(b'{"choices": 7}', id="choices are none"),
        pytest.param(events({"error": {"message": "secret"}}), id="an error in the stream"),
        pytest.param(events({"choices": [{"text": "5"}]}, {"error": "x"}), id="an error later"),
        pytest.param(b'{"object": "error", "message": "m"}', id="no choices at all"),
    ],
)
def test_no_answer(body):
    """What an error says may quote somebody's request, so it is not repeated."""
    with pytest.raises(AnswerError) as refused:
        read(body)

    assert "secret" not in str(refused.value)


def test_model_and_build():
    body = events({"model": "m", "system_fingerprint": "fp-1", "choices": [{"text": "5"}]})

    assert read(body).model == "m fp-1"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(b'data: {"choices":[{"delta":{"content":""}}]}', False, id="the role alone"),
        pytest.param(b'data: {"choices":[{"delta":{"content": "5"}}]}', True, id="chat"),
        pytest.param(b'{"text":"5"}', True, id="completions"),
        pytest.param(b'{"text_output" : "5"}', True, id="Triton"),
        pytest.param(b'{"text": null}', False, id="none"),
    ],
)
def test_first_token(part, expected):
    assert expected == has_token(part)


@given(st.binary(max_size=300) | st.from_regex(rb'data: \{"[a-z]{4}": .{0,40}\}', fullmatch=True))
def test_any_bytes_are_an_answer_or_an_error(body):
    with suppress(AnswerError):
        assert isinstance(read(body).words, tuple)
