"""Remember what providers hold of pages: to tell them what becomes of it, and to read it back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table; what was sent before it was there is not followed."""
    op.create_table(
        "alert",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("page_id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(26), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("dedup_key", sa.String(64), nullable=False),
        sa.Column("reference", sa.String(256), nullable=False),
        sa.Column("told", sa.String(16), nullable=False),
        sa.Column("told_version", sa.Integer(), nullable=False),
        sa.Column("seen", sa.String(16), nullable=False),
        sa.Column("tell_at_s", sa.Double(), nullable=False),
        sa.Column("look_at_s", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert"),
        sa.ForeignKeyConstraint(["page_id"], ["outbox.id"], name="fk_alert_page_id"),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name="fk_alert_incident_id"),
        sa.UniqueConstraint(
            "channel", "dedup_key", "reference", name="uq_alert_channel_dedup_key_reference"
        ),
    )
    op.create_index("ix_alert_incident_id", "alert", ["incident_id"])
    op.create_index("ix_alert_look_at_s", "alert", ["look_at_s"])


def downgrade() -> None:
    """Drop it: providers are paged, and told nothing more."""
    op.drop_index("ix_alert_look_at_s", "alert")
    op.drop_index("ix_alert_incident_id", "alert")
    op.drop_table("alert")
