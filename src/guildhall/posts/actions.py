"""What a person can do with a post. Rules first, in the order of the refusals."""

from msgspec import UNSET

from guildhall import outbox
from guildhall.db import Db, Read, Write, new_id
from guildhall.errors import AppError, Forbidden, Invalid, NotFound
from guildhall.posts import queries
from guildhall.posts.queries import Standing
from guildhall.posts.schemas import CreatePost, InFeed, UpdatePost
from guildhall.spaces import audit
from guildhall.spaces.jobs import blobs_unused
from guildhall.spaces.rules import May
from guildhall.spaces.seats import absence, as_uuid
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, explain_absence


class MayNotPin(Forbidden):
    code = "may_not_pin"
    title = "Only the community's owner, admins and moderators pin posts."


async def create(caller: Caller, data: Sent[CreatePost]) -> bytes:
    """Post; answers the post as JSON. One statement, which checks and writes.

    Raises NotFound, Forbidden, MayNotPin; Invalid only to those who may post there.
    """
    try:
        wanted = data.read()
    except Invalid:
        await _refuse_before(caller.db, caller, data)
        raise
    async with caller.db.single() as tx:
        made = await queries.insert_post(
            tx,
            caller,
            new_id(),
            space=wanted.community_id,
            group=wanted.group_id,
            title=wanted.title or None,
            content=wanted.content,
            attachments=wanted.attachments,
            is_pinned=wanted.is_pinned,
        )
        if made is None or made.body is None:
            raise await _why_not(tx, caller, made, wanted.group_id)
    return made.body


async def _refuse_before(db: Db, caller: Caller, data: Sent[CreatePost]) -> None:
    """Of a body with mistakes: refuse who may not post where it says, so that they learn nothing else."""
    async with db.reading() as read:
        try:
            where = data.part(InFeed)
        except Invalid:
            await check_alive(read, caller)
            return
        found = await queries.look_at_feed(read, caller, where.community_id, where.group_id)
        if found is None or not found.sees or (where.group_id is not None and found.group_role is None):
            raise await _why_not(read, caller, found, where.group_id)


async def _why_not(
    read: Read, caller: Caller, found: queries.Made | queries.FeedRow | None, group: str | None
) -> AppError:
    """Why nothing was posted, in the order of the refusals."""
    if found is None:
        return await explain_absence(read, caller)
    if found.role is None:
        return absence(found.is_private)
    if not found.sees:
        return NotFound()
    if group is not None and found.group_role is None:
        return Forbidden("Only people who belong to the group post in it. Join it first.")
    return MayNotPin()


async def lock(tx: Write, caller: Caller, raw_id: str) -> Standing:
    """Where the caller stands before the post, with its community locked. Raises NotFound."""
    post_id = as_uuid(raw_id)
    if post_id is None:
        raise NotFound
    found = await queries.lock_post(tx, caller, post_id)
    if isinstance(found, Standing):
        return found
    raise NotFound() if found else await explain_absence(tx, caller)


async def update(tx: Write, caller: Caller, standing: Standing, data: Sent[UpdatePost]) -> bytes:
    """Change what is given; answers the post as JSON. Raises Forbidden, MayNotPin."""
    if not standing.is_author and not standing.may(May.PIN):
        raise Forbidden("Only its author may change a post.")
    wanted = data.read()
    texts = (wanted.content, wanted.title, wanted.attachments)
    if not standing.is_author and any(value is not UNSET for value in texts):
        raise Forbidden("Only its author may change a post; you may pin it.")
    before = await queries.read_before(tx, standing)
    # A client that sends the whole post back changes nothing by it.
    if wanted.is_pinned not in (UNSET, before.is_pinned) and not standing.may(May.PIN):
        raise MayNotPin
    if wanted.attachments is not UNSET:
        gone = set(before.attachments).difference(wanted.attachments)
        await outbox.put(tx, *blobs_unused(caller.service.public_url, gone))
    return await queries.update_post(tx, standing, wanted)


async def delete(tx: Write, caller: Caller, standing: Standing) -> None:
    """Remove the post. Raises Forbidden."""
    if not standing.is_author and not standing.may(May.MODERATE):
        raise Forbidden("Only its author and the community's moderators may delete a post.")
    urls = await queries.delete_post(tx, standing)
    await audit.record(
        tx,
        caller,
        "post.delete",
        space=standing.space_id,
        target=standing.post_id,
        before={"authorId": standing.author_id},
    )
    await outbox.put(tx, *blobs_unused(caller.service.public_url, urls))
