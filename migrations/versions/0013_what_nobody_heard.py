"""people of whom nobody heard whether the last call was applied"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mirror", sa.Column("unsure", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("mirror", "unsure")
