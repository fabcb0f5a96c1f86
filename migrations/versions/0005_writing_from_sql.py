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

# What nobody could read would stop the passes of everybody, so the writer hears of it. A later migration that lets
# SQLite rebuild one of these tables has to name them again: what builds it anew doesn't see them.
DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
SECOND = f"{DAY} [0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
OBJECT = {
    "sqlite": "json_valid({0}) AND json_type({0}) = 'object'",
    "postgresql": "jsonb_typeof({0}) = 'object'",
}
TIME = {
    "sqlite": "{0} IS NULL OR (({0} GLOB '" + SECOND + "' OR {0} GLOB '" + SECOND + "." + "[0-9]" * 6 + "') "
    "AND substr({0}, 12, 2) < '24' AND date(substr({0}, 1, 10), '+0 days') IS substr({0}, 1, 10) "
    "AND substr({0}, 1, 4) <> '0000')",
    "postgresql": "{0} >= '0001-01-01 00:00:00+00' AND {0} < '10000-01-01 00:00:00+00'",
}
CHECKS = {
    "users": {"attributes": OBJECT, "created_at": TIME, "first_seen_at": TIME, "updated_at": TIME},
    "events": {"properties": OBJECT, "context": OBJECT, "occurred_at": TIME, "received_at": TIME},
    "pending": {"due_at": TIME},
}


def upgrade() -> None:
    op.create_index("ix_events_user_id_occurred_at", "events", ["user_id", "occurred_at"])
    defaults = {table: {name: each[dialect()] for name, each in of.items()} for table, of in DEFAULTS.items()}
    alter(defaults, wanted=True)


def downgrade() -> None:
    name_activities()
    alter({table: dict.fromkeys(of) for table, of in DEFAULTS.items()}, wanted=False)
    op.drop_index("ix_events_user_id_occurred_at", "events")


def alter(defaults, *, wanted) -> None:
    """Sets these defaults (None: no default any more), and the checks where they are `wanted`; then `activity_id` may
    be empty, too."""
    indexes = [statement for table in defaults for statement in drop_indexes(table)]
    for table, columns in defaults.items():
        with op.batch_alter_table(table) as batch:
            for name, default in columns.items():
                batch.alter_column(name, server_default=None if default is None else sa.text(default))
            if table == "events":
                batch.alter_column("activity_id", nullable=wanted)
            for name, condition in CHECKS[table].items():
                if wanted:
                    batch.create_check_constraint(f"ck_{table}_{name}", sa.text(condition[dialect()].format(name)))
                elif dialect() != "sqlite":  # which rebuilds the table without them anyhow
                    batch.drop_constraint(f"ck_{table}_{name}", type_="check")
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
