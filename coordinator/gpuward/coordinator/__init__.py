"""The centre: incidents, on-call, pages, reviews."""
