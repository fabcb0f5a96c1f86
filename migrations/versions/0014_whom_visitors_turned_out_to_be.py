"""of which visitors Customer.io was told that they are this person"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.add_column("mirror", sa.Column("anonymous_ids", JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("mirror", "anonymous_ids")
