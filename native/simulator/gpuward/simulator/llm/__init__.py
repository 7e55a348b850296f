"""A server of large language models, in virtual time: what an agent sees of it, true to scale."""
