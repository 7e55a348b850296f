"""Tables of the coordinator; ``migrations/`` makes them, a test compares the two.

Times are wall-clock seconds as float and always come from the caller, never from the database's own
clock.  ``body`` columns hold msgspec JSON of a value of ``model`` or ``events``; the columns beside
it exist because a query needs them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

incident = Table(
    "incident",
    metadata,
    Column("id", String(26), primary_key=True),
    # The group key while the incident is open, NULL once resolved: one open incident per group,
    # over all replicas.
    Column("open_group_key", String(512), unique=True),
    Column("state", String(16), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("opened_at_s", Double, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "opened_at_s"),
)

incident_event = Table(
    "incident_event",
    metadata,
    Column("incident_id", ForeignKey("incident.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at_s", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# One row per raise of a finding.
finding = Table(
    "finding",
    metadata,
    Column("finding_id", String(400), primary_key=True),
    Column("node", String(256), nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # What of an open finding changes with each report; NULL: as the body says.
    Column("last_seen_s", Double),
    Column("times_seen", BigInteger),
    Index(None, "is_open", "node"),
)

# A node and its newest session: older sessions of the same node may not write any more.
node = Table(
    "node",
    metadata,
    Column("name", String(256), primary_key=True),
    Column("session", Integer, nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("agent_instance", String(128), nullable=False),
    Column("agent_version", String(64), nullable=False),
    Column("query_address", String(512), nullable=False),
    Column("report_seq", BigInteger, nullable=False),
    Column("last_seen_s", Double, nullable=False),
    # A planned stop: not overdue before then; NULL for none.
    Column("drain_until_s", Double),
)

# One-shot events that were taken in: a spool that sends one again changes nothing.
spooled_event = Table(
    "spooled_event",
    metadata,
    Column("node", String(256), primary_key=True),
    Column("finding_id", String(400), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("received_at_s", Double, nullable=False),
)

# Counters of service instances over the impact window and a little more.
service_sample = Table(
    "service_sample",
    metadata,
    Column("service", String(256), primary_key=True),
    Column("instance", String(256), primary_key=True),
    Column("observed_at_s", Double, primary_key=True),
    Column("received_at_s", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "received_at_s"),
)

# What the judgement of a service remembers.
service_watch = Table(
    "service_watch",
    metadata,
    Column("service", String(256), primary_key=True),
    # Since when it has been better than its incident says: what a downgrade waits for.
    Column("better_since_s", Double),
    # Requests before then are settled: a person has resolved that incident.
    Column("counted_from_s", Double),
)

escalation_step = Table(
    "escalation_step",
    metadata,
    Column("incident_id", ForeignKey("incident.id"), primary_key=True),
    Column("level", String(32), primary_key=True),
    Column("until", String(16), nullable=False),
    Column("due_at_s", Double, nullable=False),
    Column("fired_at_s", Double),
    Column("cancelled_at_s", Double),
    Index(None, "fired_at_s", "due_at_s"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident_id", ForeignKey("incident.id"), nullable=False),
    Column("level", String(32), nullable=False),
    Column("target", String(128), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("dedup_key", String(64), nullable=False),
    Column("until", String(16), nullable=False),
    Column("created_at_s", Double, nullable=False),
    # Not to be tried before then.
    Column("due_at_s", Double, nullable=False),
    # Some replica is sending it until then.
    Column("lease_until_s", Double),
    Column("attempts", Integer, nullable=False),
    Column("sent_at_s", Double),
    Column("abandoned_at_s", Double),
    Column("last_error", String(512), nullable=False),
    UniqueConstraint("incident_id", "level", "target", "channel"),
    Index(None, "sent_at_s", "abandoned_at_s", "due_at_s"),
)

# What providers hold of pages, until they are told that it is resolved; see ``alerts``.
alert = Table(
    "alert",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("page_id", ForeignKey("outbox.id"), nullable=False),
    Column("incident_id", ForeignKey("incident.id"), nullable=False),
    Column("channel", String(64), nullable=False),
    Column("dedup_key", String(64), nullable=False),
    Column("reference", String(256), nullable=False),
    Column("told", String(16), nullable=False),
    Column("told_version", Integer, nullable=False),
    Column("seen", String(16), nullable=False),
    # Not to be told, or looked at, before then: some replica does, or it has just failed.
    Column("tell_at_s", Double, nullable=False),
    # NULL: the channel cannot be read back.
    Column("look_at_s", Double),
    Column("attempts", Integer, nullable=False),
    UniqueConstraint("channel", "dedup_key", "reference"),
    Index(None, "incident_id"),
    Index(None, "look_at_s"),
)

# Memory maps that were asked for; see ``map_request``.
memory_map = Table(
    "memory_map",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident_id", ForeignKey("incident.id"), nullable=False),
    # What node, gpu_uuid, process_key and pid say, in a fixed length.
    Column("process_id", String(32), nullable=False),
    Column("node", String(256), nullable=False),
    Column("gpu_uuid", String(256), nullable=False),
    Column("process_key", String(256), nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("on_request", Boolean, nullable=False),
    # Not to be asked before then; NULL: nobody waits.
    Column("due_at_s", Double),
    # Some replica is asking until then.
    Column("lease_until_s", Double),
    Column("asked_at_s", Double),
    Column("attempts", Integer, nullable=False),
    Column("refusal", String(512), nullable=False),
    # The newest map, packed.
    Column("body", LargeBinary),
    UniqueConstraint("incident_id", "process_id", "on_request"),
    Index(None, "due_at_s"),
    Index(None, "process_id"),
)

# What people said about how loud a kind is; rows are only added, the newest of a kind counts.
kind_override = Table(
    "kind_override",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(256), nullable=False),
    Column("verb", String(16), nullable=False),
    # NULL: as agents say.
    Column("told", String(16)),
    Column("by", String(100), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("at_s", Double, nullable=False),
    Index(None, "kind"),
)

# One row, written to see whether the database can be written; see ``readiness``.
heartbeat = Table(
    "heartbeat",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at_s", Double, nullable=False),
)
