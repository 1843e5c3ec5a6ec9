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
        "INSERT INTO audit (action, actor, acting_as, key_id, space_id, target, before, after, request_id)"
        " SELECT $1, $2, coalesce($3, 'agent ' || k.agent_name, 'key ' || k.prefix), k.id,"
        "  $4, $5, $6::jsonb, $7::jsonb, $8"
        " FROM (SELECT) AS one LEFT JOIN api_keys k ON k.id = $9",
        action,
        by.user if isinstance(by, Caller) else None,
        by.actor if isinstance(by, Caller) else None,
        space,
        None if target is None else str(target),
        _json(before),
        _json(after),
        None if by is None else by.request_id,
        by.access.id if isinstance(by, Caller) and by.access is not None else None,
    )


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
