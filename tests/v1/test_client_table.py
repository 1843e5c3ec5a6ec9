"""Every call of the official client about hubs and people, as it makes it, over a real socket.

A row is what the client sends and the fields that it reads or types; each is tried on a hub of its own. The
answer must also be what the published document says.
"""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest
import pytest_asyncio

from guildhall.web.openapi import V1, describe
from guildhall.wiring import ROUTES
from tests.v1.client import Client, ClientError, listening
from tests.v1.test_sign_in import address, ask, led, mailed, signed_in
from tests.world import Person, World

DOCUMENT = describe(ROUTES, V1)
HUB = {"id", "name", "slug", "hub_type", "owner_id", "accent", "plan", "created_at", "updated_at"}
HUB |= {"allow_contributor_topics", "allow_contributor_dreams", "contributor_delete_policy"}
MEMBER = {"hub_id", "user_id", "role", "joined_at", "user_name", "user_email", "user_avatar_url"}
INVITE = {"id", "hub_id", "token", "invited_by", "role", "expires_at", "created_at"}
TRANSFER = {"id", "hub_id", "initiated_by", "target_user_id", "expires_at", "created_at"}

COUNTERS = {"needs_action_pending", "updates_pending", "updates_unseen", "by_kind"}
KEY = {"id", "name", "prefix", "scope", "hub_id", "hub_scope_mode", "default_permissions", "trust_level"}
KEY |= {"expires_at", "created_at"}
PAIR = {"access_token", "refresh_token", "expires_in"}
AGENT = {"id", "owner_id", "agent_name", "display_name", "icon", "status", "created_at", "updated_at"}
AGENT |= {"key_count", "config_count", "memory_count", "last_active_at"}
TOPIC = {"id", "owner_id", "hub_id", "parent_id", "name", "icon", "position", "pinned", "user_modified"}
TOPIC |= {"created_at", "updated_at", "activity_summary", "lifecycle"}


class Row(msgspec.Struct, frozen=True):
    """`path` names what the scene holds; `who` calls; `reads` are fields that must be there."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None
    status: int
    reads: set[str]
    who: str = "ada"


ROWS = [
    Row("hubs.list", "GET", "/v1/hubs", None, 200, {"hub", "role", "memory_count"}),
    Row("hubs.create", "POST", "/v1/hubs", {"name": "Plums", "slug": "{free}"}, 201, HUB),
    Row("hubs.create without slug", "POST", "/v1/hubs", {"name": "{free}"}, 201, HUB),
    Row("hubs.checkSlug", "GET", "/v1/hubs/check-slug?slug={free}", None, 200, {"available"}),
    Row(
        "hubs.get",
        "GET",
        "/v1/hubs/{hub}",
        None,
        200,
        {"hub", "members", "role", "pending_transfer", "is_frozen"},
    ),
    Row(
        "hubs.summary",
        "GET",
        "/v1/hubs/{hub}/summary",
        None,
        200,
        {"hub", "role", "stats", "members_preview", "header"},
    ),
    Row("hubs.markVisit", "POST", "/v1/hubs/{hub}/visit", {}, 200, {"status", "hub_id"}),
    Row("hubs.update", "PATCH", "/v1/hubs/{hub}", {"name": "Pears", "settings": {}}, 200, HUB),
    Row("hubs.delete", "DELETE", "/v1/hubs/{hub}", None, 200, {"deleted", "hub_id"}),
    Row(
        "hubs.updateMemberRole",
        "PATCH",
        "/v1/hubs/{hub}/members/{bo}",
        {"role": "viewer"},
        200,
        {"status", "user_id", "role"},
    ),
    Row("hubs.removeMember", "DELETE", "/v1/hubs/{hub}/members/{bo}", None, 200, {"status", "user_id"}),
    Row(
        "add member",
        "POST",
        "/v1/hubs/{hub}/members",
        {"user_id": "{cy}"},
        200,
        {"status", "user_id", "role"},
    ),
    Row("hubs.leave", "POST", "/v1/hubs/{hub}/leave", {}, 200, {"status", "hub_id"}, who="bo"),
    Row(
        "hubs.createInvite",
        "POST",
        "/v1/hubs/{hub}/invites",
        {"role": "contributor", "invitee": {"email": "zoe@example.org"}},
        201,
        INVITE | {"invite_url", "invitee_email"},
    ),
    Row("hubs.createInvite of a link", "POST", "/v1/hubs/{hub}/invites", {"role": "viewer"}, 201, INVITE),
    Row("hubs.listInvites", "GET", "/v1/hubs/{hub}/invites", None, 200, INVITE),
    Row("hubs.revokeInvite", "DELETE", "/v1/hubs/{hub}/invites/{invite}", None, 200, {"status", "invite_id"}),
    Row(
        "hubs.regenerateInvite",
        "POST",
        "/v1/hubs/{hub}/invites/{invite}/regenerate",
        {},
        201,
        INVITE | {"invite_url"},
    ),
    Row(
        "hubs.resendInvite",
        "POST",
        "/v1/hubs/{hub}/invites/{mailed}/resend",
        {},
        200,
        {"status", "email_enqueued_at"},
    ),
    Row(
        "hubs.createOwnershipTransfer",
        "POST",
        "/v1/hubs/{other}/ownership-transfer",
        {"target_user_id": "{bo}"},
        201,
        TRANSFER | {"target_user_name"},
    ),
    Row(
        "hubs.acceptOwnershipTransfer",
        "POST",
        "/v1/hubs/{hub}/ownership-transfer/{transfer}/accept",
        {},
        200,
        TRANSFER | {"accepted_at"},
        who="bo",
    ),
    Row(
        "hubs.cancelOwnershipTransfer",
        "POST",
        "/v1/hubs/{hub}/ownership-transfer/{transfer}/cancel",
        {},
        200,
        {"status", "transfer_id"},
    ),
    Row(
        "invites.get",
        "GET",
        "/v1/invites/{token}",
        None,
        200,
        {"invite", "hub", "member_count", "invited_by"},
        who="nobody",
    ),
    Row("invites.accept", "POST", "/v1/invites/{token}/accept", {}, 200, {"hub", "role"}, who="cy"),
    Row(
        "notifications.list",
        "GET",
        "/v1/notifications?hub={hub}&status=pending&kind=hub_invite&kind=hub_ownership_transfer&limit=5",
        None,
        200,
        {"notifications", "has_more"},
        who="bo",
    ),
    Row("notifications.summary", "GET", "/v1/notifications/summary?hub={hub}", None, 200, COUNTERS),
    Row("notifications.markSeen", "POST", "/v1/notifications/{news}/seen", None, 200, {"status"}),
    Row("notifications.dismiss", "POST", "/v1/notifications/{news}/dismiss", None, 200, {"status"}),
    Row(
        "notifications.resolve",
        "POST",
        "/v1/notifications/{decision}/resolve",
        {"action": "decline"},
        200,
        {"status", "action", "resolution"},
        who="bo",
    ),
    Row("notifications.bulkSeen", "POST", "/v1/notifications/seen", {"kinds": []}, 200, {"affected"}),
    Row("notifications.bulkDismiss", "POST", "/v1/notifications/dismiss", {"kinds": []}, 200, {"affected"}),
    Row(
        "notifications.viewItem",
        "POST",
        "/v1/notifications/{steps}/items/hub/view",
        None,
        200,
        {"item_id", "viewed_at"},
    ),
    Row(
        "notifications.completeItem",
        "POST",
        "/v1/notifications/{steps}/items/hub/complete",
        None,
        200,
        {"item_id", "completed_at", "progress"},
    ),
    Row("settings.get", "GET", "/v1/settings", None, 200, {"theme", "locale", "dev_flags"}),
    Row("settings.update", "PATCH", "/v1/settings", {"theme": "dark"}, 200, {"theme", "locale"}),
    Row("settings.usage", "GET", "/v1/usage", None, 200, {"push_count", "limits", "plan"}),
    Row("settings.plans", "GET", "/v1/plans", None, 200, {"id", "scope", "display_name"}, who="nobody"),
    Row("auth.me", "GET", "/v1/auth/me", None, 200, {"user", "connected_providers", "usage", "hubs"}),
    Row(
        "auth.updateProfile",
        "PATCH",
        "/v1/auth/me",
        {"display_name": "Ada L."},
        200,
        {"status", "display_name"},
    ),
    Row(
        "auth.createKey",
        "POST",
        "/v1/auth/api-keys",
        {"name": "CLI", "scopes": ["read", "write"], "hub_id": "{hub}"},
        201,
        KEY | {"key"},
    ),
    Row("auth.listKeys", "GET", "/v1/auth/api-keys", None, 200, KEY | {"scopes", "last_used"}),
    Row(
        "auth.updateKey",
        "PATCH",
        "/v1/auth/api-keys/{key}",
        {"agent_name": "codex"},
        200,
        {"id", "agent_name", "standalone"},
    ),
    Row("auth.revokeKey", "DELETE", "/v1/auth/api-keys/{key}", None, 200, {"revoked", "skipped"}),
    Row("auth.refresh", "POST", "/v1/auth/refresh", {"refresh_token": "{refresh}"}, 200, PAIR, who="nobody"),
    Row("auth.exchangeCode", "POST", "/v1/auth/exchange", {"code": "{exchange}"}, 200, PAIR, who="nobody"),
    Row(
        "auth.requestEmailOtp",
        "POST",
        "/v1/auth/email/request",
        {"email": "zed@example.org"},
        200,
        {"status", "expires_in", "email", "cooldown"},
        who="nobody",
    ),
    Row(
        "auth.verifyEmailOtp",
        "POST",
        "/v1/auth/email/verify",
        {"email": "{address}", "code": "{code}"},
        200,
        PAIR,
        who="nobody",
    ),
    Row("auth.listIdentities", "GET", "/v1/auth/identities", None, 200, {"id", "provider", "provider_id"}),
    Row("agents.list", "GET", "/v1/agents", None, 200, AGENT),
    Row("agents.update", "PATCH", "/v1/agents/scout", {"display_name": "Scout"}, 200, AGENT),
    Row(
        "agents.disconnect",
        "DELETE",
        "/v1/agents/scout",
        None,
        200,
        {"disconnected", "keys_revoked", "configs_tombstoned", "skipped"},
    ),
    Row("onboarding.state", "GET", "/v1/onboarding/state", None, 200, {"has_prior", "current_version"}),
    Row("onboarding.restart", "POST", "/v1/onboarding/restart", None, 200, {"id", "kind", "status"}),
    Row("topics.list", "GET", "/v1/topics?hub_id={hub}", None, 200, {"topics", "unassigned_count"}),
    Row("topics.listArchived", "GET", "/v1/topics/archived?hub_id={hub}", None, 200, {"topics"}),
    Row("topics.get", "GET", "/v1/topics/{topic}", None, 200, TOPIC),
    Row("topics.create", "POST", "/v1/topics", {"name": "Peas", "hub_id": "{hub}"}, 201, TOPIC),
    Row("topics.update", "PATCH", "/v1/topics/{topic}", {"name": "Pears", "parent_id": None}, 200, TOPIC),
    Row("topics.archive", "POST", "/v1/topics/{topic}/archive", {}, 200, {"topic_id", "archived_count"}),
    Row("topics.restore", "POST", "/v1/topics/{topic}/restore", {}, 200, {"topic_id"}),
    Row(
        "topics.listMemories",
        "GET",
        "/v1/topics/{topic}/memories?limit=5",
        None,
        200,
        {"memories", "next_cursor", "has_more"},
    ),
    Row(
        "topics.reorder",
        "POST",
        "/v1/topics/reorder",
        {"operations": [{"topic_id": "{topic}", "position": 2}]},
        200,
        {"status"},
    ),
    Row("topics.markVisit", "POST", "/v1/topics/{topic}/visit", {}, 200, {"status", "topic_id"}),
    Row("dreams.list", "GET", "/v1/dreams?limit=5&hub_id={hub}", None, 200, {"runs"}),
    Row("dreams.report", "GET", "/v1/dreams/report", None, 200, {"has_run", "message", "intelligence"}),
    Row("dreams.trigger", "POST", "/v1/dreams/trigger", {}, 200, {"status"}),
    Row(
        "dreams.usage",
        "GET",
        "/v1/usage/dreams?hub_id={hub}",
        None,
        200,
        {"scope", "hub_id", "tier", "mode", "limit", "used", "allowed", "period_start", "period_end"},
    ),
]
LISTS = {
    row.name for row in ROWS if row.name.rpartition(".")[2] in ("list", "listInvites", "listKeys", "plans")
}
LISTS = LISTS - {"notifications.list", "topics.list", "dreams.list"} | {"auth.listIdentities"}


@pytest_asyncio.fixture(scope="module")
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(world) as client:
        yield client


async def scene(world: World) -> tuple[dict[str, str], dict[str, str | None]]:
    """What the rows name, and who calls by what token."""
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub, other = await world.hub(ada, contributors=[bo]), await world.hub(ada, viewers=[bo])
    invite = (await ada.post(f"{hub.url}/invites", {})).data(201)
    mailed = (await ada.post(f"{hub.url}/invites", {"invitee": {"email": "zo@example.org"}})).data(201)
    offer = (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
    named = {
        "hub": hub.id,
        "other": other.id,
        "bo": bo.id,
        "cy": cy.id,
        "invite": invite["id"],
        "token": invite["token"],
        "mailed": mailed["id"],
        "transfer": offer["id"],
        "free": f"free-{hub.id[-12:]}",
        "topic": (await ada.post("/v1/topics", {"name": "Beans", "hub_id": hub.id})).data(201)["id"],
    }
    named |= await belongings(world, ada, cy)
    (decision,) = (await bo.get(f"/v1/notifications?hub={hub.id}")).data(200)["notifications"]
    named["decision"] = decision["id"]
    return named, {"ada": ada.token, "bo": bo.token, "cy": cy.token, "nobody": None}


async def belongings(world: World, ada: Person, cy: Person) -> dict[str, str]:
    """What is somebody's own: news, first steps, a key, codes and a refresh token."""
    third = await world.hub(ada)
    link = (await ada.post(f"{third.url}/invites", {})).data(201)
    (await cy.post(f"/v1/invites/{link['token']}/accept", {})).data(200)
    news = (await ada.get("/v1/notifications?kind=hub_member_joined")).data(200)["notifications"]
    key = (await ada.post("/v1/auth/api-keys", {"name": "Scout", "agent_name": "scout"})).data(201)
    pair = await signed_in(world, address())
    exchange = await led(world, address())
    email = address()
    (await ask(world, email)).ok(200)
    return {
        "news": news[0]["id"],
        "steps": (await ada.post("/v1/onboarding/restart")).data(200)["id"],
        "key": key["id"],
        "refresh": pair["refresh_token"],
        "exchange": exchange["code"],
        "address": email,
        "code": await mailed(world, email),
    }


def check(row: Row, status: int, data: Any) -> None:
    """The answer is as the published document has it."""
    path = row.path.partition("?")[0]
    for name, parameter in (
        ("hub", "hub_id"),
        ("other", "hub_id"),
        ("bo", "user_id"),
        ("invite", "invite_id"),
        ("mailed", "invite_id"),
        ("transfer", "transfer_id"),
        ("news", "notification_id"),
        ("decision", "notification_id"),
        ("steps", "notification_id"),
        ("key", "key_id"),
        ("topic", "topic_id"),
    ):
        path = path.replace("{" + name + "}", "{" + parameter + "}")
    path = path.replace("/items/hub/", "/items/{item_id}/").replace("/agents/scout", "/agents/{agent_name}")
    answers = DOCUMENT["paths"][path][row.method.lower()]["responses"]
    schema = answers[str(status)]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, validate_formats=True
    )
    problems = [error.message for error in validator.iter_errors({"data": data})]
    assert not problems, problems


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_client_gets_what_it_reads(world: World, http: httpx.AsyncClient, row: Row) -> None:
    named, tokens = await scene(world)
    client = Client(http, tokens[row.who])
    filled = msgspec.json.encode([row.path, row.body]).decode()
    for name, value in named.items():
        filled = filled.replace("{" + name + "}", value)
    path, body = msgspec.json.decode(filled)

    data = await client.call(row.method, path, body)
    assert client.status == row.status
    check(row, client.status, data)
    assert isinstance(data, list) is (row.name in LISTS)
    for item in data if isinstance(data, list) else [data]:
        assert row.reads <= item.keys(), row.reads - item.keys()


async def test_what_the_client_types_is_there_in_full(world: World, http: httpx.AsyncClient) -> None:
    named, tokens = await scene(world)
    ada = Client(http, tokens["ada"])

    detail = await ada.call("GET", f"/v1/hubs/{named['hub']}")
    assert detail["hub"].keys() >= HUB
    assert all(member.keys() >= MEMBER for member in detail["members"])
    assert detail["pending_transfer"].keys() >= TRANSFER
    assert detail["is_frozen"] is False
    summary = await ada.call("GET", f"/v1/hubs/{named['hub']}/summary")
    assert summary["stats"].keys() >= {"memories", "topics", "inbox", "pending_review", "members"}
    assert summary["header"].keys() == {"state", "greeting_key", "greeting_params", "time_bucket"}
    assert summary["members_preview"][0].keys() >= {"user_id", "user_name"}
    card = await Client(http, None).call("GET", f"/v1/invites/{named['token']}")
    assert card["invite"].keys() == INVITE
    accepted = await Client(http, tokens["cy"]).call("POST", f"/v1/invites/{named['token']}/accept", {})
    assert accepted["hub"].keys() >= HUB


async def test_a_refusal_reaches_the_client_by_its_code(world: World, http: httpx.AsyncClient) -> None:
    named, tokens = await scene(world)
    ada, cy, nobody = (Client(http, tokens[name]) for name in ("ada", "cy", "nobody"))
    hub = f"/v1/hubs/{named['hub']}"
    for client, method, path, body, status, code in (
        (nobody, "GET", "/v1/hubs", None, 401, "unauthorized"),
        (Client(http, "nonsense"), "GET", "/v1/hubs", None, 401, "unauthorized"),
        (cy, "GET", hub, None, 403, "not_member"),
        (cy, "DELETE", hub, None, 403, "forbidden"),
        (cy, "GET", f"{hub}/invites", None, 403, "insufficient_role"),
        (ada, "PATCH", hub, None, 400, "invalid_json"),
        (ada, "GET", "/v1/no-such-thing", None, 404, "not_found"),
        (ada, "PUT", hub, {}, 405, "method_not_allowed"),
        (ada, "POST", "/v1/hubs", {"name": "x", "slug": "settings"}, 409, "slug_taken"),
        (ada, "POST", f"{hub}/invites/{named['invite']}/resend", {}, 400, "no_email"),
    ):
        with pytest.raises(ClientError) as caught:
            await client.call(method, path, body)
        assert (caught.value.status, caught.value.code) == (status, code), path


async def test_a_page_anywhere_may_use_the_client(world: World, http: httpx.AsyncClient) -> None:
    named, tokens = await scene(world)
    origin = {"Origin": "https://anywhere.example"}
    for path in ("/v1/hubs", f"/v1/hubs/{named['hub']}", "/v1/no-such-thing"):
        asked = await http.options(path, headers=origin | {"Access-Control-Request-Method": "PATCH"})
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == "*"
        for word in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            assert word in asked.headers["access-control-allow-methods"]
        for word in ("Content-Type", "Authorization", "X-Hub-ID", "X-Timezone", "Mcp-Session-Id"):
            assert word in asked.headers["access-control-allow-headers"]
        for token, method in ((tokens["ada"], "GET"), (tokens["ada"], "PUT"), (None, "GET")):
            sent = origin | ({"Authorization": f"Bearer {token}"} if token else {})
            answer = await http.request(method, path, headers=sent)
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
            exposed = answer.headers["access-control-expose-headers"].split(", ")
            assert {"X-Memax-Warning", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining"} <= {
                *exposed
            }
            assert {"X-RateLimit-Reset", "Mcp-Session-Id", "WWW-Authenticate"} <= {*exposed}


async def test_health_is_told_bare(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/health")).json()
    assert answer == {"status": "ok", "service": "guildhall", "ready": True}


async def test_what_clients_do_not_need_is_not_there(world: World, http: httpx.AsyncClient) -> None:
    ada = Client(http, (await world.person("ada")).token)
    for path in ("/v1/configs", "/v1/personas", "/v1/boards", "/v1/chats"):
        with pytest.raises(ClientError) as caught:
            await ada.call("GET", path)
        assert (caught.value.status, caught.value.code) == (404, "not_found")


async def test_the_clients_query_is_heard(world: World, http: httpx.AsyncClient) -> None:
    named, tokens = await scene(world)
    ada = Client(http, tokens["ada"])
    for slug, heard in (
        (named["free"], {"available": True}),
        ("no", {"available": False, "reason": "invalid"}),
    ):
        assert await ada.call("GET", "/v1/hubs/check-slug", query={"slug": slug, "not": None}) == heard


async def test_a_hub_named_beside_the_path_changes_nothing(world: World, http: httpx.AsyncClient) -> None:
    named, tokens = await scene(world)
    ada = Client(http, tokens["ada"])
    plain = await ada.call("GET", f"/v1/hubs/{named['hub']}")
    for hub in (named["other"], "nonsense"):
        assert await ada.call("GET", f"/v1/hubs/{named['hub']}", hub=hub) == plain
