"""`/v1/auth/api-keys` and `/v1/agents`."""

from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.access_keys import actions, queries, rules
from guildhall.access_keys.schemas import (
    Agent,
    CreatedKey,
    CreateKey,
    DisconnectedAgent,
    ListedKey,
    RevokedKey,
    Skipped,
    UpdateAgent,
    UpdatedKey,
    UpdateKey,
    created,
    listed,
)
from guildhall.errors import Forbidden, InvalidRequest, NotFound
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, check_alive, read_body
from guildhall.web.docs import facts
from guildhall.web.wire import Data


@post(
    "/v1/auth/api-keys",
    summary="Make an API key",
    opt=facts(
        Forbidden,
        InvalidRequest,
        rules.InvalidPermissions,
        rules.InvalidTrustLevel,
        rules.TooManyKeys,
        atom="any",
    ),
)
async def create_key(caller: NamedDependency[Caller], data: Sent[CreateKey]) -> Data[CreatedKey]:
    """The key is shown this once. What a key makes may no more than itself, and ends with it."""
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        row, key = await actions.create(tx, caller, wanted)
    return Data(created(row, key))


@get("/v1/auth/api-keys", summary="List one's API keys", opt=facts(atom="any"))
async def list_keys(caller: NamedDependency[Caller]) -> Data[list[ListedKey]]:
    """A key is shown itself, and those that were made with it."""
    async with caller.db.reading() as read:
        rows = await queries.list_keys(read, caller)
        if not rows:
            await check_alive(read, caller)
    return Data([listed(row) for row in rows])


@patch(
    "/v1/auth/api-keys/{key_id:str}",
    summary="Say which agent an API key is for",
    opt=facts(NotFound, InvalidRequest),
)
async def change_key(caller: NamedDependency[Caller], key_id: str, data: Sent[UpdateKey]) -> Data[UpdatedKey]:
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        key, agent, standalone = await actions.change(tx, caller, key_id, wanted)
    return Data(UpdatedKey(id=key, agent_name=agent, standalone=standalone))


@delete(
    "/v1/auth/api-keys/{key_id:str}",
    status_code=200,
    summary="Revoke an API key",
    opt=facts(Forbidden, atom="any"),
)
async def revoke_key(caller: NamedDependency[Caller], key_id: str) -> Data[RevokedKey]:
    """Those that were made with it end too. A key may revoke itself only."""
    async with caller.db.writing() as tx:
        revoked = await actions.revoke(tx, caller, key_id)
    skipped = [] if revoked else [Skipped(id=key_id, reason="not_found")]
    return Data(RevokedKey(revoked=revoked, skipped=skipped))


@get("/v1/agents", summary="List one's agents", opt=facts(atom="any"))
async def list_agents(caller: NamedDependency[Caller]) -> Data[list[Agent]]:
    async with caller.db.reading() as read:
        rows = await queries.list_agents(read, caller)
        if not rows:
            await check_alive(read, caller)
    return Data([Agent.of(row) for row in rows])


@patch(
    "/v1/agents/{agent_name:str}",
    summary="Change how an agent is shown",
    opt=facts(NotFound, InvalidRequest),
)
async def change_agent(
    caller: NamedDependency[Caller], agent_name: str, data: Sent[UpdateAgent]
) -> Data[Agent]:
    wanted = await read_body(caller, data)
    async with caller.db.writing() as tx:
        row = await actions.change_agent(tx, caller, agent_name, wanted)
    return Data(Agent.of(row))


@delete(
    "/v1/agents/{agent_name:str}",
    status_code=200,
    summary="Revoke all keys of an agent",
    opt=facts(),
)
async def disconnect_agent(caller: NamedDependency[Caller], agent_name: str) -> Data[DisconnectedAgent]:
    async with caller.db.writing() as tx:
        revoked = await actions.disconnect_agent(tx, caller, agent_name)
    skipped = [] if revoked is not None else [Skipped(id=agent_name, reason="not_found")]
    return Data(
        DisconnectedAgent(
            disconnected=revoked is not None,
            keys_revoked=revoked or 0,
            configs_tombstoned=0,
            skipped=skipped,
        )
    )


ROUTES: list[HTTPRouteHandler] = [
    create_key,
    list_keys,
    change_key,
    revoke_key,
    list_agents,
    change_agent,
    disconnect_agent,
]
