"""The store's connection: one transaction is one function call.

A store function takes a connection first, returns records and never commits; `write(fn, *args)` and
`read(fn, *args)` run it in a transaction on the calling thread, `run` and `run_read` do so on a database
thread. No transaction can therefore await the network.

SQLite has two engines: the writer begins IMMEDIATE (Python's own transaction handling loses updates
silently) and is serialised inside the process, so that two of our threads never poll each other's lock;
readers are deferred and query-only.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from connector import errors
from connector.store import driver_errors, stored_json, times_in_sql

P = ParamSpec("P")
T = TypeVar("T")

BUSY_SECONDS = 15
BUSY_AGAIN_SECONDS = 1
THREADS = 4
_IDENTITY_LOCK = 0x63696F  # one advisory lock for every transaction that changes identities
_MIGRATION_LOCK = 0x63696D
_ALONE = sa.text("LOCK TABLE inbox IN SHARE ROW EXCLUSIVE MODE")


def insert(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """The dialect's own INSERT, which knows ON CONFLICT; both spell it alike."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


# Hundreds of parameters take PostgreSQL's driver longer than the database needs for what is asked with them.
_IDS_SQLITE = sa.text("SELECT value FROM json_each(:ids)").columns(id=sa.BigInteger)
_IDS_POSTGRES = sa.text("SELECT CAST(value AS bigint) FROM json_array_elements_text(:ids)").columns(id=sa.BigInteger)


def ids(connection: Connection) -> sa.TextualSelect:
    """Whole numbers that come as one parameter, `ids`, the JSON text of a list."""
    return _IDS_POSTGRES if connection.dialect.name == "postgresql" else _IDS_SQLITE


_TEXTS_SQLITE = sa.text("SELECT value FROM json_each(:texts)").columns(text=sa.Text)
_TEXTS_POSTGRES = sa.text("SELECT value FROM json_array_elements_text(:texts)").columns(text=sa.Text)


def texts(connection: Connection) -> sa.TextualSelect:
    """Texts that come as one parameter, `texts`, the JSON text of a list."""
    return _TEXTS_POSTGRES if connection.dialect.name == "postgresql" else _TEXTS_SQLITE


def among(connection: Connection, column: sa.ColumnElement[Any], values: Collection[Any]) -> sa.ColumnElement[bool]:
    """The column is one of so few texts, or numbers, that the planner may count them; at most a thousand. They are one
    parameter: as many as there are took a quarter of the time of what is asked with them."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(column.type)))
    return column.in_(sa.select(sa.func.json_each(dumps(list(values))).table_valued("value").c.value))


def only(
    connection: Connection, column: sa.ColumnElement[Any], values: Collection[Any] | None
) -> list[sa.ColumnElement[bool]]:
    """As `among`, of nothing else where there are `values`, even if there's none of them; of all where they are None.
    Conditions, to go with others."""
    return [] if values is None else [among(connection, column, values)]


def lock_order(connection: Connection, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The order in which everyone locks several rows of a table; else two transactions wait for each other. It is that
    of Python's `sorted`, which the order of a database is not, unless its collation says so. Of the tables, `users`
    come first, then `pending`, then `mirror`; before all of them `lock_identities`, where it is needed."""
    return sa.collate(column, "C") if connection.dialect.name == "postgresql" else column


def lock(
    connection: Connection, column: sa.ColumnElement[str], values: Iterable[str], *, key_share: bool = False
) -> None:
    """Locks the rows that have one of these texts in the column, to the end of the transaction: what is written of them
    below, in any order, waits for nobody any more. With `key_share`, who only refers to them need not wait. On SQLite
    the whole store is locked."""
    if connection.dialect.name == "postgresql":
        query = sa.select(column).where(column.in_(texts(connection))).order_by(lock_order(connection, column))
        connection.execute(query.with_for_update(key_share=key_share), {"texts": dumps(list(values))})


def chunks(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Of so many each, in their order."""
    for start in range(0, len(values), most):
        yield values[start : start + most]


def all_of_it(connection: Connection) -> None:
    """What the transaction streams it reads to the end; before the query. PostgreSQL takes a cursor for one of which a
    tenth is read, and looks up one by one, which takes twice as long."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL cursor_tuple_fraction = 1"))


def dumps(value: Any) -> str:
    """JSON text; integers of any size are kept to the last digit."""
    return msgspec.json.encode(value).decode()


class Database:
    """The engines of one store. `url` is `sqlite:///path` or any common form of a PostgreSQL DSN."""

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.dialect = self.url.get_backend_name()
        options: dict[str, Any] = {
            "json_serializer": dumps,
            "json_deserializer": stored_json.loads,
            "hide_parameters": True,  # they are people's data, and errors are logged
        }
        if self.dialect == "sqlite":
            self.writer = sa.create_engine(self.url, connect_args=_SQLITE_ARGS, **options)
            self.reader = sa.create_engine(self.url, connect_args=_SQLITE_ARGS, **options)
            _prepare_sqlite(self.writer, begin="BEGIN IMMEDIATE", query_only=False, busy_seconds=self._busy_seconds)
            _prepare_sqlite(self.reader, begin="BEGIN", query_only=True, busy_seconds=lambda: BUSY_SECONDS)
            self._write_lock: threading.Lock | None = threading.Lock()
            self._is_locked = False
            self._appender: Engine | None = None
        else:
            self.writer = _postgres_engine(self.url, pool_size=THREADS + 2, **options)
            self.reader = self.writer.execution_options(postgresql_readonly=True)
            self._appender = _postgres_engine(self.url, pool_size=1, isolation_level="AUTOCOMMIT", **options)
            self._write_lock = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._append_thread = ThreadPoolExecutor(1, thread_name_prefix="store-append")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A write transaction on this thread, for work that is more than one function call."""
        if self._write_lock is None:
            with self.writer.begin() as connection:
                yield connection
            return
        with self._write_lock:
            try:
                with self.writer.begin() as connection:
                    yield connection
            except sa.exc.OperationalError as error:
                self._is_locked = (driver_errors.unreachable(error) or "").startswith("SQLITE_BUSY")
                raise
            self._is_locked = False

    def _busy_seconds(self) -> int:
        """How long to wait for a file that another process has locked. Once one waited in vain, those who stood in line
        behind it, for the lock in this process, don't wait as long again, one after the other."""
        return BUSY_AGAIN_SECONDS if self._is_locked else BUSY_SECONDS

    def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One write transaction, here and now."""
        with self.transaction() as connection:
            return fn(connection, *args, **kwargs)

    def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One read transaction, here and now; a write in it is refused by the database."""
        with self.reader.begin() as connection:
            return fn(connection, *args, **kwargs)

    async def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One write transaction on a database thread."""
        return await self.on_thread(lambda: self.write(fn, *args, **kwargs))

    async def run_read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One read transaction on a database thread."""
        return await self.on_thread(lambda: self.read(fn, *args, **kwargs))

    async def run_append(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One statement, durable when it returns, on the thread that does nothing but appends, so that none waits for
        a free thread. On PostgreSQL it is its own transaction, which saves two ways there and back."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._append_thread, lambda: self._append(fn, *args, **kwargs))

    def _append(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._appender is None:
            return self.write(fn, *args, **kwargs)
        with self._appender.connect() as connection:
            try:
                return fn(connection, *args, **kwargs)
            except sa.exc.OperationalError as error:
                if not driver_errors.is_deadlock(error):
                    raise
        # Another process appends the same repeats in another order. Alone, after who is at it, nobody is waited for.
        with self.transaction() as connection:
            connection.execute(_ALONE)
            return fn(connection, *args, **kwargs)

    async def on_thread(self, fn: Callable[[], T]) -> T:
        """Any blocking function that opens its own transactions, on a database thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, fn)

    def close(self) -> None:
        """Waits for transactions under way, then closes every connection."""
        self._append_thread.shutdown()
        self._threads.shutdown()
        self.writer.dispose()
        self.reader.dispose()
        if self._appender is not None:
            self._appender.dispose()


def lock_identities(connection: Connection) -> None:
    """Held to the end of the transaction by everything that changes who is who, so that upserts can't deadlock.

    On SQLite the writer's BEGIN IMMEDIATE is that lock already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_IDENTITY_LOCK)))


def as_of_now(connection: Connection) -> None:
    """All that the transaction reads is as of one moment; the first statement in it. On SQLite it is anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


def lock_migrations(connection: Connection) -> None:
    """Held while the schema is brought up, so that two processes that start together don't both build it."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))


def try_to_write(connection: Connection) -> None:
    """Raises as long as nothing can be committed durably; changes nothing."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT txid_current()"))  # the commit of a transaction with a number is written
        return
    # That one may begin to write says nothing of a full disk; that a page is written does.
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")


_SQLITE_ARGS = {"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False}


def _url(text: str) -> sa.URL:
    """The URL with our driver; `postgres://` and `postgresql://` are what people paste."""
    scheme, _, rest = text.partition("://")
    if scheme in {"postgres", "postgresql"}:
        scheme = "postgresql+psycopg"
    try:
        url = sa.make_url(f"{scheme}://{rest}")
    except (sa.exc.ArgumentError, ValueError):
        # Without the cause, which quotes the URL, and there may be a password in it.
        raise errors.Misconfigured("store.url can't be read as a database URL") from None
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        folder = Path(url.database).parent
        if not folder.is_dir():
            raise errors.Misconfigured(f"store.url: the folder {folder} does not exist; create it first")
    return url


# Else a server that vanished without a word keeps a thread for as long as the kernel has patience: hours.
_POSTGRES_ARGS = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def _postgres_engine(url: sa.URL, **options: Any) -> Engine:
    arguments = {name: value for name, value in _POSTGRES_ARGS.items() if name not in url.query}
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)
    driver_errors.hide_values(engine)
    _prepare_postgres(engine)
    return engine


def _prepare_postgres(engine: Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: Any) -> None:
        # In a server's own zone, times at either end of the calendar can't be read back.
        dbapi_connection.execute("SET TIME ZONE 'UTC'")
        dbapi_connection.commit()


def _prepare_sqlite(engine: Engine, *, begin: str, query_only: bool, busy_seconds: Callable[[], int]) -> None:
    @sa.event.listens_for(engine, "connect")
    def connect(dbapi_connection: Any, _record: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        if query_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()
        times_in_sql.register(dbapi_connection)

    @sa.event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        seconds = busy_seconds()
        if connection.info.get("busy_seconds", BUSY_SECONDS) != seconds:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * seconds}")
            connection.info["busy_seconds"] = seconds
        connection.exec_driver_sql(begin)
