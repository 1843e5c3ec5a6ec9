"""What a person, or a key, can do with keys and agents: one function each."""

from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from guildhall.access_keys import queries, rules, secrets
from guildhall.access_keys.schemas import CreateKey, UpdateAgent, UpdateKey
from guildhall.db import Write, new_id
from guildhall.errors import Forbidden, InvalidRequest, NotFound
from guildhall.events.event import tell_user
from guildhall.spaces import audit
from guildhall.spaces.seats import as_uuid
from guildhall.web.access import TrustLevel
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.wire import MAX_ICON, tidy, tidy_icon


class _Terms(msgspec.Struct, frozen=True):
    name: str
    scopes: list[str]
    atoms: frozenset[str]
    hubs: list[UUID] | None
    trust_level: TrustLevel
    agent: str | None
    standalone: bool
    days: int | None


async def create(tx: Write, caller: Caller, wanted: CreateKey) -> tuple[queries.Key, str]:
    """Make a key; answers it with its text, which is kept nowhere.

    A key makes only weaker ones, for the same agent, that end with it.
    Raises InvalidRequest, InvalidPermissions, InvalidTrustLevel, Forbidden, TooManyKeys, TooManyRequests.
    """
    if not await queries.lock_me(tx, caller):
        raise await explain_absence(tx, caller)
    maker = None if caller.access is None else await queries.read_maker(tx, caller.access)
    terms = _read_terms(wanted, maker)
    if terms.hubs is not None:
        await _check_hubs(tx, caller, terms.hubs)
    if await queries.count_live(tx, caller.user) >= rules.MAX_KEYS:
        raise rules.TooManyKeys
    await caller.service.limiter.take_exact(tx, ("keys by a user", caller.user))
    if terms.agent is not None:
        await queries.know_agent(tx, new_id(), caller.user, terms.agent, rules.title_of(terms.agent))
    key = secrets.make()
    row = await queries.insert_key(
        tx,
        caller,
        queries.NewKey(
            id=new_id(),
            name=terms.name,
            prefix=key[: secrets.PREFIX_CHARACTERS],
            key_hash=secrets.digest(key),
            scopes=terms.scopes,
            atoms=sorted(terms.atoms),
            hubs=terms.hubs,
            trust_level=terms.trust_level,
            agent_name=terms.agent,
            standalone=terms.standalone,
            expires_in_days=terms.days,
        ),
    )
    if row is None:
        raise await explain_absence(tx, caller)
    after = {"atoms": row.atoms, "hubs": [str(hub) for hub in row.hubs] if row.limited else None}
    await audit.record(tx, caller, "key.create", target=row.id, after=after)
    _tell(tx, caller, "key.changed", str(row.id), "created")
    if terms.agent is not None:
        _tell(tx, caller, "agent.changed", terms.agent, "upserted")
    return row, key


def _tell(
    tx: Write, caller: Caller, kind: Literal["key.changed", "agent.changed"], entity: str, state: str
) -> None:
    tell_user(tx, caller.user, kind, actor=caller.user, entity_id=entity, state=state)


def _read_terms(wanted: CreateKey, maker: queries.Maker | None) -> _Terms:
    """What a key is to be. What a key makes is for its own hubs and its own agent, unless for fewer."""
    name = tidy(wanted.name or "")
    if not name or len(name) > rules.MAX_NAME:
        raise InvalidRequest(f"A key has a name of 1 to {rules.MAX_NAME} characters.")
    if wanted.expires_in_days is not None and not 1 <= wanted.expires_in_days <= rules.MAX_DAYS:
        raise InvalidRequest(f"expires_in_days is from 1 to {rules.MAX_DAYS}; leave it out for none.")
    agent = rules.read_agent(wanted.agent_name) if wanted.agent_name else None
    if agent is not None and wanted.standalone:
        raise InvalidRequest("A key that is for an agent does not stand alone.")
    hubs = _read_hubs(wanted)
    words = [*(wanted.scopes or []), *(wanted.permissions or [])]
    atoms = rules.atoms_of(words or rules.DEFAULT_SCOPES)
    if maker is not None:
        hubs = maker.access.hubs if hubs is None else hubs
        atoms = atoms if words else atoms & maker.access.atoms
    if hubs is not None:
        atoms -= rules.PERSONAL
    access = None if maker is None else maker.access
    if wanted.trust_level is None:
        trust = rules.default_trust(hubs, access)
    else:
        trust = rules.read_trust(wanted.trust_level)
    if maker is not None:
        rules.check_weaker(maker.access, atoms, hubs, trust)
        if maker.agent_name is not None:
            if agent not in (None, maker.agent_name) or wanted.standalone:
                raise Forbidden("A key that is for an agent makes only keys for the same one.")
            agent = maker.agent_name
    return _Terms(
        name,
        rules.scopes_of(words or rules.DEFAULT_SCOPES, atoms),
        atoms,
        None if hubs is None else list(hubs),
        trust,
        agent,
        bool(wanted.standalone),
        wanted.expires_in_days,
    )


def _read_hubs(wanted: CreateKey) -> list[UUID] | None:
    """The hubs named, None for no limit. An empty list is a mistake, which must not open everything."""
    if wanted.hub_ids is not None and not wanted.hub_ids and not wanted.hub_id:
        raise InvalidRequest("hub_ids names no hub. Leave it out for a key to all of them.")
    named = [*([wanted.hub_id] if wanted.hub_id else []), *(wanted.hub_ids or [])]
    if not named:
        return None
    if len(named) > rules.MAX_HUBS:
        raise InvalidRequest(f"A key is for at most {rules.MAX_HUBS} hubs.")
    hubs = [as_uuid(raw) for raw in dict.fromkeys(named)]
    known = [hub for hub in hubs if hub is not None]
    if len(known) != len(hubs):
        raise Forbidden("You are not in all of these hubs.")
    return known


async def _check_hubs(tx: Write, caller: Caller, hubs: list[UUID]) -> None:
    if await queries.count_own_hubs(tx, caller.user, hubs) != len(hubs):
        raise Forbidden("You are not in all of these hubs.")


async def change(tx: Write, caller: Caller, raw_id: str, wanted: UpdateKey) -> tuple[UUID, str | None, bool]:
    """Say which agent a key is for, or that it stands alone. Raises NotFound, InvalidRequest."""
    key_id = as_uuid(raw_id)
    if not await queries.lock_me(tx, caller):
        raise await explain_absence(tx, caller)
    if wanted.agent_name is UNSET and wanted.standalone is UNSET:
        raise InvalidRequest("There is nothing to change.")
    agent = rules.read_agent(wanted.agent_name) if wanted.agent_name else None
    standalone = wanted.standalone is True
    if agent is not None and standalone:
        raise InvalidRequest("A key that is for an agent does not stand alone.")
    # Naming an agent ends standing alone, and the other way round; anything else changes only what is sent.
    held = None if key_id is None else await queries.find_key(tx, caller, key_id)
    if held is None:
        raise NotFound("No such key.")
    if wanted.agent_name is UNSET and not standalone:
        agent = held.agent_name
    if wanted.standalone is UNSET and agent is None:
        standalone = held.standalone
    await queries.change_key(tx, held.id, agent, standalone)
    if agent is not None:
        await queries.know_agent(tx, new_id(), caller.user, agent, rules.title_of(agent))
        _tell(tx, caller, "agent.changed", agent, "upserted")
    after = {"agent": agent, "standalone": standalone}
    await audit.record(tx, caller, "key.change", target=held.id, after=after)
    _tell(tx, caller, "key.changed", str(held.id), "updated")
    return held.id, agent, standalone


async def revoke(tx: Write, caller: Caller, raw_id: str) -> bool:
    """End a key, and those made with it; False when there is no such key. Raises Forbidden.

    A key ends itself and no other.
    """
    key_id = as_uuid(raw_id)
    if not await queries.lock_me(tx, caller):
        raise await explain_absence(tx, caller)
    if caller.access is not None and caller.access.id != key_id:
        raise Forbidden("A key may revoke itself only.")
    return key_id is not None and await _revoke(tx, caller, key_id) > 0


async def _revoke(tx: Write, caller: Caller, key_id: UUID) -> int:
    gone = await queries.revoke_key(tx, caller.user, key_id)
    for key in gone:
        await audit.record(tx, caller, "key.revoke", target=key.id)
        _tell(tx, caller, "key.changed", str(key.id), "revoked")
    return len(gone)


async def change_agent(tx: Write, caller: Caller, name: str, wanted: UpdateAgent) -> queries.Agent:
    """Change how an agent is shown. Raises NotFound, InvalidRequest."""
    if await queries.find_agent(tx, caller, name) is None:
        raise await _no_agent(tx, caller)
    display_name = None if wanted.display_name is None else tidy(wanted.display_name)
    if wanted.display_name is not None and not (display_name and len(display_name) <= rules.MAX_NAME):
        raise InvalidRequest(f"display_name has 1 to {rules.MAX_NAME} characters.")
    icon = None if wanted.icon is None else tidy_icon(wanted.icon)
    if wanted.icon is not None and icon is None:
        raise InvalidRequest(f"An icon has at most {MAX_ICON} characters, such as one emoji.")
    await queries.change_agent(tx, caller, name, display_name, icon)
    row = await queries.find_agent(tx, caller, name)
    if row is None:
        raise await _no_agent(tx, caller)
    _tell(tx, caller, "agent.changed", name, "upserted")
    return row


async def _no_agent(tx: Write, caller: Caller) -> Exception:
    if await tx.value("SELECT true FROM me($1, $2, $3)", *caller.me) is None:
        return await explain_absence(tx, caller)
    return NotFound("No such agent.")


async def disconnect_agent(tx: Write, caller: Caller, name: str) -> int | None:
    """Revoke all keys of an agent and forget it; answers how many, None when there is no such agent."""
    if not await queries.lock_me(tx, caller):
        raise await explain_absence(tx, caller)
    keys = await queries.list_keys_of_agent(tx, caller.user, name)
    revoked = 0
    for key in keys:
        revoked += await _revoke(tx, caller, key.id)
    known = await queries.forget_agent(tx, caller.user, name)
    if not known and not keys:
        return None
    await audit.record(tx, caller, "agent.disconnect", target=name, after={"keys": revoked})
    _tell(tx, caller, "agent.changed", name, "disconnected")
    return revoked
