"""Draft the post-incident review: blameless, and every sentence shown by the timeline."""

from gpuward.coordinator.review.draft import draft
from gpuward.coordinator.review.markdown import markdown
from gpuward.coordinator.review.model import NotDue, Review

__all__ = ["NotDue", "Review", "draft", "markdown"]
