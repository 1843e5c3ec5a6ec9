"""Connections, and the three ways to use one.

- `reading()`: a connection whose session is read-only; each statement stands alone, one round trip.
- `single()`: one writing statement that commits by itself, one round trip.
- `writing()`: a transaction.

A connection that was cancelled or failed in an unknown state is closed, never pooled.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, LiteralString, NamedTuple, TypeVar

import asyncpg

from guildhall.db.kept import CHANGED, Connection
from guildhall.db.pool import WAIT_S, Pool
from guildhall.errors import AppError, OutcomeUnknown, Unavailable

T = TypeVar("T")

SESSION = {
    "application_name": "guildhall",
    "timezone": "UTC",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "plan_cache_mode": "auto",
    "jit": "off",
}


class Retryable(Exception):
    """The database gave up on a transaction that may succeed if it is simply run again."""


# A constraint says that such a row is there already. The transaction can only be given up.
Duplicate = asyncpg.UniqueViolationError

# What was to be written cannot be, however often it is tried.
Unkeepable = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)

LOST = (
    OSError,
    asyncpg.InterfaceError,
    # A connection that broke in the middle of a statement says so only when it is used again.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
BUSY = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Read:
    """Statements on one connection. Rows come back as the struct asked for, matched by column name."""

    __slots__ = ("_connection", "_db")

    def __init__(self, db: "Db", connection: Connection) -> None:
        self._db = db
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """The driver's own connection, for the job queue."""
        return self._connection

    def count(self) -> None:
        """Count a round trip made on `connection` directly."""
        self._db.trips += 1

    async def maybe(self, row: type[T], sql: LiteralString, *args: object) -> T | None:
        """The only row, or None."""
        self._db.trips += 1
        record = await self._connection.fetchrow(sql, *args)
        return None if record is None else row(**record)

    async def maybe_kept(self, row: type[T], sql: LiteralString, *args: object) -> T | None:
        """As `maybe`, for the few statements of the busiest routes, which the connection keeps at hand."""
        self._db.trips += 1
        try:
            record = await self._connection.fetchrow_kept(sql, *args)
        except CHANGED:
            record = await self._connection.fetchrow_again(sql, *args)
        return None if record is None else row(**record)

    async def one(self, row: type[T], sql: LiteralString, *args: object) -> T:
        """The only row. Raises LookupError when there is none: a bug; `maybe` is for what may be missing."""
        found = await self.maybe(row, sql, *args)
        if found is None:
            raise LookupError("a row was expected")
        return found

    async def many(self, row: type[T], sql: LiteralString, *args: object) -> list[T]:
        self._db.trips += 1
        return [row(**record) for record in await self._connection.fetch(sql, *args)]

    async def value(self, sql: LiteralString, *args: object) -> Any:
        """The first column of the first row, or None."""
        self._db.trips += 1
        return await self._connection.fetchval(sql, *args)


class Write(Read):
    """Statements that may change rows."""

    __slots__ = ("_left",)

    def __init__(self, db: "Db", connection: Connection) -> None:
        super().__init__(db, connection)
        self._left: list[bytes] = []

    def leave(self, message: bytes) -> None:
        """Have `message` passed on once this is committed; nobody hears of what is rolled back."""
        self._left.append(message)

    @property
    def left(self) -> list[bytes]:
        """What is to be passed on, in order."""
        return self._left

    async def run(self, sql: LiteralString, *args: object) -> int:
        """Run a statement; answers how many rows it touched."""
        self._db.trips += 1
        status = await self._connection.execute(sql, *args)
        return int(status.rpartition(" ")[2]) if status[-1:].isdigit() else 0


R = TypeVar("R", bound=Read)


class Pulse(NamedTuple):
    """What answers. Of a worker nothing is known while the database does not."""

    database: bool
    worker: bool


class Db:
    """Two pools: one read-only, one that writes. Made by `open_db`; `trips` counts round trips."""

    def __init__(self, reads: Pool, writes: Pool) -> None:
        self._reads = reads
        self._writes = writes
        # Takes what changes left to be passed on, right after each is committed. Must not block or raise.
        self.pass_on: Callable[[list[bytes]], None] | None = None
        self.trips = 0
        self.watching_since = time.monotonic()

    def committed(self, write: Write) -> None:
        """Pass on what a change left, now that it is committed."""
        if write.left and self.pass_on is not None:
            self.pass_on(write.left)

    def reading(self) -> "Borrowed[Read]":
        """Plain reads, each its own statement."""
        return Borrowed(self, self._reads, Read)

    def single(self) -> "Borrowed[Write]":
        """For statements that are each a transaction of their own; mostly there is one."""
        return Borrowed(self, self._writes, Write)

    def writing(self) -> "Transaction":
        """A transaction: it commits when the block ends and rolls back when anything raises."""
        return Transaction(self, self._writes)

    async def alive(self) -> bool:
        """Whether the database answers within a short while."""
        return (await self.pulse()).database

    async def pulse(self) -> "Pulse":
        """Who answers, and whether a worker was seen within the last minute. Within a short while, always.

        Who has not looked for a minute yet cannot say that none was seen for so long.
        """
        try:
            async with asyncio.timeout(0.15), self.reading() as read:
                seen = await read.value(
                    "SELECT EXISTS (SELECT FROM workers WHERE seen_at > now() - interval '60 seconds')"
                )
        except (Unavailable, TimeoutError):
            return Pulse(database=False, worker=False)
        return Pulse(database=True, worker=seen is True or time.monotonic() < self.watching_since + 60)

    async def close(self) -> None:
        """Let nobody in any more, and wait a little for those inside."""
        await asyncio.gather(*(_close(pool) for pool in {self._reads, self._writes}))


class Joined(Db):
    """A `Db` inside an open transaction: its writes commit with that, a refusal undoes only its part."""

    def __init__(self, db: Db, tx: Write) -> None:
        self._db = db
        self._tx = tx

    @property
    def trips(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._db.trips

    def reading(self) -> "Savepoint":  # pyright: ignore[reportIncompatibleMethodOverride]
        return Savepoint(self._tx)

    single = writing = reading  # pyright: ignore[reportAssignmentType]


class Borrowed(Generic[R]):
    """A pooled connection for the length of a block."""

    __slots__ = ("_connection", "_db", "_handle", "_kind", "_pool")

    def __init__(self, db: Db, pool: Pool, kind: type[R]) -> None:
        self._db = db
        self._pool = pool
        self._kind = kind
        self._connection: Connection | None = None
        self._handle: R | None = None

    async def __aenter__(self) -> R:
        self._connection = connection = self._pool.take() or await _acquire(self._pool)
        self._handle = handle = self._kind(self._db, connection)
        return handle

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        if error is not None and not isinstance(error, AppError):
            _discard_if_unsure(self._connection, error)
        self._pool.release(self._connection)
        if isinstance(error, LOST) and self._kind is Write:
            # The statement was a commit as well.
            raise OutcomeUnknown(retry_after_s=1) from error
        if error is not None:
            _explain(error)
        elif isinstance(self._handle, Write):
            self._db.committed(self._handle)


class Transaction:
    """One transaction on one pooled connection."""

    __slots__ = ("_connection", "_db", "_pool", "_write")

    def __init__(self, db: Db, pool: Pool) -> None:
        self._db = db
        self._pool = pool
        self._connection: Connection | None = None
        self._write: Write | None = None

    async def __aenter__(self) -> Write:
        self._connection = connection = self._pool.take() or await _acquire(self._pool)
        self._db.trips += 1
        try:
            await connection.execute("BEGIN")
        except BaseException as error:
            connection.terminate()
            self._pool.release(connection)
            _explain(error)
            raise
        self._write = write = Write(self._db, connection)
        return write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        assert connection is not None
        self._db.trips += 1
        try:
            if error is None:
                try:
                    await connection.execute("COMMIT")
                except AGAIN as failure:
                    raise Retryable from failure
                except asyncpg.IntegrityConstraintViolationError:
                    raise
                except BaseException as failure:
                    # Whether the commit happened cannot be known from here.
                    connection.terminate()
                    if isinstance(failure, Exception):
                        raise OutcomeUnknown(retry_after_s=1) from failure
                    raise
            elif isinstance(error, Exception) and not connection.is_closed():
                try:
                    await connection.execute("ROLLBACK")
                except BaseException:
                    connection.terminate()
            else:
                connection.terminate()
        finally:
            self._pool.release(connection)
        if error is not None:
            _explain(error)
        elif self._write is not None:
            self._db.committed(self._write)


class Savepoint:
    """A part of an open transaction that can be undone alone. One inside another undoes only itself."""

    __slots__ = ("_kept", "_tx")

    def __init__(self, tx: Write) -> None:
        self._tx = tx
        self._kept = 0

    async def __aenter__(self) -> Write:
        # The driver's own savepoints refuse a transaction that was begun by a statement.
        await self._run("SAVEPOINT part")
        self._kept = len(self._tx.left)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self._run("RELEASE SAVEPOINT part")
            return
        del self._tx.left[self._kept :]
        if isinstance(error, Exception) and not self._tx.connection.is_closed():
            await self._run("ROLLBACK TO SAVEPOINT part")
        _explain(error)

    async def _run(self, statement: str) -> None:
        self._tx.count()
        try:
            await self._tx.connection.execute(statement)
        except Exception as error:
            _explain(error)
            raise


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(5):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _acquire(pool: Pool) -> Connection:
    try:
        return await pool.acquire()
    except (*LOST, TimeoutError) as error:
        raise Unavailable(retry_after_s=1) from error


def _discard_if_unsure(connection: Connection, error: BaseException) -> None:
    """After a cancellation the connection may still be busy with somebody's rows: close it."""
    if not isinstance(error, Exception) or isinstance(error, (*LOST, TimeoutError)):
        connection.terminate()


def _explain(error: BaseException) -> None:
    """Turn what the driver raised into what the caller can act on; anything else goes on as it is."""
    if isinstance(error, AGAIN):
        raise Retryable from error
    if isinstance(error, (*LOST, *BUSY)):
        raise Unavailable(retry_after_s=1) from error


async def open_db(url: str, *, read_url: str | None = None, size: int = 10) -> Db:
    """Open the pools. Raises what the driver raises when the database cannot be reached."""

    async def pool(dsn: str, **extra: str) -> Pool:
        async def connect() -> Connection:
            return await asyncpg.connect(
                dsn,
                timeout=WAIT_S,
                command_timeout=10,
                server_settings=SESSION | extra,
                connection_class=Connection,
            )

        opened = Pool(connect, size)
        try:
            opened.release(await opened.acquire())
        except BaseException:
            opened.terminate()
            raise
        return opened

    reads = await pool(read_url or url, default_transaction_read_only="on")
    try:
        writes = await pool(url)
    except BaseException:
        reads.terminate()
        raise
    return Db(reads, writes)
