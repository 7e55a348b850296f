"""Sources of samples, one per file."""
