"""the revisions of the settings: what the file said, and what became of it"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "settings_revisions",
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text()),
        sa.Column("changed", JSON, nullable=False),
        sa.Column("counts", JSON, nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("text", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_settings_revisions"),
    )
    op.create_index("ix_settings_revisions_hash", "settings_revisions", ["hash"])


def downgrade() -> None:
    op.drop_table("settings_revisions")
