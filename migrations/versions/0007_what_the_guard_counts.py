"""what the guard counts is kept apart from the people: who is created anew takes nothing of it back"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
BY_GUARD = sa.text("release = 'guard'")


def upgrade() -> None:
    op.create_table(
        "guarded",
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("what", "at", name="pk_guarded"),
    )
    # What is older than a day counts no more, and goes with the first pass.
    op.execute(
        "INSERT INTO guarded (what, at, count) "
        "SELECT 'delete', deleted_at, count(*) FROM mirror WHERE deleted_at IS NOT NULL GROUP BY deleted_at"
    )
    op.execute(
        "INSERT INTO guarded (what, at, count) "
        "SELECT 'create', created_at, count(*) FROM mirror WHERE release = 'guard' GROUP BY created_at"
    )
    op.drop_index("ix_mirror_guarded", "mirror")


def downgrade() -> None:
    op.create_index("ix_mirror_guarded", "mirror", ["created_at"], sqlite_where=BY_GUARD, postgresql_where=BY_GUARD)
    op.drop_table("guarded")
