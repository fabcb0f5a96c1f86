"""since when an event is due, and when it was sent, skipped or parked"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_events_due": (["user_id", "occurred_at", "id"], "outbound = 'due' AND due_at IS NOT NULL"),
    "ix_events_asked": (["id"], "outbound = 'due' AND due_at IS NULL"),
    "ix_events_sent": (["user_id", "settled_at"], "outbound = 'sent'"),
    "ix_events_skipped": (["reason"], "outbound = 'skipped'"),
    "ix_events_parked": (["id"], "outbound = 'parked'"),
}


def upgrade() -> None:
    op.add_column("events", sa.Column("due_at", sa.DateTime(timezone=True)))
    op.add_column("events", sa.Column("settled_at", sa.DateTime(timezone=True)))
    for name, (columns, condition) in INDEXES.items():
        where = sa.text(condition)
        op.create_index(name, "events", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "events")
    op.drop_column("events", "settled_at")
    op.drop_column("events", "due_at")
