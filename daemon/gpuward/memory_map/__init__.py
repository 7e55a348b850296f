"""Maps of the GPU memory of a process: what they mean, how they travel, how they are drawn.

Shared by the agent, which asks processes for them, and the coordinator, which shows them with an
incident; there is one renderer.
"""
