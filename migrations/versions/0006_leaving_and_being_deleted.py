"""people who left and who were deleted, whose word an opt-out is, who was erased, what the last pass saw"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
TIME = sa.DateTime(timezone=True)
TIMES = ("left_at", "deleted_at", "suppressed_at", "opt_sent_at")
LIVE = sa.text("deleted_at IS NULL")
ALONE = {"resolve_fks": False}  # what rebuilds it on SQLite could not read an index of users on an expression


def partial(name, column, where, *, unique=False):
    """An index over those rows alone."""
    op.create_index(name, "mirror", [column], unique=unique, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.drop_index("ix_mirror_guarded", "mirror")
    with op.batch_alter_table("mirror", reflect_kwargs=ALONE) as batch:
        batch.drop_constraint("uq_mirror_customer_id", type_="unique")
        for name in TIMES:
            batch.add_column(sa.Column(name, TIME))
    partial("ix_mirror_guarded", "created_at", sa.text("release = 'guard'"))
    partial("uq_mirror_live_customer_id", "customer_id", LIVE, unique=True)
    for name in ("left_at", "deleted_at"):
        partial(f"ix_mirror_{name}", name, sa.text(f"{name} IS NOT NULL"))
    op.add_column("users", sa.Column("opted_by", sa.Text(), nullable=False, server_default="customerio"))
    op.create_table(
        "erased",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("kind", "hash", name="pk_erased"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", JSON, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )


def downgrade() -> None:
    op.drop_table("facts")
    op.drop_table("erased")
    op.drop_column("users", "opted_by")
    for name in ("ix_mirror_left_at", "ix_mirror_deleted_at", "uq_mirror_live_customer_id", "ix_mirror_guarded"):
        op.drop_index(name, "mirror")
    # An older version knows no dead ones: it would take them for people.
    op.execute("DELETE FROM mirror WHERE deleted_at IS NOT NULL")
    with op.batch_alter_table("mirror", reflect_kwargs=ALONE) as batch:
        for name in TIMES:
            batch.drop_column(name)
        batch.create_unique_constraint("uq_mirror_customer_id", ["customer_id"])
    partial("ix_mirror_guarded", "created_at", sa.text("release = 'guard'"))
