"""Who asked for a run"""

import sqlalchemy as sa
from alembic import op


revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Of the embedding runs that are there nobody knows who asked for them: no cancel ends them."""
    op.add_column('runs', sa.Column('is_requested', sa.Boolean(), nullable=False, server_default=sa.false()))
    runs = sa.table('runs', sa.column('kind', sa.String()), sa.column('is_requested', sa.Boolean()))
    op.execute(runs.update().where(runs.c.kind == 'embedding').values(is_requested=sa.true()))


def downgrade() -> None:
    """Revert."""
    op.drop_column('runs', 'is_requested')
