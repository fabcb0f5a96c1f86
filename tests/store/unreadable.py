"""What plain SQL may write although it can't be read: it is JSON to either database, as far as that lets it in."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from connector.store.database import Database

# Values as JSON; both stores take these.
DIGITS = "1" + "0" * 5000
DEEP = "[" * 900 + "]" * 900
BOTH = {
    "digits": DIGITS,
    "a fraction of many digits": DIGITS + ".5",
    "deep": DEEP,
    "just too deep": "[" * 300 + "]" * 300,
}
# PostgreSQL refuses the halves, and holds the number as an integer, which can be read.
ONLY_SQLITE = {
    "half": '"\\ud800"',
    "half of a key": '{"\\udc00": 1}',
    "within": '{"deep": ["ok", "x\\ud800y"]}',
    "large": "1e400",
    "small": "-1e400",
}
VALUES = BOTH | ONLY_SQLITE


def values(db: Database) -> dict[str, str]:
    """Those that the store takes."""
    return VALUES if db.dialect == "sqlite" else BOTH


def write(db: Database, table: sa.Table, column: str, row: Any, document: str) -> None:
    """The document becomes that of the row with this key, as plain SQL would write it."""
    (key,) = table.primary_key
    statement = f"UPDATE {table.name} SET {column} = :document WHERE {key.name} = :row"
    if db.dialect == "postgresql":
        statement = statement.replace(":document", "CAST(:document AS jsonb)")
    db.write(lambda connection: connection.execute(sa.text(statement), {"document": document, "row": row}))
