"""Keep what people say about how loud kinds of findings are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "kind_override",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=256), nullable=False),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("told", sa.String(length=16), nullable=True),
        sa.Column("by", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_kind_override"),
    )
    op.create_index("ix_kind_override_kind", "kind_override", ["kind"])


def downgrade() -> None:
    """Drop it: every kind is as loud as agents say."""
    op.drop_table("kind_override")
