"""What a GPU with a model on it costs in time, and how much it holds: four figures a platform.

A step of an engine takes ``a + b * tokens + c * sequences + d * context``: the launch of its
kernels, the arithmetic of the tokens that it works on, what each sequence costs beside, and the
KV cache that attention reads.  The figures of RTX 4090 and RTX PRO 6000 are fitted to real runs of
vLLM 0.19 (LLMServingSim, bench/examples; tests/simulator/test_llm_calibration.py holds them to
it); those of the H100 are worked out of its data sheet and of published latencies.
"""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class StepLaw:
    """Seconds of a step: in all, a token worked on, a sequence, and a token of context read."""

    fixed_s: float
    token_s: float
    sequence_s: float
    context_s: float

    def seconds(self, tokens: int, sequences: int, context: int) -> float:
        return (
            self.fixed_s
            + self.token_s * tokens
            + self.sequence_s * sequences
            + self.context_s * context
        )


@dataclass(frozen=True, slots=True)
class Platform:
    """An engine's limits, as its command line and the size of its GPU set them."""

    model: str
    law: StepLaw
    kv_blocks: int
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2_048
    max_model_len: int = 32_768
    # From the start of its process until it answers.
    load_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_num_batched_tokens <= self.max_num_seqs:
            raise ValueError("a step must hold a token of every sequence, and more")
        if self.kv_blocks * BLOCK_TOKENS < self.max_model_len:
            raise ValueError(f"{self.model}: the KV cache cannot hold max_model_len tokens")


PLATFORMS = {
    "rtx4090-llama-8b": Platform(
        "meta-llama/Llama-3.1-8B",
        StepLaw(fixed_s=0.01802, token_s=6.05e-5, sequence_s=1.46e-5, context_s=1.26e-7),
        kv_blocks=2_588,
        max_num_seqs=256,
    ),
    "rtxpro6000-llama-8b": Platform(
        "meta-llama/Llama-3.1-8B",
        StepLaw(fixed_s=0.01194, token_s=3.88e-5, sequence_s=4.04e-5, context_s=4.87e-8),
        kv_blocks=33_000,
    ),
    # On two of them; the fit gives a sequence no cost of its own.
    "rtxpro6000x2-qwen3-32b": Platform(
        "Qwen/Qwen3-32B",
        StepLaw(fixed_s=0.02461, token_s=1.506e-4, sequence_s=0.0, context_s=1.41e-7),
        kv_blocks=24_000,
    ),
    "h100-llama-8b": Platform(
        "meta-llama/Llama-3.1-8B-Instruct",
        StepLaw(fixed_s=0.0075, token_s=2.3e-5, sequence_s=1.5e-5, context_s=4.5e-8),
        kv_blocks=27_000,
        max_num_seqs=256,
        max_num_batched_tokens=8_192,
    ),
    # The same card under a model that is four times as large.
    "h100-qwen-32b": Platform(
        "Qwen/Qwen3-32B",
        StepLaw(fixed_s=0.0260, token_s=9.0e-5, sequence_s=2.0e-5, context_s=9.0e-8),
        kv_blocks=5_000,
        max_num_seqs=256,
        max_num_batched_tokens=8_192,
    ),
}
