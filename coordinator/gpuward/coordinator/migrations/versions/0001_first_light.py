"""Make the first tables: incidents, timers, pages, and what agents report."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Parents after children, so that they can be dropped in this order.
TABLES = (
    "outbox",
    "escalation_step",
    "incident_event",
    "incident",
    "finding",
    "node",
    "spooled_event",
    "service_sample",
    "service_watch",
)


def upgrade() -> None:
    """Make the tables."""
    _incidents()
    _timers_and_pages()
    _reports()
    _services()


def downgrade() -> None:
    """Drop them with all they hold."""
    for name in TABLES:
        op.drop_table(name)


def _incidents() -> None:
    op.create_table(
        "incident",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("open_group_key", sa.String(length=512), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("opened_at_s", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incident"),
        sa.UniqueConstraint("open_group_key", name="uq_incident_open_group_key"),
    )
    op.create_index("ix_incident_opened_at_s", "incident", ["opened_at_s"])
    op.create_table(
        "incident_event",
        sa.Column("incident_id", sa.String(length=26), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at_s", sa.Double(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incident.id"], name="fk_incident_event_incident_id"
        ),
        sa.PrimaryKeyConstraint("incident_id", "seq", name="pk_incident_event"),
    )


def _timers_and_pages() -> None:
    op.create_table(
        "escalation_step",
        sa.Column("incident_id", sa.String(length=26), nullable=False),
        sa.Column("level", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=16), nullable=False),
        sa.Column("due_at_s", sa.Double(), nullable=False),
        sa.Column("fired_at_s", sa.Double(), nullable=True),
        sa.Column("cancelled_at_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incident.id"], name="fk_escalation_step_incident_id"
        ),
        sa.PrimaryKeyConstraint("incident_id", "level", name="pk_escalation_step"),
    )
    op.create_index(
        "ix_escalation_step_fired_at_s_due_at_s", "escalation_step", ["fired_at_s", "due_at_s"]
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.String(length=26), nullable=False),
        sa.Column("level", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("dedup_key", sa.String(length=64), nullable=False),
        sa.Column("until", sa.String(length=16), nullable=False),
        sa.Column("created_at_s", sa.Double(), nullable=False),
        sa.Column("due_at_s", sa.Double(), nullable=False),
        sa.Column("lease_until_s", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("sent_at_s", sa.Double(), nullable=True),
        sa.Column("abandoned_at_s", sa.Double(), nullable=True),
        sa.Column("last_error", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"], name="fk_outbox_incident_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint(
            "incident_id",
            "level",
            "target",
            "channel",
            name="uq_outbox_incident_id_level_target_channel",
        ),
    )
    op.create_index(
        "ix_outbox_sent_at_s_abandoned_at_s_due_at_s",
        "outbox",
        ["sent_at_s", "abandoned_at_s", "due_at_s"],
    )


def _reports() -> None:
    op.create_table(
        "finding",
        sa.Column("finding_id", sa.String(length=400), nullable=False),
        sa.Column("node", sa.String(length=256), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("finding_id", name="pk_finding"),
    )
    op.create_index("ix_finding_is_open_node", "finding", ["is_open", "node"])
    op.create_table(
        "node",
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("boot_id", sa.String(length=64), nullable=False),
        sa.Column("agent_instance", sa.String(length=128), nullable=False),
        sa.Column("agent_version", sa.String(length=64), nullable=False),
        sa.Column("query_address", sa.String(length=512), nullable=False),
        sa.Column("report_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_s", sa.Double(), nullable=False),
        sa.Column("drain_until_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_node"),
    )
    op.create_index("ix_node_last_seen_s", "node", ["last_seen_s"])
    op.create_table(
        "spooled_event",
        sa.Column("node", sa.String(length=256), nullable=False),
        sa.Column("finding_id", sa.String(length=400), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("received_at_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("node", "finding_id", name="pk_spooled_event"),
    )


def _services() -> None:
    op.create_table(
        "service_sample",
        sa.Column("service", sa.String(length=256), nullable=False),
        sa.Column("instance", sa.String(length=256), nullable=False),
        sa.Column("observed_at_s", sa.Double(), nullable=False),
        sa.Column("received_at_s", sa.Double(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("service", "instance", "observed_at_s", name="pk_service_sample"),
    )
    op.create_index("ix_service_sample_received_at_s", "service_sample", ["received_at_s"])
    op.create_table(
        "service_watch",
        sa.Column("service", sa.String(length=256), nullable=False),
        sa.Column("better_since_s", sa.Double(), nullable=True),
        sa.Column("counted_from_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("service", name="pk_service_watch"),
    )
