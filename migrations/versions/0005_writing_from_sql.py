"""defaults, so that who writes with plain SQL names only what they know; a user's events by time"""

import sqlalchemy as sa
from alembic import op

from connector.core import ulid
from connector.store.schema import Utc

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RANDOM = {"sqlite": "(lower(hex(randomblob(16))))", "postgresql": "replace(CAST(gen_random_uuid() AS text), '-', '')"}
NOW = {"sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')", "postgresql": "now()"}
FALSE = {"sqlite": "0", "postgresql": "false"}


def said(word):
    """A word or a number, which both stores write alike."""
    return dict.fromkeys(("sqlite", "postgresql"), word)


DEFAULTS = {
    "users": {
        "id": RANDOM,
        "attributes": said("'{}'"),
        "known_by": said("'own'"),
        "first_seen_at": NOW,
        "updated_at": NOW,
        "opted_out": FALSE,
        "version": said("1"),
    },
    "events": {
        "source": said("'sql'"),
        "source_id": RANDOM,
        "type": said("'track'"),
        "properties": said("'{}'"),
        "context": said("'{}'"),
        "occurred_at": NOW,
        "received_at": NOW,
        "outbound": said("'none'"),
    },
    "pending": {
        "due_at": NOW,
        "priority": said("0"),
        "changed": FALSE,
        "attempts": said("0"),
    },
}


def upgrade() -> None:
    op.create_index("ix_events_user_id_occurred_at", "events", ["user_id", "occurred_at"])
    alter({table: {name: default[dialect()] for name, default in of.items()} for table, of in DEFAULTS.items()})


def downgrade() -> None:
    name_activities()
    alter({table: dict.fromkeys(of) for table, of in DEFAULTS.items()})
    op.drop_index("ix_events_user_id_occurred_at", "events")


def alter(defaults) -> None:
    """Sets these defaults (None: no default any more); `activity_id` may be empty while there are defaults."""
    indexes = [statement for table in defaults for statement in drop_indexes(table)]
    for table, columns in defaults.items():
        with op.batch_alter_table(table) as batch:
            for name, default in columns.items():
                batch.alter_column(name, server_default=None if default is None else sa.text(default))
            if table == "events":
                batch.alter_column("activity_id", nullable=columns["source"] is not None)
    for statement in indexes:
        op.get_bind().exec_driver_sql(statement)


def name_activities():
    """The older schema wants the activity id of every event, and SQL can't compute one."""
    events = sa.table(
        "events", *map(sa.column, ("id", "source", "source_id", "activity_id")), sa.column("occurred_at", Utc)
    )
    naming = sa.update(events).where(events.c.id == sa.bindparam("event")).values(activity_id=sa.bindparam("derived"))
    page = sa.select(events).where(events.c.activity_id.is_(None)).order_by(events.c.id).limit(1000)
    last = 0
    while found := op.get_bind().execute(page.where(events.c.id > last)).all():
        derived = [{"event": e.id, "derived": ulid.activity_id(e.source, e.source_id, e.occurred_at)} for e in found]
        op.get_bind().execute(naming, derived)
        last = found[-1].id


def drop_indexes(table):
    """SQLite rebuilds the table, and what builds it anew can't read an index on an expression: so they go before, and
    come back word for word. Returns the statements that make them."""
    if dialect() != "sqlite":
        return []
    query = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :name AND sql IS NOT NULL")
    found = op.get_bind().execute(query, {"name": table}).all()
    for name, _ in found:
        op.get_bind().exec_driver_sql(f'DROP INDEX "{name}"')
    return [statement for _, statement in found]


def dialect():
    return op.get_bind().dialect.name
