"""Keep apart from a finding when it was last seen and how often, which each report changes.

Nobody asks for nodes by when they were heard: that index was written with each report for nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; a finding that is in the database is as its body says."""
    op.add_column("finding", sa.Column("last_seen_s", sa.Double(), nullable=True))
    op.add_column("finding", sa.Column("times_seen", sa.BigInteger(), nullable=True))
    op.drop_index("ix_node_last_seen_s", "node")


def downgrade() -> None:
    """Drop them: findings are as old as their bodies."""
    op.create_index("ix_node_last_seen_s", "node", ["last_seen_s"])
    op.drop_column("finding", "times_seen")
    op.drop_column("finding", "last_seen_s")
