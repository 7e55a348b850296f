"""Make incident ids: ULIDs, which sort by time and need no counter shared between replicas.

Format: github.com/ulid/spec, 48 bits of milliseconds and 80 of randomness in Crockford's base 32.
"""

from __future__ import annotations

import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26


def new_ulid(now_s: float) -> str:
    """Return a new id for an instant; two of one millisecond differ, in no certain order."""
    value = (int(now_s * 1000) << 80) | secrets.randbits(80)
    return "".join(ALPHABET[(value >> (5 * place)) & 31] for place in reversed(range(LENGTH)))
