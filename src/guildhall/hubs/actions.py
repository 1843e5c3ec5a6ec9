"""What a person can do with a hub: one function each. Rules first, in the order of the refusals."""

from typing import Any

import msgspec
from msgspec import UNSET

from guildhall import outbox
from guildhall.db import Write, new_id
from guildhall.errors import AppError, NotFound
from guildhall.hubs import queries, rules
from guildhall.hubs.schemas import CreateHub, UpdateHub
from guildhall.spaces import audit, key_lists, members, news, notices, slugs
from guildhall.spaces.jobs import HubLanguageChanged, RemainsLeft, note_change
from guildhall.spaces.rules import AlreadyMember, HubRole, May, require
from guildhall.spaces.seats import HubSeat, as_user_id
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, explain_absence

FREE_TEAM = "hub_free_team"


async def create(tx: Write, caller: Caller, data: Sent[CreateHub]) -> str:
    """Make a team hub with the caller as its owner; answers it as JSON.

    Raises OwnershipCapExceeded, InvalidJson, MissingName, InvalidName, InvalidSlug, SlugTaken.
    """
    owner = await queries.lock_owned(tx, caller)
    if owner is None:
        raise await explain_absence(tx, caller)
    most = caller.service.most_owned_hubs
    if most is not None and owner.owned >= most:
        raise rules.OwnershipCapExceeded(
            details={"current_count": owner.owned, "limit": most, "plan": FREE_TEAM}
        )
    wanted = data.read()
    name = rules.clean_name(wanted.name)
    if name == "":
        raise rules.MissingName
    slug = wanted.slug or slugs.derive(name, "-hub")
    if not slugs.is_valid(slug):
        raise slugs.InvalidSlug.at("/slug")
    hub_id = new_id()
    hub = await queries.insert_hub(
        tx,
        hub_id,
        owner.user_id,
        name,
        slug,
        accent=rules.default_accent(personal=False),
        plan=FREE_TEAM,
        reserved_word=slug in slugs.RESERVED,
    )
    if hub is None:
        raise slugs.SlugTaken
    await audit.record(tx, caller, "hub.create", space=hub_id)
    await news.announce(tx, caller, news.Made(kind="hub", space=hub_id))
    return hub


async def update(tx: Write, caller: Caller, seat: HubSeat, wanted: UpdateHub) -> str:
    """Change what is given, all of it or nothing; answers the hub as JSON.

    Raises what `rules` says of each field, and SlugTaken.
    """
    changes = _changes(seat, wanted)
    settings = None
    if wanted.settings is not UNSET:
        rules.check_settings(wanted.settings)
        settings = msgspec.json.encode(wanted.settings).decode() if wanted.settings else None
    if not changes and settings is None:
        return await queries.read_hub(tx, seat.space)
    if (slug := changes.get("slug")) is not None and not await queries.claim_slug(
        tx, seat, slug, reserved_word=slug in slugs.RESERVED
    ):
        raise slugs.SlugTaken
    hub = await queries.update_hub(tx, seat.space, changes, settings)
    if "language" in changes:
        await outbox.put(tx, HubLanguageChanged(space_id=seat.space))
    fields = sorted({*changes, *(() if settings is None else ("settings",))})
    await audit.record(tx, caller, "hub.update", space=seat.space, after={"fields": fields})
    await news.announce(tx, caller, news.Changed(kind="hub", space=seat.space))
    return hub


def _changes(seat: HubSeat, wanted: UpdateHub) -> dict[str, Any]:
    """The columns to set. Slug first, as the contract has it."""
    changes: dict[str, Any] = {}
    if wanted.slug and wanted.slug != seat.slug:
        rules.check_shared(seat)
        if not slugs.is_valid(wanted.slug):
            raise slugs.InvalidSlug.at("/slug")
        changes["slug"] = wanted.slug
    if wanted.name is not UNSET and (name := rules.clean_name(wanted.name)):
        changes["name"] = name
    if wanted.icon is not UNSET:
        changes["icon"] = rules.clean_icon(wanted.icon)
    if wanted.accent is not UNSET:
        changes["accent"] = rules.clean_accent(wanted.accent, personal=seat.personal)
    if wanted.allow_contributor_topics is not UNSET:
        changes["allow_contributor_topics"] = wanted.allow_contributor_topics
    if wanted.allow_contributor_dreams is not UNSET:
        changes["allow_contributor_dreams"] = wanted.allow_contributor_dreams
    if wanted.contributor_delete_policy is not UNSET:
        changes["contributor_delete_policy"] = rules.check_delete_policy(wanted.contributor_delete_policy)
    if wanted.header_aurora_mode is not UNSET:
        changes["header_aurora_mode"] = rules.clean_header_mode(
            wanted.header_aurora_mode, personal=seat.personal
        )
    if wanted.language is not UNSET:
        changes["language"] = rules.check_language(wanted.language)
    return changes


async def delete(tx: Write, caller: Caller, seat: HubSeat) -> None:
    """Delete the hub with all that is in it. Raises Forbidden, PersonalHub."""
    require(seat, May.DELETE)
    rules.check_shared(seat)
    people = await queries.list_member_ids(tx, seat.space)
    await notices.close_all(tx, caller.user, seat.space)
    await key_lists.end_keys(tx, caller, seat.space)
    await queries.delete_hub(tx, seat.space)
    await outbox.put(tx, RemainsLeft())
    await audit.record(tx, caller, "hub.delete", space=seat.space)
    gone = news.Deleted(kind="hub", space=seat.space, name=seat.name, members=people)
    await news.announce(tx, caller, gone)


async def add_member(tx: Write, caller: Caller, seat: HubSeat, user: str, role: HubRole) -> None:
    """Make somebody a member without asking. Raises NotFound, AlreadyMember, MemberCapExceeded."""
    found = await queries.look_at(tx, seat, user) if as_user_id(user) else None
    if found is None or not (found.is_known or found.is_member):
        raise NotFound("No such person.")
    if found.is_member:
        raise AlreadyMember
    added = await members.add(tx, seat.space, "hub", user, role, most=caller.service.most_hub_members)
    if not added:
        raise AlreadyMember
    await audit.record(tx, caller, "member.add", space=seat.space, target=user, after={"role": role})
    await note_change(tx, "hub", seat.space)
    await news.announce(tx, caller, news.Joined(kind="hub", space=seat.space, user=user, role=role))


async def find_managed(
    tx: Write, seat: HubSeat, raw_user: str, owner_refusal: type[AppError]
) -> members.Member:
    """A member who is not the owner. Raises `owner_refusal`, NotFound."""
    if raw_user == seat.owner:
        raise owner_refusal
    user = as_user_id(raw_user)
    found = None if user is None else await members.find_member(tx, seat.space, user)
    if found is None:
        raise NotFound("No such member.")
    return found


async def leave(tx: Write, caller: Caller, seat: HubSeat) -> None:
    """Raises PersonalHub, LastOwnerDeleteRequired, OwnershipTransferRequired."""
    rules.check_shared(seat)
    if seat.role == "owner":
        raise rules.LastOwnerDeleteRequired if seat.members == 1 else rules.OwnershipTransferRequired
    await members.remove(tx, caller, seat, seat.user)


async def check_owned(tx: Write, caller: Caller) -> None:
    """Refuse to become the owner of one hub more than allowed. Raises OwnershipCapExceeded."""
    most = caller.service.most_owned_hubs
    if most is None:
        return
    owner = await queries.lock_owned(tx, caller)
    if owner is None:
        raise await explain_absence(tx, caller)
    if owner.owned >= most:
        raise rules.OwnershipCapExceeded(
            details={"current_count": owner.owned, "limit": most, "plan": FREE_TEAM}
        )
