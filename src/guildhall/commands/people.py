"""What an operator does for, and to, single people."""

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from guildhall.commands import DataDir, Problem, current_database
from guildhall.settings import Settings

if TYPE_CHECKING:
    from guildhall.db import Write
    from guildhall.providers.identity.sessions import SessionIssuer

_ADDRESS = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
LABEL = "operator"
UNNAMED = "New member"


def token(
    *,
    email: Annotated[
        str, Parameter(help="The person's address; taken as verified, since the operator says so.")
    ],
    name: Annotated[str | None, Parameter(help="The name of a person who is made now.")] = None,
    hours: Annotated[int, Parameter(help="How long the session lasts.")] = 24,
    data_dir: DataDir = None,
) -> None:
    """Print a session token for the person with this address: to be sent as `Authorization: Bearer …`.

    Somebody unknown is made, with the address verified. Standard output holds the token and nothing else. It
    works while the service runs, and before its first start.
    """
    if _ADDRESS.fullmatch(email) is None:
        raise Problem(f"{email} is not an e-mail address.")
    if not 1 <= hours <= 24 * 365:
        raise Problem("--hours is from 1 to 8760.")
    with current_database(data_dir) as settings:
        if settings.identity is not None:
            raise Problem("Sessions come from Clerk here; only the embedded issuer gives tokens by hand.")
        print(asyncio.run(_token(settings, email, name, hours)))


async def _token(settings: Settings, email: str, name: str | None, hours: int) -> str:
    from guildhall.db import open_db
    from guildhall.instance import embedded_issuer, instance_keys

    issuer = embedded_issuer(instance_keys(settings))
    assert settings.database.url is not None
    db = await open_db(settings.database.url, size=2)
    try:
        async with db.writing() as tx:
            user_id = await find_or_make(tx, issuer, email, name or UNNAMED)
            return await open_session(tx, issuer, user_id, hours)
    finally:
        await db.close()


async def find_or_make(tx: "Write", issuer: "SessionIssuer", email: str, name: str) -> str:
    """The id of the person who signs in with this address; somebody unknown is made, and verified."""
    # Of two commands at once one makes the person; the other waits for it here.
    await tx.run("SELECT pg_advisory_xact_lock(hashtextextended('email:' || lower($1), 0))", email)
    user_id = await tx.value(
        'SELECT user_id FROM email_logins WHERE email_key = lower($1::text COLLATE "C")', email
    )
    if user_id is not None:
        return user_id
    user_id = f"user_{secrets.token_hex(12)}"
    await tx.run(
        "INSERT INTO users (id, issuer, display_name, email, email_verified) VALUES ($1, $2, $3, $4, true)",
        user_id,
        issuer.issuer,
        name,
        email,
    )
    await tx.run(
        'INSERT INTO email_logins (email_key, user_id) VALUES (lower($1::text COLLATE "C"), $2)',
        email,
        user_id,
    )
    return user_id


async def open_session(tx: "Write", issuer: "SessionIssuer", user_id: str, hours: int) -> str:
    """The token of a new session of this person."""
    session_id = f"sess_{secrets.token_hex(12)}"
    await tx.run(
        "INSERT INTO sessions (id, user_id, label, expires_at)"
        " VALUES ($1, $2, $3, now() + make_interval(hours => $4))",
        session_id,
        user_id,
        LABEL,
        hours,
    )
    return issuer.issue(user_id, session_id, now=time.time(), lifetime_s=hours * 3600)


users = App(name="users", help="Disable or enable a person's account.")
