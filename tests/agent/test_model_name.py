"""Of the word that names a model, what may be shown."""

from __future__ import annotations

import pytest

from gpuward.agent.model_name import model_name

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        pytest.param("llama", "llama", id="a name"),
        pytest.param("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B", id="organisation"),
        pytest.param("gpt-oss:20b", "gpt-oss:20b", id="tag"),
        pytest.param("/models/secret/llama", "llama", id="path"),
        pytest.param("/models/secret/llama//", "llama", id="path of a folder"),
        pytest.param("./secret/llama", "llama", id="path from here"),
        pytest.param("../llama", "llama", id="path from above"),
        pytest.param("secret/models/llama", "llama", id="three parts are a path"),
        pytest.param(
            f"/secret/hub/models--org--llama-3.1/snapshots/{COMMIT}",
            "org/llama-3.1",
            id="Hugging Face's cache",
        ),
        pytest.param("s3://bucket/llama", "", id="address"),
        pytest.param("https://me:secret@host/llama", "", id="address with a password"),
        pytest.param("--api-key", "", id="a flag"),
        pytest.param("a b", "", id="a sentence"),
        pytest.param("/", "", id="root"),
        pytest.param("", "", id="nothing"),
        pytest.param("x" * 129, "x" * 128, id="long"),
    ],
)
def test_model_name(word, name):
    """A public name is kept, of a path the last part, of an address nothing."""
    assert name == model_name(word)
