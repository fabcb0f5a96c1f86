"""What an error of the database's driver means for us: the store can't work now, or can't take this value. And none
keeps the values that the database quotes in it: they are people's data, and errors are logged.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine

# https://www.sqlite.org/rescode.html: PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL
_SQLITE_AWAY = frozenset({3, 5, 6, 7, 8, 10, 13, 14, 15})
# https://www.postgresql.org/docs/current/errcodes-appendix.html: connections, resources, an operator, the system
_POSTGRES_AWAY = frozenset({"08", "53", "57", "58"})
_DEADLOCK = "40P01"
_READ_ONLY = "25006"  # a server that was, or will be, the first of several


def refused_a_value(error: sa.exc.StatementError) -> bool:
    """True when the database can't take what it was given; false when it can't work now, and may take it later."""
    if not isinstance(error, sa.exc.OperationalError):
        return True
    # PostgreSQL's limits (54: an index entry too long, a document too deep) come as operational errors too.
    return str(getattr(error.orig, "sqlstate", None) or "").startswith("54")


def lost_to_another(error: sa.exc.DBAPIError) -> bool:
    """True when another transaction was faster with the same key, or both waited for each other."""
    return isinstance(error, sa.exc.IntegrityError) or is_deadlock(error)


def is_deadlock(error: sa.exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == _DEADLOCK


def unreachable(error: BaseException) -> str | None:
    """A word for why the store can't work now, and may later: it is away, locked, full, or restarting. None when the
    error says something else."""
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    original = error.orig
    number = getattr(original, "sqlite_errorcode", None)
    if number is not None:
        # An extended code has more above the low byte.
        return str(getattr(original, "sqlite_errorname", number)) if number & 0xFF in _SQLITE_AWAY else None
    state = getattr(original, "sqlstate", None)
    if state is not None and state[:2] not in _POSTGRES_AWAY and state != _READ_ONLY:
        return None
    is_away = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated
    return type(original).__name__ if is_away or state == _READ_ONLY else None


def without_values(error: Exception, statement: str, of_the_driver: type[Exception]) -> Exception:
    """An error that the driver raised past SQLAlchemy, as SQLAlchemy would raise it, and without the rows it quotes."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    if primary is not None:
        error.args = (primary,)
    return sa.exc.DBAPIError.instance(statement, None, error, of_the_driver, hide_parameters=True)


def hide_values(engine: Engine) -> None:
    """PostgreSQL quotes rows and values in the DETAIL and CONTEXT of an error."""

    @sa.event.listens_for(engine, "handle_error")
    def keep_the_first_line(context: sa.engine.ExceptionContext) -> None:
        original = context.original_exception
        primary = getattr(getattr(original, "diag", None), "message_primary", None)
        if primary is not None:
            original.args = (primary,)
            if context.sqlalchemy_exception is not None:
                kind = type(original)
                context.sqlalchemy_exception.args = (f"({kind.__module__}.{kind.__name__}) {primary}",)
