"""Judgements over windows of samples, one per file, pure."""
