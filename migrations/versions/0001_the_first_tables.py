"""the first tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def only(where):
    """A partial index, said to both stores."""
    return {"sqlite_where": sa.text(where), "postgresql_where": sa.text(where)}


def upgrade() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("allowed", sa.Integer(), nullable=False),
        sa.Column("settings_hash", sa.Text(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
        sa.UniqueConstraint("hash", name="uq_holds_hash"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", SERIAL, sa.Identity(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint("source", "source_id", name="uq_inbox_source_source_id"),
    )
    op.create_index("ix_inbox_new", "inbox", ["id"], **only("state = 'new'"))
    op.create_index("ix_inbox_unread", "inbox", ["id"], **only("state = 'unread'"))

    op.create_table(
        "runs",
        sa.Column("id", SERIAL, sa.Identity(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("counts", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("uq_runs_active", "runs", ["kind", "state"], unique=True, **only("state IN ('running', 'asked')"))

    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("known_by", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=True),
        sa.Column("first_seen_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("opted_out", sa.Boolean(), nullable=False),
        sa.Column("opt_changed_at", TIME, nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_table(
        "workspace",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("environment_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workspace"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", SERIAL, sa.Identity(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_attempts_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
    )
    op.create_table(
        "events",
        sa.Column("id", SERIAL, sa.Identity(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("properties", JSON, nullable=False),
        sa.Column("context", JSON, nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("activity_id", sa.Text(), nullable=False),
        sa.Column("outbound", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_events_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.UniqueConstraint("source", "source_id", name="uq_events_source_source_id"),
    )
    op.create_table(
        "held",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_held_user_id"),
        sa.PrimaryKeyConstraint("what", "user_id", name="pk_held"),
    )
    op.create_table(
        "identifiers",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identifiers_user_id"),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_identifiers"),
    )
    op.create_index("ix_identifiers_user_id", "identifiers", ["user_id"])

    op.create_table(
        "mirror",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("id_kind", sa.Text(), nullable=False),
        sa.Column("attributes", JSON, nullable=False),
        sa.Column("segment_bits", sa.Text(), nullable=False),
        sa.Column("mapping_hash", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("sent_ts", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("synced_at", TIME, nullable=False),
        sa.Column("release", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_mirror_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_mirror"),
        sa.UniqueConstraint("customer_id", name="uq_mirror_customer_id"),
    )
    op.create_index("ix_mirror_guarded", "mirror", ["created_at"], **only("release = 'guard'"))

    op.create_table(
        "pending",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("changed", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failing_since", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("release", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_pending_user_id"),
        sa.PrimaryKeyConstraint("user_id", name="pk_pending"),
    )
    op.create_index("ix_pending_due", "pending", ["priority", "due_at"])
    op.create_index("ix_pending_lease", "pending", ["lease"], **only("lease IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("ix_pending_lease", table_name="pending")
    op.drop_index("ix_pending_due", table_name="pending")

    op.drop_table("pending")
    op.drop_index("ix_mirror_guarded", table_name="mirror")

    op.drop_table("mirror")
    op.drop_index("ix_identifiers_user_id", table_name="identifiers")

    op.drop_table("identifiers")
    op.drop_table("held")
    op.drop_table("events")
    op.drop_table("attempts")
    op.drop_table("workspace")
    op.drop_table("users")
    op.drop_index("uq_runs_active", table_name="runs")

    op.drop_table("runs")
    op.drop_index("ix_inbox_unread", table_name="inbox")
    op.drop_index("ix_inbox_new", table_name="inbox")

    op.drop_table("inbox")
    op.drop_table("holds")
