"""how fast all workers of a store call Customer.io together"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TIMES = ("free_at", "grown_at", "paused_until")


def upgrade() -> None:
    op.create_table(
        "throttle",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in TIMES),
        sa.Column("limited", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_throttle"),
    )


def downgrade() -> None:
    op.drop_table("throttle")
