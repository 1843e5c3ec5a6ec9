"""Making a channel match: reading who is there, and changing no more than what differs."""

from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec

from guildhall.providers.chat.values import (
    BATCH,
    MEMBER,
    ChannelWanted,
    ChatRejected,
    ChatUnavailable,
    batches,
    channel_path,
    check_role,
    check_user_id,
)
from guildhall.providers.chat.wire import CODE_INPUT, CODE_NOT_FOUND, Nothing, Wire

_MAX_SINGLED_OUT = 10


class Member(msgspec.Struct, frozen=True):
    user_id: str
    channel_role: str = MEMBER


class _Members(msgspec.Struct, frozen=True):
    members: list[Member]


class _Channel(msgspec.Struct, frozen=True):
    name: str | None = None
    image: str | None = None


class _ChannelState(msgspec.Struct, frozen=True):
    channel: _Channel


async def converge(wire: Wire, wanted: ChannelWanted) -> None:
    path = channel_path(wanted.type, wanted.id)
    for user_id, role in wanted.members.items():
        check_user_id(user_id)
        check_role(role)
    channel = await _get_or_create(wire, path, wanted)
    try:
        missing = await _settle_present(wire, path, wanted)
        coming = ((user, role) for user, role in wanted.members.items() if user in missing)
        unknown = await _add_members(wire, path, coming)
        await _settle_profile(wire, path, channel, wanted)
    except ChatRejected as error:
        if error.code != CODE_NOT_FOUND:
            raise
        # A deletion crossed us. Whoever asks again, with fresh rows, knows whether the channel should exist.
        raise ChatUnavailable("the channel was deleted meanwhile", 0.0) from None
    if unknown:
        raise _unknown_users(unknown)


async def open_channel(wire: Wire, wanted: ChannelWanted) -> None:
    path = channel_path(wanted.type, wanted.id)
    found = await _get_or_create(wire, path, wanted)
    await _settle_profile(wire, path, found, wanted)


async def place(wire: Wire, path: str, roles: Mapping[str, str | None]) -> None:
    leaving = [check_user_id(user) for user, role in roles.items() if role is None]
    staying = [(check_user_id(user), check_role(role)) for user, role in roles.items() if role is not None]
    for batch in batches(leaving):
        await _change_members(wire, path, "remove_members", batch)
    unknown = await _add_members(wire, path, staying)
    # Adding a present member is no error, but need not change their role.
    for batch in batches((user, role) for user, role in staying if user not in unknown):
        await _assign_roles(wire, path, batch)
    if unknown:
        raise _unknown_users(unknown)


async def member_pages(wire: Wire, channel_type: str, channel_id: str) -> AsyncIterator[list[Member]]:
    """The channel's members, at most BATCH at a time. Pages go by the last id seen, not by offset.

    Offsets shift when members leave between two pages, which skips people, and the service caps them.
    """
    ask: dict[str, object] = {
        "type": channel_type,
        "id": channel_id,
        "filter_conditions": {},
        "sort": [{"field": "user_id", "direction": 1}],
        "limit": BATCH,
    }
    last: str | None = None
    while True:
        payload = msgspec.json.encode(ask if last is None else {**ask, "user_id_gt": last}).decode()
        answer = await wire.call(
            "GET", "/members", _Members, query={"payload": payload}, what="listing members"
        )
        page = answer.members
        if page:
            yield page
        if len(page) < BATCH:
            return
        if page[-1].user_id == last:
            raise ChatRejected("a member list that does not advance")
        last = page[-1].user_id


async def _get_or_create(wire: Wire, path: str, wanted: ChannelWanted) -> _Channel:
    data: dict[str, object] = {"created_by_id": check_user_id(wanted.created_by), "name": wanted.name}
    if wanted.image is not None:
        data["image"] = wanted.image
    # An existing channel ignores `data`. Members come after the read, so that one path serves both cases and
    # a person the service does not know cannot keep the channel from being made.
    body = {"data": data, "state": False}
    found = await wire.call("POST", f"{path}/query", _ChannelState, body=body, what="opening a channel")
    return found.channel


async def _settle_present(wire: Wire, path: str, wanted: ChannelWanted) -> set[str]:
    """Remove those who should not be there and correct roles. Returns who is missing."""
    missing = set(wanted.members)
    strangers: list[str] = []
    misplaced: list[tuple[str, str]] = []
    async for page in member_pages(wire, wanted.type, wanted.id):
        for member in page:
            role = wanted.members.get(member.user_id)
            missing.discard(member.user_id)
            if role is None:
                strangers.append(member.user_id)
            elif role != member.channel_role:
                misplaced.append((member.user_id, role))
        # One page brings at most a batch, so less than one is ever left over.
        if len(strangers) >= BATCH:
            await _change_members(wire, path, "remove_members", strangers[:BATCH])
            del strangers[:BATCH]
    if strangers:
        await _change_members(wire, path, "remove_members", strangers)
    # Those who lose a rank come before those who gain one: a right must not outlive its reason.
    misplaced.sort(key=lambda placed: placed[1] != MEMBER)
    for batch in batches(misplaced):
        await _assign_roles(wire, path, batch)
    return missing


async def _settle_profile(wire: Wire, path: str, found: _Channel, wanted: ChannelWanted) -> None:
    change: dict[str, object] = {}
    named = {"name": wanted.name} if found.name != wanted.name else {}
    if wanted.image is None and found.image is not None:
        change["unset"] = ["image"]
    elif wanted.image is not None and wanted.image != found.image:
        named["image"] = wanted.image
    if named:
        change["set"] = named
    if change:
        await wire.call("PATCH", path, Nothing, body=change, what="renaming a channel")


async def _add_members(wire: Wire, path: str, placed: Iterable[tuple[str, str]]) -> list[str]:
    """Add everyone the service knows. Returns those it does not."""
    unknown: list[str] = []
    for batch in batches(placed):
        await _add_batch(wire, path, batch, unknown)
    return unknown


async def _add_batch(wire: Wire, path: str, batch: list[tuple[str, str]], unknown: list[str]) -> None:
    """One unknown person makes the service refuse the whole batch, so halve it until they stand alone."""
    try:
        await _change_members(wire, path, "add_members", _with_roles(batch))
    except ChatRejected as error:
        if error.code != CODE_INPUT:
            raise
        if len(unknown) >= _MAX_SINGLED_OUT:
            raise _unknown_users(unknown) from None
        if len(batch) == 1:
            unknown.append(batch[0][0])
            return
    else:
        return
    middle = len(batch) // 2
    await _add_batch(wire, path, batch[:middle], unknown)
    await _add_batch(wire, path, batch[middle:], unknown)


async def _assign_roles(wire: Wire, path: str, batch: list[tuple[str, str]]) -> None:
    try:
        await _change_members(wire, path, "assign_roles", _with_roles(batch))
    except ChatRejected as error:
        if error.code != CODE_INPUT:
            raise
        # Someone in it left since we looked. They are wanted, so they come back, and then all have a role.
        if unknown := await _add_members(wire, path, batch):
            raise _unknown_users(unknown) from None
    else:
        return
    try:
        await _change_members(wire, path, "assign_roles", _with_roles(batch))
    except ChatRejected as error:
        if error.code != CODE_INPUT:
            raise
        raise ChatUnavailable("members keep changing meanwhile", 0.0) from None


async def _change_members(wire: Wire, path: str, change: str, members: object) -> None:
    await wire.call("POST", path, Nothing, body={change: members}, what=f"changing members, {change}")


def _with_roles(placed: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"user_id": user, "channel_role": role} for user, role in placed]


def _unknown_users(user_ids: list[str]) -> ChatRejected:
    return ChatRejected("members it does not know", code=CODE_INPUT, user_ids=tuple(user_ids))
