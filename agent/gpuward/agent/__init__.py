"""The agent: watches one GPU node."""
