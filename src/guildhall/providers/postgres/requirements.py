"""What a PostgreSQL server has to be for us to work with it, told in words."""

import contextlib
from collections.abc import AsyncGenerator
from typing import TypeAlias

import asyncpg

from guildhall.providers.postgres.errors import DatabaseToolError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

OLDEST = 15
# Half vectors came with 0.7; with this, indexes that are walked on until enough is found.
OLDEST_VECTOR = (0, 8)


@contextlib.asynccontextmanager
async def connect(url: str) -> AsyncGenerator[Connection]:
    """A connection for a moment. Raises DatabaseToolError, which does not quote the address."""
    try:
        connection = await asyncpg.connect(url, timeout=10)
    except TimeoutError:
        raise DatabaseToolError("The database server does not answer.") from None
    except OSError as error:
        raise DatabaseToolError(
            f"The database server cannot be reached: {error.strerror or error}"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseToolError(f"The database server does not let us in: {error}") from error
    try:
        yield connection
    finally:
        connection.terminate()


async def server_version(url: str) -> str:
    """As people say it: 18.4. Raises DatabaseToolError."""
    async with connect(url) as connection:
        return str(await connection.fetchval("SHOW server_version"))


async def find_problems(owner_url: str, app_url: str | None = None) -> list[str]:
    """What keeps the server from being ours, one sentence each with what to do; empty when all is well."""
    try:
        async with connect(owner_url) as connection:
            found = await _problems_of_the_server(connection)
        if app_url is not None and app_url != owner_url:
            async with connect(app_url) as connection:
                found += await _problems_of_the_role(connection)
    except DatabaseToolError as error:
        return [error.message]
    return found


async def _problems_of_the_server(connection: Connection) -> list[str]:
    found: list[str] = []
    version = str(await connection.fetchval("SHOW server_version"))
    if connection.get_server_version().major < OLDEST:
        found.append(f"The server is PostgreSQL {version}; {OLDEST} or newer is needed.")
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        found.append(f"The database is encoded as {encoding}; create it again with ENCODING 'UTF8'.")
    found += await _problems_with_vector(connection)
    for setting, risk in (
        ("fsync", "a crash of the machine can ruin the whole database"),
        ("synchronous_commit", "a crash can lose what was already confirmed"),
        ("full_page_writes", "a crash of the machine can ruin pages of the database"),
    ):
        if await connection.fetchval("SELECT current_setting($1)", setting) == "off":
            found.append(f"The server's setting {setting} is off, so {risk}; turn it on.")
    return found


async def _problems_with_vector(connection: Connection) -> list[str]:
    row = await connection.fetchrow(
        "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
    )
    if row is None:
        return ["The server has no pgvector; install that extension's package for this PostgreSQL."]
    version = str(row["installed_version"] or row["default_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VECTOR:
        return [f"pgvector is {version}; {'.'.join(map(str, OLDEST_VECTOR))} or newer is needed."]
    if row["installed_version"] is not None:
        return []
    may = await connection.fetchval(
        "SELECT rolsuper OR coalesce((SELECT bool_or(trusted) FROM pg_available_extension_versions"
        " WHERE name = 'vector'), false) AND has_database_privilege(current_database(), 'CREATE')"
        " FROM pg_roles WHERE rolname = current_user"
    )
    if may:
        return []
    return ["pgvector is not yet in this database; let a superuser run CREATE EXTENSION vector in it."]


async def _problems_of_the_role(connection: Connection) -> list[str]:
    row = await connection.fetchrow(
        "SELECT rolname, rolsuper, rolbypassrls,"
        # A superuser may own the catalog, whose numbers are lower.
        " EXISTS (SELECT FROM pg_class AS c WHERE relowner = pg_roles.oid AND c.oid >= 16384"
        "            AND relkind IN ('r', 'p')) AS owns"
        " FROM pg_roles WHERE rolname = current_user"
    )
    assert row is not None
    role = row["rolname"]
    found: list[str] = []
    if row["rolsuper"]:
        found.append(f"The application's role {role} is a superuser; give it a role of its own without that.")
    elif row["rolbypassrls"]:
        found.append(f"The application's role {role} has BYPASSRLS; take that from it.")
    if row["owns"]:
        found.append(f"The application's role {role} owns tables; let another role own and migrate them.")
    return found
