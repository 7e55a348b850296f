"""Keep memory maps with incidents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "memory_map",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(length=26), nullable=False),
        sa.Column("process_id", sa.String(length=32), nullable=False),
        sa.Column("node", sa.String(length=256), nullable=False),
        sa.Column("gpu_uuid", sa.String(length=256), nullable=False),
        sa.Column("process_key", sa.String(length=256), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("on_request", sa.Boolean(), nullable=False),
        sa.Column("due_at_s", sa.Double(), nullable=True),
        sa.Column("lease_until_s", sa.Double(), nullable=True),
        sa.Column("asked_at_s", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("refusal", sa.String(length=512), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name="fk_memory_map_incident_id"),
        sa.PrimaryKeyConstraint("id", name="pk_memory_map"),
        sa.UniqueConstraint(
            "incident_id",
            "process_id",
            "on_request",
            name="uq_memory_map_incident_id_process_id_on_request",
        ),
    )
    op.create_index("ix_memory_map_due_at_s", "memory_map", ["due_at_s"])
    op.create_index("ix_memory_map_process_id", "memory_map", ["process_id"])


def downgrade() -> None:
    """Drop it with all maps."""
    op.drop_table("memory_map")
