"""The tap: shows the allocator of this inference process to the agent on its node."""
