"""Rows of each task"""

import sqlalchemy as sa
from alembic import op


revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Of datasets that are there it stays unknown."""
    op.add_column('datasets', sa.Column('task_sizes', sa.JSON(), nullable=True))


def downgrade() -> None:
    """Revert."""
    op.drop_column('datasets', 'task_sizes')
