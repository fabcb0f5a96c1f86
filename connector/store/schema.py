"""The tables. Alembic's migrations build them; a test proves that both agree, on both stores.

JSON is JSONB on PostgreSQL and text on SQLite. Times are stored in UTC and come back timezone-aware.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect

from connector.store import checks, defaults

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Utc(sa.types.TypeDecorator[datetime]):
    """A point in time: `timestamptz` on PostgreSQL, sortable text in UTC on SQLite. Naive times are refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a timezone can't be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


Json: sa.types.TypeEngine[Any] = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Serial: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer, "sqlite")

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("id", Serial, sa.Identity(), primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("received_at", Utc, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("kind", sa.Text),
    sa.UniqueConstraint("source", "source_id"),
)
sa.Index(
    "ix_inbox_new",
    inbox.c.id,
    sqlite_where=inbox.c.state == sa.literal_column("'new'"),
    postgresql_where=inbox.c.state == sa.literal_column("'new'"),
)
sa.Index(
    "ix_inbox_unread",
    inbox.c.id,
    sqlite_where=inbox.c.state == sa.literal_column("'unread'"),
    postgresql_where=inbox.c.state == sa.literal_column("'unread'"),
)

# Webhooks that were refused, one row for each reason: how many of them, and since when without a day of quiet.
refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("since", Utc, nullable=False),
    sa.Column("last_at", Utc, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, server_default=defaults.RANDOM),
    sa.Column("external_id", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("attributes", Json, nullable=False, server_default="{}"),
    sa.Column("known_by", sa.Text, nullable=False, server_default="own"),
    sa.Column("created_at", Utc),
    sa.Column("first_seen_at", Utc, nullable=False, server_default=defaults.NOW),
    sa.Column("updated_at", Utc, nullable=False, server_default=defaults.NOW),
    sa.Column("opted_out", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("opt_changed_at", Utc),
    sa.Column("opted_by", sa.Text, nullable=False, server_default="customerio"),
    sa.Column("customerio", Json, nullable=False, server_default="{}"),
    sa.Column("preferences", Json, nullable=False, server_default="{}"),
    sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("1")),
    # Whoever first came to us through the intake may be created at once until then; see `pending.release`.
    sa.Column("fresh_until", Utc),
    # Only who is a person of their own at Customer.io leaves a row behind when they turn out to be somebody else.
    sa.Column("merged_into", sa.Text),
    *checks.an_object("users", "attributes"),
    *checks.times("users", "created_at", "first_seen_at", "updated_at"),
)

sa.Index(
    "ix_users_merged_into",
    users.c.merged_into,
    sqlite_where=users.c.merged_into.is_not(None),
    postgresql_where=users.c.merged_into.is_not(None),
)

identifiers = sa.Table(
    "identifiers",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), nullable=False, index=True),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", Serial, sa.Identity(), primary_key=True),
    sa.Column("source", sa.Text, nullable=False, server_default="sql"),
    sa.Column("source_id", sa.Text, nullable=False, server_default=defaults.RANDOM),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id")),
    sa.Column("type", sa.Text, nullable=False, server_default="track"),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("properties", Json, nullable=False, server_default="{}"),
    sa.Column("context", Json, nullable=False, server_default="{}"),
    sa.Column("occurred_at", Utc, nullable=False, server_default=defaults.NOW),
    sa.Column("received_at", Utc, nullable=False, server_default=defaults.NOW),
    # Empty for what SQL wrote: whoever sends it derives it from the event, see core/ulid.
    sa.Column("activity_id", sa.Text),
    sa.Column("outbound", sa.Text, nullable=False, server_default="none"),
    sa.Column("reason", sa.Text),
    # Since when it is due. One that is due without it is asked for by SQL, and nobody has read it yet.
    sa.Column("due_at", Utc),
    # When it was sent, skipped or parked.
    sa.Column("settled_at", Utc),
    sa.UniqueConstraint("source", "source_id"),
    sa.Index("ix_events_user_id_occurred_at", "user_id", "occurred_at"),
    *checks.an_object("events", "properties"),
    *checks.an_object("events", "context"),
    *checks.times("events", "occurred_at", "received_at"),
)

# An index of PostgreSQL takes no entry of more than 2.7 KB, and nobody's event may be refused for its long name.
LONGEST_INDEXED_NAME = 500  # characters
EVENT_NAME_IS_INDEXED = sa.func.length(events.c.name) <= sa.literal_column(str(LONGEST_INDEXED_NAME))
sa.Index(
    "ix_events_name",
    events.c.user_id,
    events.c.name,
    events.c.occurred_at,
    sqlite_where=EVENT_NAME_IS_INDEXED,
    postgresql_where=EVENT_NAME_IS_INDEXED,
)

_DUE = events.c.outbound == sa.literal_column("'due'")
EVENT_IS_DUE = _DUE & events.c.due_at.is_not(None)
EVENT_IS_ASKED_FOR = _DUE & events.c.due_at.is_(None)
EVENT_IS_SENT = events.c.outbound == sa.literal_column("'sent'")
EVENT_IS_SKIPPED = events.c.outbound == sa.literal_column("'skipped'")
EVENT_IS_PARKED = events.c.outbound == sa.literal_column("'parked'")
_OF_EVENTS: tuple[tuple[str, tuple[sa.Column[Any], ...], sa.ColumnElement[bool]], ...] = (
    ("ix_events_due", (events.c.user_id, events.c.occurred_at, events.c.id), EVENT_IS_DUE),
    ("ix_events_asked", (events.c.id,), EVENT_IS_ASKED_FOR),
    ("ix_events_sent", (events.c.user_id, events.c.settled_at), EVENT_IS_SENT),
    ("ix_events_skipped", (events.c.reason,), EVENT_IS_SKIPPED),
    ("ix_events_parked", (events.c.id,), EVENT_IS_PARKED),
)
for _name, _columns, _condition in _OF_EVENTS:
    sa.Index(_name, *_columns, sqlite_where=_condition, postgresql_where=_condition)

# An identifier that was given for one user and is another's: two users who are both known are never made one by it.
conflicts = sa.Table(
    "conflicts",
    metadata,
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("first_at", Utc, nullable=False),
    sa.Column("last_at", Utc, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)

# How many rows of a file are stored by now, so that an import that was interrupted goes on from there.
imports = sa.Table(
    "imports",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("at", Utc, nullable=False),
)

pending = sa.Table(
    "pending",
    metadata,
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("due_at", Utc, nullable=False, server_default=defaults.NOW),
    sa.Column("priority", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("lease", sa.Text),
    sa.Column("changed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("failing_since", Utc),
    sa.Column("reason", sa.Text),
    sa.Column("release", sa.Text),
    sa.Column("alone", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("parked_at", Utc),
    sa.Column("parked_version", sa.BigInteger),
    sa.Column("parked_hash", sa.Text),
    *checks.times("pending", "due_at"),
)
sa.Index(
    "ix_pending_due",
    pending.c.priority,
    pending.c.due_at,
    sqlite_where=pending.c.parked_at.is_(None),
    postgresql_where=pending.c.parked_at.is_(None),
)
sa.Index(
    "ix_pending_parked",
    pending.c.parked_at,
    sqlite_where=pending.c.parked_at.is_not(None),
    postgresql_where=pending.c.parked_at.is_not(None),
)
sa.Index(
    "ix_pending_lease",
    pending.c.lease,
    sqlite_where=pending.c.lease.is_not(None),
    postgresql_where=pending.c.lease.is_not(None),
)

mirror = sa.Table(
    "mirror",
    metadata,
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("customer_id", sa.Text, nullable=False),
    sa.Column("id_kind", sa.Text, nullable=False),
    sa.Column("attributes", Json, nullable=False),
    sa.Column("segment_bits", sa.Text, nullable=False),
    sa.Column("mapping_hash", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sent_ts", sa.BigInteger, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("synced_at", Utc, nullable=False),
    sa.Column("release", sa.Text),
    sa.Column("left_at", Utc),
    sa.Column("deleted_at", Utc),
    sa.Column("suppressed_at", Utc),
    sa.Column("opt_sent_at", Utc),
    sa.Column("unsure", sa.Text, nullable=False, server_default=""),
    sa.Column("anonymous_ids", Json, nullable=False, server_default="[]"),
)
sa.Index(
    "uq_mirror_live_customer_id",
    mirror.c.customer_id,
    unique=True,
    sqlite_where=mirror.c.deleted_at.is_(None),
    postgresql_where=mirror.c.deleted_at.is_(None),
)
for _name in ("left_at", "deleted_at"):
    sa.Index(
        f"ix_mirror_{_name}",
        mirror.c[_name],
        sqlite_where=mirror.c[_name].is_not(None),
        postgresql_where=mirror.c[_name].is_not(None),
    )
# Creates that the guard let go, and deletes, at the moment in which they happened.
guarded = sa.Table(
    "guarded",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("at", Utc, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

# Who asked to be forgotten: keyed hashes of what named them, by kind.
erased = sa.Table(
    "erased",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("hash", sa.Text, primary_key=True),
    sa.Column("at", Utc, nullable=False),
)

# What one process has to tell the next: what the last pass saw, the key of the hashes.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", Json, nullable=False),
)

# One row: how fast all workers of the store call Customer.io together (store/throttle.py).
throttle = sa.Table(
    "throttle",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("free_at", Utc, nullable=False),
    sa.Column("grown_at", Utc, nullable=False),
    sa.Column("paused_until", Utc, nullable=False),
    sa.Column("limited", sa.Integer, nullable=False),
)

workspace = sa.Table(
    "workspace",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("environment_id", sa.Text, nullable=False),
)

# Whether Customer.io as a whole takes our calls: one row, or none as long as it always did; see `store.gate`.
gate = sa.Table(
    "gate",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("since", Utc),
    sa.Column("probe_at", Utc),
    sa.Column("probe_token", sa.Text),
    sa.Column("probes", sa.Integer, nullable=False),
)

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("allowed", sa.Integer, nullable=False),
    sa.Column("settings_hash", sa.Text, nullable=False),
    sa.Column("since", Utc, nullable=False),
)

held = sa.Table(
    "held",
    metadata,
    sa.Column("what", sa.Text, primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("hold_id", sa.BigInteger, nullable=False),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", Serial, sa.Identity(), primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), index=True),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("at", Utc, nullable=False),
)

# What became of users, each hour.
decided = sa.Table(
    "decided",
    metadata,
    sa.Column("hour", Utc, primary_key=True),
    sa.Column("verb", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", Serial, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("lease", sa.Text),
    sa.Column("lease_until", Utc),
    sa.Column("finished_at", Utc),
    sa.Column("counts", Json, nullable=False),
)
sa.Index(
    "uq_runs_active",
    runs.c.kind,
    runs.c.state,
    unique=True,
    sqlite_where=runs.c.state.in_([sa.literal_column("'running'"), sa.literal_column("'asked'")]),
    postgresql_where=runs.c.state.in_([sa.literal_column("'running'"), sa.literal_column("'asked'")]),
)

# What the settings file said, each time it said something else: see `store.revisions`.
settings_revisions = sa.Table(
    "settings_revisions",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("hash", sa.Text),
    sa.Column("changed", Json, nullable=False),
    sa.Column("counts", Json, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("text", sa.Text),
)
sa.Index("ix_settings_revisions_hash", settings_revisions.c.hash)
