"""who can't be delivered is parked, and who may be what makes calls fail goes alone"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("alone", "parked_at", "parked_version", "parked_hash")


def upgrade() -> None:
    op.drop_index("ix_pending_due", "pending")
    op.add_column("pending", sa.Column("alone", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("pending", sa.Column("parked_at", sa.DateTime(timezone=True)))
    op.add_column("pending", sa.Column("parked_version", sa.BigInteger()))
    op.add_column("pending", sa.Column("parked_hash", sa.Text()))
    index("ix_pending_due", ["priority", "due_at"], sa.text("parked_at IS NULL"))
    index("ix_pending_parked", ["parked_at"], sa.text("parked_at IS NOT NULL"))


def index(name: str, columns: list[str], where: sa.TextClause) -> None:
    """An index over those rows alone."""
    op.create_index(name, "pending", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_pending_parked", "pending")
    op.drop_index("ix_pending_due", "pending")
    for name in COLUMNS:
        op.drop_column("pending", name)
    op.create_index("ix_pending_due", "pending", ["priority", "due_at"])
