"""merged users, conflicts of identifiers, fresh arrivals, imports that were interrupted"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("users", sa.Column("fresh_until", TIME))
    op.add_column("users", sa.Column("merged_into", sa.Text()))
    merged = sa.text("merged_into IS NOT NULL")
    op.create_index("ix_users_merged_into", "users", ["merged_into"], sqlite_where=merged, postgresql_where=merged)
    op.create_table(
        "conflicts",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("first_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "kind", "value", name="pk_conflicts"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_conflicts_user_id"),
    )
    op.create_table(
        "imports",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_imports"),
    )
    op.create_index("ix_attempts_user_id", "attempts", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_attempts_user_id", "attempts")
    op.drop_table("imports")
    op.drop_table("conflicts")
    op.drop_index("ix_users_merged_into", "users")
    op.drop_column("users", "merged_into")
    op.drop_column("users", "fresh_until")
