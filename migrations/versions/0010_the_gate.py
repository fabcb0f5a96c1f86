"""the gate: whether Customer.io as a whole takes our calls, for all workers of a store"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "gate",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.Column("since", TIME),
        sa.Column("probe_at", TIME),
        sa.Column("probe_token", sa.Text()),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_gate"),
    )


def downgrade() -> None:
    op.drop_table("gate")
