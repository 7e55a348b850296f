"""Why a replica is slow: evidence, hypotheses, and a verdict with what speaks for and against it.

The runbook "Inference latency spike" asks five questions in order; ``evidence`` answers them from
one window, ``hypotheses`` says what each answer means, ``verdict`` weighs.  All three are tables to
be read and argued with, and everything is pure: the same window gives the same verdict.

Latency alone names no cause: in an experiment with serving metrics only, scoring them told a slow
GPU from a noisy neighbour in 4 of 24 cases, and was sure of it.  So physical evidence is a gate:
without a word from the allocator nothing is called fragmented, and nobody is told to restart it.
"""

# Evidence asks detectors, and one detector asks for the verdict: whoever comes here first must have
# loaded them.
import gpuward.agent.detectors  # noqa: F401
