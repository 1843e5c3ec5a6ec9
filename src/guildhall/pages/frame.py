"""What every page shows of the person who looks at it."""

from typing import Any

import msgspec

from guildhall.db import Read
from guildhall.web.caller import Caller, Guest, NotSynced, explain_absence
from guildhall.web.docs import facts


class Frame(msgspec.Struct, frozen=True):
    """Somebody signed in. `unseen` counts their inbox; `operator` says whether they run this server."""

    id: str
    display_name: str
    avatar_url: str | None
    email: str | None
    unseen: int
    operator: bool


# Who is signed in, where it cannot be read who that is.
SOMEBODY = Frame("", "", None, None, 0, operator=False)


async def read_frame(read: Read, caller: Caller) -> Frame | None:
    """None when the caller is nobody here."""
    return await read.maybe(
        Frame,
        "SELECT u.id, u.display_name, u.avatar_url, u.email,"
        " (SELECT count(*) FROM inbox($1, $2, $3) AS n"
        "   WHERE n.stored_status = 'pending' AND n.status = 'pending'"
        "     AND (n.bucket = 'action' OR n.seen_at IS NULL))::int AS unseen,"
        " u.email_verified AND lower(u.email) = ANY ($4) AS operator"
        " FROM me($1, $2, $3) AS asking JOIN users u ON u.id = asking.user_id",
        *caller.me,
        list(caller.service.operators),
    )


async def require_frame(read: Read, caller: Caller) -> Frame:
    """Raises what explains a caller who is nobody."""
    me = await read_frame(read, caller)
    if me is None:
        raise await explain_absence(read, caller)
    return me


async def frame_of(read: Read, guest: Guest) -> Frame | None:
    """Who looks at a page that is for everybody; None for nobody in particular.

    Raises NotSynced for somebody who is signed in elsewhere and was never here: their account is made first,
    since a page for guests would send them to sign in again.
    """
    if guest.caller is None:
        return None
    me = await read_frame(read, guest.caller)
    if me is None and isinstance(error := await explain_absence(read, guest.caller), NotSynced):
        raise error
    return me


def page_facts(*, limits: tuple[str, ...] = ()) -> dict[str, Any]:
    """The `opt` of a route that answers HTML."""
    return {**facts(limits=limits), "page": True}
