"""Parts of runs on several machines"""

import sqlalchemy as sa
from alembic import op


revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table('node_parts',
    sa.Column('run_id', sa.String(length=40), nullable=False),
    sa.Column('node', sa.Integer(), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('worker_id', sa.String(length=200), nullable=False),
    sa.Column('host', sa.Text(), nullable=False),
    sa.Column('part', sa.JSON(none_as_null=True), nullable=False),
    sa.Column('job_digest', sa.String(length=80), nullable=False),
    sa.Column('is_over', sa.Boolean(), nullable=False),
    sa.Column('outcome', sa.JSON(none_as_null=True), nullable=True),
    sa.ForeignKeyConstraint(['run_id'], ['runs.id']),
    sa.PrimaryKeyConstraint('run_id', 'node')
    )
    op.create_index(op.f('ix_node_parts_worker_id'), 'node_parts', ['worker_id'], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_index(op.f('ix_node_parts_worker_id'), table_name='node_parts')
    op.drop_table('node_parts')
