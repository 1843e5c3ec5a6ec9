"""What an operator does for, and to, single people."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from guildhall.commands import DataDir, Problem, current_database, operating, own_name
from guildhall.settings import Settings

if TYPE_CHECKING:
    from guildhall.db import Write
    from guildhall.users.accounts import Status

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
    with current_database(data_dir, make=True) as settings:
        if settings.identity is not None:
            raise Problem("Sessions come from Clerk here; only the embedded issuer gives tokens by hand.")
        print(asyncio.run(_token(settings, email, name, hours)))


async def _token(settings: Settings, email: str, name: str | None, hours: int) -> str:
    from guildhall.instance import embedded_issuer, instance_keys
    from guildhall.users.sign_in import AccountDisabled, issue_session, person_with

    keys = instance_keys(settings)
    issuer = embedded_issuer(keys)
    async with operating(settings) as db:
        try:
            async with db.writing() as tx:
                user_id = await person_with(tx, issuer.issuer, email, name=name or UNNAMED)
                lifetime = timedelta(hours=hours)
                issued = await issue_session(
                    tx, issuer, keys, user_id, label=LABEL, lifetime=lifetime, bare=True
                )
        except AccountDisabled:
            raise Problem(
                f"The account of {email} is disabled. Run: {own_name()} users enable {email}"
            ) from None
    return issued.token


users = App(name="users", help="Disable or enable a person's account.")

Who = Annotated[str, Parameter(help="The person's address or id.")]


@users.command
def disable(who: Who, /, *, data_dir: DataDir = None) -> None:
    """Close an account: it is refused from its next request on, and at the chat service too.

    What the person wrote and owns stays. Works while the service runs.
    """
    _set_status(data_dir, who, "disabled")


@users.command
def enable(who: Who, /, *, data_dir: DataDir = None) -> None:
    """Open an account again. The person signs in anew."""
    _set_status(data_dir, who, "active")


def _set_status(data_dir: Path | None, who: str, status: "Status") -> None:
    with current_database(data_dir) as settings:
        user_id = asyncio.run(_change_status(settings, who, status))
    print(f"The account {user_id} is {'closed' if status == 'disabled' else 'open'}.")


async def _change_status(settings: Settings, who: str, status: "Status") -> str:
    from guildhall.users.accounts import set_status

    async with operating(settings) as db, db.writing() as tx:
        user_id = await _find(tx, who)
        await set_status(tx, user_id, status)
    return user_id


async def _find(tx: "Write", who: str) -> str:
    """The id of the person meant. Raises Problem when it is nobody, or could be several."""
    tx.count()
    rows = await tx.connection.fetch(
        "SELECT id FROM users WHERE status <> 'erased' AND (id = $1"
        ' OR (email_verified AND email_key = lower($1::text COLLATE "C"))'
        ' OR id = (SELECT user_id FROM email_logins WHERE email_key = lower($1::text COLLATE "C")))'
        " ORDER BY id",
        who,
    )
    ids = [str(row["id"]) for row in rows]
    if not ids:
        raise Problem(f"Nobody has the address or id {who}.")
    if len(ids) > 1:
        raise Problem(f"Several accounts have the address {who}. Say which, by its id: {', '.join(ids)}")
    return ids[0]
