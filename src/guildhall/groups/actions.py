"""What a person can do with a group: one function each. The group's community is locked in all of them."""

from uuid import UUID

import msgspec
from msgspec import UNSET

from guildhall import outbox
from guildhall.db import Read, Write, new_id
from guildhall.errors import Conflict, Forbidden, NotFound
from guildhall.groups import queries
from guildhall.groups.queries import Standing
from guildhall.groups.schemas import AddToGroup, CreateGroup, UpdateGroup
from guildhall.spaces import audit
from guildhall.spaces.jobs import SpaceChanged, blobs_unused
from guildhall.spaces.seats import CommunitySeat, as_uuid
from guildhall.web.caller import Caller, explain_absence

MAX_GROUPS = 500


class TooManyGroups(Conflict):
    code = "too_many_groups"
    title = f"A community has at most {MAX_GROUPS} groups. Delete one that is no longer used first."


class NotAMember(Conflict):
    code = "not_a_member"
    title = "Only a member of the community can be put into its groups. Invite this person first."


async def lock(tx: Write, caller: Caller, raw_id: str) -> Standing:
    """Where the caller stands before the group, with its community locked. Raises NotFound."""
    return await _known(tx, caller, await queries.lock_group(tx, caller, _id(raw_id)))


async def take(read: Read, caller: Caller, raw_id: str) -> Standing:
    """As `lock`, for reading."""
    return await _known(read, caller, await queries.take_group(read, caller, _id(raw_id)))


def _id(raw_id: str) -> UUID:
    group_id = as_uuid(raw_id)
    if group_id is None:
        raise NotFound
    return group_id


async def _known(read: Read, caller: Caller, found: Standing | bool) -> Standing:
    if isinstance(found, Standing):
        return found
    raise NotFound() if found else await explain_absence(read, caller)


def require_manager(standing: Standing) -> None:
    """Refuse all but the group's admins and the community's owner and admins."""
    if not standing.manages:
        raise Forbidden("Only the group's admins and the community's owner and admins may do this.")


async def create(tx: Write, caller: Caller, seat: CommunitySeat, wanted: CreateGroup) -> queries.Row:
    """Make a group whose first admin is the caller. Raises TooManyGroups."""
    if await queries.count_groups(tx, seat.space) >= MAX_GROUPS:
        raise TooManyGroups
    group_id = new_id()
    await queries.insert_group(
        tx, group_id, seat.space, seat.user, wanted.name, wanted.description or None, wanted.is_private
    )
    await audit.record(
        tx,
        caller,
        "group.create",
        space=seat.space,
        target=group_id,
        after={"isPrivate": wanted.is_private},
    )
    await outbox.put(tx, SpaceChanged(space_id=seat.space))
    return await queries.read_group(
        tx, Standing(seat.user, seat.space, seat.role, group_id, wanted.is_private, "admin")
    )


async def update(tx: Write, caller: Caller, standing: Standing, wanted: UpdateGroup) -> queries.Row:
    """Change what is given."""
    changes = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET}
    if changes.get("description") == "":
        changes["description"] = None
    if changes:
        await queries.update_group(tx, standing, changes)
        private = changes.get("is_private", standing.is_private)
        if private != standing.is_private:
            await audit.record(
                tx,
                caller,
                "group.visibility",
                space=standing.space_id,
                target=standing.group_id,
                before={"isPrivate": standing.is_private},
                after={"isPrivate": private},
            )
        await _changed(tx, standing)
    return await queries.read_group(tx, standing)


async def delete(tx: Write, caller: Caller, standing: Standing) -> None:
    """Delete the group with its posts and memberships."""
    urls = await queries.list_attachments(tx, standing)
    await queries.delete_group(tx, standing)
    await audit.record(tx, caller, "group.delete", space=standing.space_id, target=standing.group_id)
    await outbox.put(tx, *blobs_unused(caller.service.public_url, urls))
    await _changed(tx, standing)


async def add(
    tx: Write, caller: Caller, standing: Standing, wanted: AddToGroup
) -> tuple[queries.MemberRow, bool]:
    """Put somebody into the group; True when that is new. Raises NotAMember."""
    return await _add(tx, caller, standing, wanted.target_user_id, wanted.role, "group.member.add")


async def join(tx: Write, caller: Caller, standing: Standing) -> queries.Row:
    """Come into a public group. Raises Forbidden for a private one that the caller only sees."""
    if standing.is_private and standing.group_role is None:
        raise Forbidden("People are put into a private group by those who manage it.")
    await _add(tx, caller, standing, standing.user_id, "member", "group.member.join")
    return await queries.read_group(tx, standing)


async def _add(
    tx: Write, caller: Caller, standing: Standing, user: str, role: str, action: str
) -> tuple[queries.MemberRow, bool]:
    new = await queries.insert_group_member(tx, standing, user, role)
    if new is None:
        raise NotAMember
    if new:
        await _record(tx, caller, standing, action, user, after={"role": role})
        await _changed(tx, standing)
    row = await queries.find_group_member(tx, standing, user)
    assert row is not None
    return row, new


async def remove(tx: Write, caller: Caller, standing: Standing, user: str) -> None:
    """Take somebody out of the group, or leave it. Raises Forbidden, NotFound."""
    if user != standing.user_id:
        require_manager(standing)
    role = await queries.delete_group_member(tx, standing, user)
    if role is None:
        raise NotFound("No such member of the group.")
    action = "group.member.leave" if user == standing.user_id else "group.member.remove"
    await _record(tx, caller, standing, action, user, before={"role": role})
    await _changed(tx, standing)


async def _record(
    tx: Write,
    caller: Caller,
    standing: Standing,
    action: str,
    user: str,
    *,
    before: dict[str, str] | None = None,
    after: dict[str, str] | None = None,
) -> None:
    group = {"groupId": str(standing.group_id)}
    await audit.record(
        tx,
        caller,
        action,
        space=standing.space_id,
        target=user,
        before=None if before is None else group | before,
        after=None if after is None else group | after,
    )


async def _changed(tx: Write, standing: Standing) -> None:
    await outbox.put(tx, SpaceChanged(space_id=standing.space_id))
