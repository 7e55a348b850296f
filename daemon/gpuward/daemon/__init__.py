"""What agent and coordinator need to be good Unix services."""
