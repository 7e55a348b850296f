"""What the simulated model says: always the same to the same prompt, as greedy decoding does."""

from __future__ import annotations

from hashlib import blake2b

VOCABULARY = tuple(str(number) for number in range(10, 100))
# Of English text; close enough for the length of a prompt.
CHARACTERS_PER_TOKEN = 4


def token(model: str, prompt: str, place: int) -> str:
    """Return the text of the token at ``place`` of the answer, from 0."""
    digest = blake2b(f"{model}\n{prompt}\n{place}".encode(), digest_size=4).digest()
    return f" {VOCABULARY[int.from_bytes(digest) % len(VOCABULARY)]}"


def length_of(prompt: str) -> int:
    """Return how many tokens ``prompt`` has, at least 1."""
    return max(1, len(prompt) // CHARACTERS_PER_TOKEN)
