"""Workers and the GPU queue"""

import sqlalchemy as sa
from alembic import op


revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table('workers',
    sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
    sa.Column('id', sa.String(length=200), nullable=False),
    sa.Column('announcement', sa.JSON(), nullable=False),
    sa.Column('runs', sa.JSON(), nullable=False),
    sa.Column('is_stopping', sa.Boolean(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('seq'),
    sa.UniqueConstraint('id')
    )
    # Defaults of the server fill in the rows that are there; new rows name every value.
    op.add_column('runs', sa.Column('priority', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('runs', sa.Column('num_gpus', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('runs', sa.Column('num_crashes', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('runs', sa.Column('setbacks', sa.JSON(), nullable=False, server_default='[]'))
    op.add_column('runs', sa.Column('unservable_since', sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Revert."""
    for column in ('unservable_since', 'setbacks', 'num_crashes', 'num_gpus', 'priority'):
        op.drop_column('runs', column)
    op.drop_table('workers')
