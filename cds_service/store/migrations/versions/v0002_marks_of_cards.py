"""The mark of a card, by which an overridden warning is known again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("card", sa.Column("mark", sa.String(32)))
    op.create_index("ix_card_mark", "card", ["mark"])


def downgrade() -> None:
    op.drop_index("ix_card_mark", "card")
    op.drop_column("card", "mark")
