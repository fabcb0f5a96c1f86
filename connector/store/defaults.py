"""What a writer of plain SQL needn't say, in each store's own words.

Our own statements name every column, so these cost them nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class _Words(sa.sql.expression.ColumnElement[Any]):
    """An expression that is written differently on each store."""

    inherit_cache = False

    def __init__(self, sqlite: str, postgresql: str) -> None:
        self.words = {"sqlite": sqlite, "postgresql": postgresql}


@compiles(_Words)
def _written(element: _Words, compiler: SQLCompiler, **_options: Any) -> str:
    return element.words[compiler.dialect.name]


RANDOM = _Words("lower(hex(randomblob(16)))", "replace(CAST(gen_random_uuid() AS text), '-', '')")
NOW = _Words("strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'", "now()")  # on SQLite as `schema.Utc` writes it
