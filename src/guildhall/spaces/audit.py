"""What was done with power: one record for each change, committed with it. Ids only, never names."""

from typing import Any
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.web.caller import Caller, Guest


async def record(
    tx: Write,
    by: Caller | Guest | None,
    action: str,
    *,
    space: UUID | None = None,
    target: str | UUID | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Note `action`, such as `member.remove`. `by` None is the operator. One round trip.

    Beside the person whose key it is stands the agent that acted, by the name it then has.
    """
    await tx.run(
        "SELECT note_audit($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9)",
        action,
        by.user if isinstance(by, Caller) else None,
        *(acting(by) if isinstance(by, Caller) else (None, None)),
        space,
        None if target is None else str(target),
        _json(before),
        _json(after),
        None if by is None else by.request_id,
    )


def acting(caller: Caller) -> tuple[str | None, UUID | None]:
    """Whom the identity provider let act in the caller's name, and the id of the key that they came with."""
    return caller.actor, None if caller.access is None else caller.access.id


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
