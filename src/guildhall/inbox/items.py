"""The items of a checklist in the inbox: looked at and done one by one."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, UnsetType

from guildhall.db import Write
from guildhall.errors import AppError, NotFound
from guildhall.inbox import actions, queries, rules
from guildhall.inbox.queries import Row
from guildhall.spaces.notices import tell
from guildhall.web.caller import Caller
from guildhall.web.docs import facts
from guildhall.web.wire import Data, OptionalV1

DONE_AS = "applied_auto"


class KindNotSupported(AppError):
    code = "kind_not_supported"
    title = "A notification of this kind has no items."


class ItemLocked(AppError):
    code = "item_locked"
    title = "Something else on the list comes before this."


class InvalidChecklistPayload(AppError):
    code = "invalid_checklist_payload"
    title = "This is a list of another form, which cannot be ticked off here."


class ItemNotFound(NotFound):
    code = "item_not_found"
    title = "The list has no such item."


class Item(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`after` names the item that has to be done first."""

    id: str
    title: str
    after: str | None = None
    viewed_at: str | None = None
    completed_at: str | None = None


class Checklist(msgspec.Struct, kw_only=True):
    version: int
    title: str
    items: list[Item]

    @property
    def progress(self) -> float:
        """From 0 to 1, by how many items are done."""
        return round(sum(item.completed_at is not None for item in self.items) / len(self.items), 4)


class ItemChanged(OptionalV1, frozen=True, kw_only=True):
    """`progress` is of the whole list, from 0 to 1. With the last item done, the list resolves itself."""

    item_id: Annotated[str, Meta(examples=["hub"])]
    viewed_at: str | UnsetType = UNSET
    completed_at: str | UnsetType = UNSET
    progress: float | UnsetType = UNSET
    auto_resolved: bool | UnsetType = UNSET
    auto_resolved_as: Annotated[str, Meta(examples=["applied_auto"])] | UnsetType = UNSET


async def _change(tx: Write, caller: Caller, raw_id: str, item_id: str, *, complete: bool) -> ItemChanged:
    row = await actions.find(tx, caller, raw_id)
    if row.kind != "checklist":
        raise KindNotSupported
    await tx.run("SELECT FROM notifications WHERE id = $1 FOR NO KEY UPDATE", row.id)
    # As it is now that nobody else changes it.
    row = await actions.find(tx, caller, raw_id)
    if row.status != "pending":
        raise rules.NotPending
    try:
        checklist = msgspec.json.decode(row.payload, type=Checklist)
    except msgspec.ValidationError as error:
        raise InvalidChecklistPayload from error
    item = next((item for item in checklist.items if item.id == item_id), None)
    if item is None:
        raise ItemNotFound
    done = {item.id for item in checklist.items if item.completed_at is not None}
    if complete and item.after is not None and item.after not in done:
        raise ItemLocked
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    before = (item.viewed_at, item.completed_at)
    item.viewed_at = item.viewed_at or now
    if complete:
        item.completed_at = item.completed_at or now
    resolved = checklist.progress == 1
    if before != (item.viewed_at, item.completed_at):
        await _keep(tx, caller, row, checklist, item, resolved=resolved)
    return ItemChanged(
        item_id=item.id,
        viewed_at=item.viewed_at,
        completed_at=item.completed_at or UNSET,
        progress=checklist.progress,
        auto_resolved=True if resolved else UNSET,
        auto_resolved_as=DONE_AS if resolved else UNSET,
    )


async def _keep(
    tx: Write, caller: Caller, row: Row, checklist: Checklist, item: Item, *, resolved: bool
) -> None:
    changed = await queries.keep_items(
        tx, row.id, msgspec.json.encode(checklist).decode(), DONE_AS if resolved else None
    )
    fields: dict[str, Any] = {
        "item_id": item.id,
        "item_viewed_at": item.viewed_at,
        "item_completed_at": item.completed_at,
        "item_progress": checklist.progress,
    }
    updated = msgspec.structs.replace(changed, resolution=None)
    tell(tx, caller.user, updated, change="item_updated", **fields)
    if resolved:
        tell(tx, caller.user, msgspec.structs.replace(changed, what="resolved"))


_REFUSALS = (NotFound, ItemNotFound, KindNotSupported, InvalidChecklistPayload, rules.NotPending)


@post(
    "/v1/notifications/{notification_id:str}/items/{item_id:str}/view",
    status_code=200,
    summary="Say that one has looked at an item of a checklist",
    opt=facts(*_REFUSALS, atom="dream:read"),
)
async def view_item(caller: NamedDependency[Caller], notification_id: str, item_id: str) -> Data[ItemChanged]:
    async with caller.db.writing() as tx:
        return Data(await _change(tx, caller, notification_id, item_id, complete=False))


@post(
    "/v1/notifications/{notification_id:str}/items/{item_id:str}/complete",
    status_code=200,
    summary="Say that an item of a checklist is done",
    opt=facts(*_REFUSALS, ItemLocked, atom="dream:read"),
)
async def complete_item(
    caller: NamedDependency[Caller], notification_id: str, item_id: str
) -> Data[ItemChanged]:
    async with caller.db.writing() as tx:
        return Data(await _change(tx, caller, notification_id, item_id, complete=True))


ROUTES: list[HTTPRouteHandler] = [view_item, complete_item]
