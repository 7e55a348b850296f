"""Active measurements, one per file."""
