"""What a person can do with a community: one function each. Rules first, in the order of the refusals."""

import msgspec
from msgspec import UNSET

from guildhall import outbox
from guildhall.communities import queries
from guildhall.communities.schemas import CreateCommunity, UpdateCommunity
from guildhall.db import Duplicate, Write, new_id
from guildhall.errors import Conflict
from guildhall.spaces import audit, members, news, notices, slugs
from guildhall.spaces.jobs import SpaceChanged
from guildhall.spaces.rules import May, require
from guildhall.spaces.seats import CommunitySeat, absence, resolve
from guildhall.web.caller import Caller, explain_absence

MAX_OWNED = 100


class TooManyCommunities(Conflict):
    code = "too_many_communities"
    title = f"One person owns at most {MAX_OWNED} communities. Hand one over or delete one first."


async def create(tx: Write, caller: Caller, wanted: CreateCommunity) -> queries.Row:
    """Make a community with the caller as its owner. Raises SlugTaken, TooManyCommunities."""
    owned = await queries.lock_owner(tx, caller)
    if owned is None:
        raise await explain_absence(tx, caller)
    if wanted.slug in slugs.RESERVED:
        raise slugs.SlugTaken
    if owned >= MAX_OWNED:
        raise TooManyCommunities
    space_id = new_id()
    slug = wanted.slug or slugs.derive(wanted.name, "-community")
    if wanted.slug is None and slug in slugs.RESERVED:
        slug = slugs.vary(slug)
    fields = (caller.user, wanted.name)
    rest = (wanted.description or None, wanted.is_private)
    made = await queries.insert_community(tx, space_id, *fields, slug, *rest)
    if made is None and wanted.slug is None:
        made = await queries.insert_community(tx, space_id, *fields, slugs.vary(slug), *rest)
    if made is None:
        raise slugs.SlugTaken
    await audit.record(tx, caller, "community.create", space=space_id, after={"isPrivate": wanted.is_private})
    await outbox.put(tx, SpaceChanged(space_id=space_id))
    return made


async def update(tx: Write, caller: Caller, seat: CommunitySeat, wanted: UpdateCommunity) -> queries.Row:
    """Change what is given. Raises SlugTaken."""
    changes = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not UNSET}
    if "slug" in changes:
        slug = changes["slug"]
        if slug in slugs.RESERVED or not await queries.is_slug_free(tx, seat, slug):
            raise slugs.SlugTaken
    if changes.get("description") == "":
        changes["description"] = None
    if not changes:
        return await queries.read_community(tx, seat)
    try:
        changed = await queries.update_community(tx, seat, changes)
    except Duplicate as error:
        # Somebody else took it since we looked.
        raise slugs.SlugTaken from error
    if changed.is_private != changed.was_private:
        await audit.record(
            tx,
            caller,
            "community.visibility",
            space=seat.space,
            before={"isPrivate": changed.was_private},
            after={"isPrivate": changed.is_private},
        )
    await outbox.put(tx, SpaceChanged(space_id=seat.space))
    return changed


async def delete(tx: Write, caller: Caller, seat: CommunitySeat) -> None:
    """Delete the community with all that is in it. Raises Forbidden."""
    require(seat, May.DELETE)
    await notices.close_all(tx, caller.user, seat.space)
    await queries.delete_community(tx, seat)
    await audit.record(tx, caller, "community.delete", space=seat.space)
    await outbox.put(tx, SpaceChanged(space_id=seat.space))


async def join(tx: Write, caller: Caller, raw_id: str) -> tuple[members.Member, bool]:
    """Become a member of a public community; True when that is new. Raises NotFound for a private one."""
    space_id = await resolve(tx, caller, raw_id)
    found = await tx.maybe(
        _Joining,
        "SELECT user_id, kind, is_private, role FROM lock_space($1, $2, $3, $4)",
        *caller.me,
        space_id,
    )
    if found is None:
        raise await explain_absence(tx, caller)
    if found.kind != "community" or (found.role is None and found.is_private):
        raise absence(None)
    new = await members.add(tx, space_id, "community", found.user_id, "member")
    if new:
        await audit.record(tx, caller, "member.join", space=space_id, target=found.user_id)
        await outbox.put(tx, SpaceChanged(space_id=space_id))
        joined = news.Joined(kind="community", space=space_id, user=found.user_id, role="member")
        await news.announce(tx, caller, joined)
    return await members.member(tx, space_id, found.user_id), new


class _Joining(msgspec.Struct, frozen=True):
    user_id: str
    kind: str | None
    is_private: bool | None
    role: str | None
