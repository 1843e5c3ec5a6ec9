"""How often each route goes to the database. A new route says so here, and is used once in what follows."""

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from guildhall.access_keys import ring
from guildhall.settings import Settings
from guildhall.users.handlers import make_export
from guildhall.users.jobs import ExportAsked
from guildhall.web import tally
from guildhall.wiring import ROUTES
from tests import cluster as clusters
from tests.api.test_auth import code_of
from tests.api.test_uploads import ASKED, PNG, local
from tests.servers.clerk_server import clerk_server
from tests.servers.stream_server import stream_server
from tests.world import ORIGIN, Browser, Person, World, open_world, settings_for

# At most so many for what succeeds, with all limits asked.
TRIPS = {
    # Nothing is looked up.
    "GET /.well-known/jwks.json": 0,
    "GET /api/openapi.json": 0,
    "GET /v1/openapi.json": 0,
    "GET /v1/plans": 0,
    # One statement: the caller's place and the rows together, or the check and the change.
    "DELETE /api/auth/session": 1,
    "GET /api/auth/sessions": 1,
    "DELETE /api/auth/sessions/{session_id:str}": 1,
    "GET /api/communities": 1,
    "GET /api/communities/{community_id:str}": 1,
    "GET /api/communities/{community_id:str}/summary": 1,
    "POST /api/communities/{community_id:str}/visit": 1,
    "GET /api/exports/{token:str}": 1,
    "GET /api/groups": 1,
    "GET /api/groups/{group_id:str}": 1,
    "GET /api/health": 1,
    "GET /api/invites/{token:str}": 1,
    "GET /api/members/{user_id:str}/profile": 1,
    "GET /api/posts": 1,
    "POST /api/posts": 1,
    "GET /api/posts/{post_id:str}": 1,
    "POST /api/uploads": 1,
    "GET /blobs/{name:path}": 1,
    "GET /health": 1,
    "GET /metrics": 1,
    "GET /v1/agents": 1,
    "GET /v1/auth/api-keys": 1,
    "GET /v1/events/stream": 1,
    "GET /v1/hubs": 1,
    "GET /v1/hubs/check-slug": 1,
    "GET /v1/hubs/{hub_id:str}": 1,
    "GET /v1/hubs/{hub_id:str}/summary": 1,
    "GET /v1/invites/{token:str}": 1,
    "GET /v1/notifications": 1,
    "GET /v1/notifications/summary": 1,
    "GET /v1/memories": 1,
    "GET /v1/memories/{memory_id:str}": 1,
    "GET /v1/memories/{memory_id:str}/related": 1,
    "GET /v1/memories/search": 1,
    "POST /v1/uploads": 1,
    "GET /v1/memories/{memory_id:str}/attachments/{attachment_id:str}/download": 1,
    "POST /v1/memories/{memory_id:str}/attachments/{attachment_id:str}/view-url": 1,
    "GET /v1/attachments/view": 1,
    "GET /v1/memories/{memory_id:str}/versions": 1,
    "POST /v1/memories/{memory_id:str}/access": 1,
    "GET /v1/dreams/report": 1,
    "GET /v1/dreams/{run_id:str}": 1,
    "GET /v1/usage/dreams": 1,
    "GET /v1/dreams": 3,
    "GET /v1/topics": 1,
    "GET /v1/topics/archived": 1,
    "GET /v1/topics/{topic_id:str}": 1,
    "GET /v1/topics/{topic_id:str}/memories": 1,
    "POST /v1/topics/{topic_id:str}/visit": 1,
    "GET /v1/auth/identities": 1,
    "GET /v1/onboarding/state": 1,
    "GET /v1/settings": 1,
    "GET /v1/usage": 1,
    # Two statements that do not fit into one.
    "GET /api/backlog": 2,
    "GET /api/communities/{community_id:str}/invites": 2,
    "POST /api/stream/token": 2,
    "PUT /api/uploads/{upload_id:str}": 2,
    "GET /v1/hubs/{hub_id:str}/invites": 2,
    "GET /v1/bar/search": 2,
    "POST /v1/recall": 2,
    "POST /v1/ask": 2,
    # The account, what it used, and its hubs.
    "GET /v1/auth/me": 3,
    # A list without an end: a seat, then a cursor, which needs a transaction.
    "GET /api/communities/{community_id:str}/members": 2,
    "GET /api/groups/{group_id:str}/members": 2,
    # Changes in a transaction: its beginning and its end, the lock with the caller's place, what is looked at
    # under the lock, the change, its record, and the job that follows it.
    "POST /api/auth/code": 5,
    "POST /api/auth/session": 12,
    "POST /api/auth/session/refresh": 4,
    "POST /api/backlog": 7,
    "DELETE /api/backlog/{item_id:str}": 6,
    "PATCH /api/backlog/{item_id:str}": 8,
    "POST /api/communities": 8,
    "DELETE /api/communities/{community_id:str}": 8,
    "PATCH /api/communities/{community_id:str}": 7,
    "POST /api/communities/{community_id:str}/invite": 11,
    "DELETE /api/communities/{community_id:str}/invites/{invite_id:str}": 8,
    "POST /api/communities/{community_id:str}/invites/{invite_id:str}/regenerate": 11,
    "POST /api/communities/{community_id:str}/invites/{invite_id:str}/resend": 8,
    "POST /api/communities/{community_id:str}/join": 8,
    "DELETE /api/communities/{community_id:str}/members": 9,
    "PATCH /api/communities/{community_id:str}/members": 11,
    "POST /api/communities/{community_id:str}/ownership-transfer": 8,
    "POST /api/communities/{community_id:str}/ownership-transfer/{transfer_id:str}/accept": 12,
    "POST /api/communities/{community_id:str}/ownership-transfer/{transfer_id:str}/cancel": 8,
    "POST /api/groups": 8,
    "DELETE /api/groups/{group_id:str}": 7,
    "PATCH /api/groups/{group_id:str}": 6,
    "POST /api/groups/{group_id:str}": 7,
    "POST /api/groups/{group_id:str}/join": 8,
    "DELETE /api/groups/{group_id:str}/members": 6,
    "POST /api/invites/{token:str}/accept": 5,
    "PATCH /api/members/{user_id:str}/profile": 5,
    "DELETE /api/posts/{post_id:str}": 5,
    "PATCH /api/posts/{post_id:str}": 6,
    "DELETE /api/users/me": 26,
    "GET /api/users/me/export": 8,
    "POST /api/users/sync": 3,
    "POST /api/webhooks/clerk": 4,
    "DELETE /v1/agents/{agent_name:str}": 6,
    "PATCH /v1/agents/{agent_name:str}": 5,
    "POST /v1/auth/api-keys": 9,
    "POST /v1/auth/email/request": 5,
    "POST /v1/auth/email/verify": 11,
    "POST /v1/auth/exchange": 4,
    "POST /v1/auth/refresh": 4,
    "PATCH /v1/auth/me": 6,
    "PATCH /v1/settings": 5,
    "POST /v1/onboarding/restart": 7,
    "POST /v1/notifications/{notification_id:str}/items/{item_id:str}/complete": 6,
    "POST /v1/notifications/{notification_id:str}/items/{item_id:str}/view": 6,
    "DELETE /v1/auth/api-keys/{key_id:str}": 5,
    "PATCH /v1/auth/api-keys/{key_id:str}": 7,
    "POST /v1/hubs": 5,
    "DELETE /v1/hubs/{hub_id:str}": 9,
    "PATCH /v1/hubs/{hub_id:str}": 7,
    "POST /v1/hubs/{hub_id:str}/invites": 11,
    "DELETE /v1/hubs/{hub_id:str}/invites/{invite_id:str}": 7,
    "POST /v1/hubs/{hub_id:str}/invites/{invite_id:str}/regenerate": 10,
    "POST /v1/hubs/{hub_id:str}/invites/{invite_id:str}/resend": 7,
    "POST /v1/hubs/{hub_id:str}/leave": 8,
    "POST /v1/hubs/{hub_id:str}/members": 6,
    "DELETE /v1/hubs/{hub_id:str}/members/{user_id:str}": 9,
    "PATCH /v1/hubs/{hub_id:str}/members/{user_id:str}": 7,
    "POST /v1/hubs/{hub_id:str}/ownership-transfer": 8,
    "POST /v1/hubs/{hub_id:str}/ownership-transfer/{transfer_id:str}/accept": 12,
    "POST /v1/hubs/{hub_id:str}/ownership-transfer/{transfer_id:str}/cancel": 7,
    "POST /v1/hubs/{hub_id:str}/visit": 4,
    "POST /v1/invites/{token:str}/accept": 1,
    # The hub by its name, and the two statements of a recall.
    "POST /mcp": 3,
    # With a file; one without is one statement.
    "POST /v1/memories": 11,
    "PATCH /v1/memories/{memory_id:str}": 7,
    "POST /v1/memories/{memory_id:str}/versions/{version:str}/restore": 8,
    # One of them reads which decisions lost their ground with what is moved or deleted.
    "POST /v1/memories/{memory_id:str}/share": 9,
    "POST /v1/memories/batch-move": 7,
    "DELETE /v1/memories/{memory_id:str}": 6,
    "POST /v1/memories/batch-delete": 6,
    "DELETE /v1/account/data": 8,
    "POST /v1/dreams/trigger": 8,
    # What each action touches is locked, compared and put back by itself.
    "POST /v1/dreams/{run_id:str}/undo": 12,
    "POST /v1/dreams/{run_id:str}/actions/{action_id:str}/undo": 12,
    # Beginning, end, whose hub it is, the lock, all its topics, the change, and the answer.
    "POST /v1/topics": 8,
    "PATCH /v1/topics/{topic_id:str}": 7,
    "DELETE /v1/topics/{topic_id:str}": 9,
    "POST /v1/topics/{topic_id:str}/archive": 6,
    "POST /v1/topics/{topic_id:str}/restore": 6,
    "POST /v1/topics/{topic_id:str}/memories": 7,
    "DELETE /v1/topics/{topic_id:str}/memories/{memory_id:str}": 7,
    "POST /v1/topics/reorder": 7,
    "POST /v1/notifications/dismiss": 3,
    "POST /v1/notifications/seen": 3,
    "POST /v1/notifications/{notification_id:str}/dismiss": 4,
    "POST /v1/notifications/{notification_id:str}/resolve": 10,
    "POST /v1/notifications/{notification_id:str}/seen": 3,
}

TEMPLATES = {
    f"{method} {path}": re.compile(
        re.sub(r"\{\w+:(\w+)\}", lambda m: ".+" if m[1] == "path" else "[^/]+", path)
    )
    for route in ROUTES
    for path in route.paths
    for method in route.http_methods
}


# Nobody may give up the only way they sign in, and there is one only.
NEVER_DONE = {"DELETE /v1/auth/link/{provider:str}"}


class Counting(httpx.AsyncBaseTransport):
    """Passes requests on, and notes for each route the most round trips that one which succeeded took."""

    def __init__(self, world: World, seen: dict[str, int]) -> None:
        self._world = world
        self._seen = seen

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        before = self._world.db.trips
        response = await self._world.client.send(request)
        method = request.method.replace("HEAD", "GET")
        if response.status_code < 400:
            name = min(
                (
                    name
                    for name, pattern in TEMPLATES.items()
                    if name.startswith(f"{method} ") and pattern.fullmatch(request.url.path)
                ),
                # Of two that fit, the one that says more.
                key=lambda name: name.count("{"),
            )
            self._seen[name] = max(self._seen.get(name, 0), self._world.db.trips - before)
        return response


@asynccontextmanager
async def counting(settings: Settings, seen: dict[str, int]) -> AsyncIterator[World]:
    async with (
        open_world(settings) as world,
        httpx.AsyncClient(transport=Counting(world, seen), base_url=ORIGIN) as client,
    ):
        yield World(world.house, client, world.owner_url)


async def test_no_route_goes_to_the_database_more_often_than_it_says(
    cluster: clusters.Cluster, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a process writes now and then would be counted with whatever is asked for then.
    for module in (ring, tally):
        monkeypatch.setattr(module, "FLUSH_S", 3_600)
    seen: dict[str, int] = {}
    # A database of its own, since what is left here for later would keep others waiting.
    database = await clusters.clone_database(cluster, template)
    place = (tmp_path, clusters.app_url(cluster, database), database)
    async with stream_server() as chat, clerk_server() as clerk:
        # Limits that nobody reaches, but everybody asks.
        limits = {"RATE_LIMIT_SCALE": "1000", "METRICS": "true"}
        async with counting(settings_for(*place, **limits), seen) as world:
            await look_around(world)
            await sign_in_and_out(world)
            await use_v1_as_oneself(world)
            await be_a_person(world)
            await keep_a_community(world)
            await use_groups_and_posts(world)
            await keep_a_hub(world)
            await use_keys(world)
            await read_the_inbox(world)
            await keep_memories(world)
            await arrange_topics(world)
            await have_it_tidied_up(world)
        talking = {"CHAT_URL": chat.base_url, "CHAT_KEY": chat.api_key, "CHAT_SECRET": chat.secret}
        async with counting(settings_for(*place, **limits, **talking), seen) as world:
            (await (await world.person("ada")).post("/api/stream/token")).ok()
        with_clerk = settings_for(
            *place,
            IDENTITY="clerk",
            CLERK_ISSUER=clerk.issuer,
            CLERK_SECRET_KEY=clerk.secret_key,
            CLERK_API_URL=clerk.url + "/v1",
            CLERK_WEBHOOK_SECRETS=clerk.webhook_secret,
        )
        async with counting(with_clerk, seen) as world:
            headers, body = clerk.webhook(
                "user.updated", clerk.put_user("user_hook"), delivery_id=secrets.token_hex(8)
            )
            (await world.nobody.call("POST", "/api/webhooks/clerk", content=body, headers=headers)).ok(204)
    unused = TEMPLATES.keys() - seen.keys() - NEVER_DONE
    assert not unused, "use these once below, and say in TRIPS how often they go to the database"
    assert {route: trips for route, trips in seen.items() if trips > TRIPS.get(route, -1)} == {}


async def test_a_post_and_all_that_counts_it_are_one_commit(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    post = (await ada.post("/api/posts", {"communityId": club.id, "content": "Beans"})).ok(201)
    async with world.db.reading() as read:
        assert await read.value(
            "SELECT p.xmin::text = s.xmin::text AND s.post_count = 1"
            " FROM posts p JOIN spaces s ON s.id = p.space_id WHERE p.id = $1::uuid",
            post["id"],
        )


async def look_around(world: World) -> None:
    nobody = world.nobody
    for path in ("/api/openapi.json", "/v1/openapi.json", "/.well-known/jwks.json", "/health", "/metrics"):
        (await nobody.get(path)).response.raise_for_status()
    async with world.db.single() as tx:
        await tx.run("INSERT INTO workers (id) VALUES (gen_random_uuid())")
    (await nobody.get("/api/health")).ok()
    item = {"title": "Dark mode", "type": "feature", "priority": "low", "session": "web", "status": "done"}
    made = (await nobody.post("/api/backlog", item)).ok(201)
    (await nobody.get("/api/backlog")).ok()
    # Opening it again takes a place among the open ones.
    (await nobody.patch(f"/api/backlog/{made['id']}", {"status": "open"})).ok()
    (await nobody.delete(f"/api/backlog/{made['id']}")).ok(204)


async def sign_in_and_out(world: World) -> None:
    email = f"ada.{secrets.token_hex(6)}@example.org"
    sessions = []
    for label in ("laptop", "phone"):
        (await world.nobody.post("/api/auth/code", {"email": email})).ok(202)
        wanted = {"email": email, "code": await code_of(world, email), "label": label}
        sessions.append((await world.nobody.post("/api/auth/session", wanted)).ok(201))
    laptop = Browser(world, sessions[0]["token"])
    (await world.nobody.post("/api/auth/session/refresh", {"refreshToken": sessions[1]["refreshToken"]})).ok()
    listed = (await laptop.get("/api/auth/sessions")).ok()["items"]
    other = next(session["id"] for session in listed if session["label"] == "phone")
    (await laptop.delete(f"/api/auth/sessions/{other}")).ok(204)
    (await laptop.delete("/api/auth/session")).ok(204)


async def use_v1_as_oneself(world: World) -> None:
    email = f"ada.{secrets.token_hex(6)}@example.org"
    for redirect in ({"redirect_uri": "http://127.0.0.1:1/"}, {}):
        (await world.nobody.post("/v1/auth/email/request", {"email": email, **redirect})).ok()
        wanted = {"email": email, "code": await code_of(world, email)}
        answer = (await world.nobody.post("/v1/auth/email/verify", wanted)).data(200)
        if redirect:
            (await world.nobody.post("/v1/auth/exchange", {"code": answer["code"]})).ok()
    pair = await world.nobody.post("/v1/auth/refresh", {"refresh_token": answer["refresh_token"]})  # pyright: ignore[reportPossiblyUnbound]
    me = Browser(world, pair.data(200)["access_token"])
    for path in ("auth/me", "auth/identities", "settings", "usage", "plans", "onboarding/state"):
        (await me.get(f"/v1/{path}")).ok(200)
    (await me.patch("/v1/auth/me", {"display_name": "Ada"})).ok(200)
    (await me.patch("/v1/settings", {"theme": "dark"})).ok(200)
    steps = (await me.post("/v1/onboarding/restart")).data(200)["id"]
    for what in ("view", "complete"):
        (await me.post(f"/v1/notifications/{steps}/items/hub/{what}")).ok(200)


async def be_a_person(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    (await ada.post("/api/users/sync")).ok()
    for who in (ada, bo):
        (await ada.get(f"/api/members/{who.id}/profile")).ok()
    (await ada.patch(f"/api/members/{ada.id}/profile", {"bio": "Grows beans."})).ok()
    (await ada.get("/api/users/me/export")).ok(202)
    async with world.db.reading() as read:
        asked = await read.value("SELECT id FROM exports WHERE user_id = $1", ada.id)
    await make_export(world.house.work, ExportAsked(export_id=asked))
    archive = (await ada.get("/api/users/me/export")).ok(202)["url"]
    (await world.nobody.get(local(world, archive))).response.raise_for_status()
    upload = (await ada.post("/api/uploads", ASKED)).ok(201)
    put: dict[str, Any] = {"content": PNG, "headers": upload["headers"]}
    (await world.nobody.call("PUT", local(world, upload["uploadUrl"]), **put)).ok(204)
    for method in ("GET", "HEAD"):
        (await world.nobody.call(method, local(world, upload["url"]))).response.raise_for_status()
    (await bo.post("/api/posts", {"communityId": club.id, "content": "Goodbye"})).ok(201)
    (await bo.delete("/api/users/me")).ok(204)


async def keep_a_community(world: World) -> None:
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    made = (await ada.post("/api/communities", {"name": "Gardeners", "isPrivate": False})).ok(201)
    for url in (f"/api/communities/{made['id']}", f"/api/communities/{made['slug']}"):
        (await ada.get("/api/communities")).ok()
        (await ada.get(url)).ok()
        (await ada.patch(url, {"description": "All of us", "isPrivate": url.endswith(made["id"])})).ok()
        (await ada.get(f"{url}/summary")).ok()
        (await ada.post(f"{url}/visit")).ok(204)
        (await ada.get(f"{url}/members")).ok()
        (await ada.get(f"{url}/members?limit=20")).ok()
        (await ada.get(f"{url}/invites")).ok()
    url = f"/api/communities/{made['slug']}"
    for who in (bo, cy):
        (await who.post(f"{url}/join")).ok(201)
    (await ada.patch(f"{url}/members", {"targetUserId": bo.id, "role": "owner"})).ok()
    (await bo.patch(f"{url}/members", {"targetUserId": ada.id, "role": "admin"})).ok()
    first = (await ada.post(f"{url}/invite", {"email": eve.email})).ok(201)
    async with world.db.single() as tx:
        await tx.run(
            "UPDATE invites SET created_at = now() - interval '1 hour' WHERE id = $1::uuid", first["id"]
        )
    (await ada.post(f"{url}/invites/{first['id']}/resend")).ok()
    second = (await ada.post(f"{url}/invites/{first['id']}/regenerate")).ok(201)
    (await world.nobody.get(f"/api/invites/{second['token']}")).ok()
    (await eve.post(f"/api/invites/{second['token']}/accept")).ok()
    third = (await ada.post(f"{url}/invite", {"email": "zoe@example.org"})).ok(201)
    (await ada.delete(f"{url}/invites/{third['id']}")).ok(204)
    transfer = f"{url}/ownership-transfer"
    offer = (await bo.post(transfer, {"targetUserId": cy.id})).ok(201)
    (await bo.post(f"{transfer}/{offer['id']}/cancel")).ok()
    offer = (await bo.post(transfer, {"targetUserId": cy.id})).ok(201)
    (await cy.post(f"{transfer}/{offer['id']}/accept")).ok()
    (await bo.delete(f"{url}/members", {"targetUserId": eve.id})).ok(204)
    (await bo.delete(f"{url}/members", {"targetUserId": bo.id})).ok(204)
    (await cy.delete(url)).ok(204)


async def use_groups_and_posts(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club = await world.community(ada, members=[bo, cy])
    there = {"communityId": club.id}
    group = (await ada.post("/api/groups", {**there, "name": "Seeds"})).ok(201)["id"]
    url = f"/api/groups/{group}"
    (await ada.get(f"/api/groups?communityId={club.id}")).ok()
    (await ada.get(url)).ok()
    (await ada.patch(url, {"name": "Seeds and tools", "isPrivate": False})).ok()
    (await ada.post(url, {"targetUserId": bo.id})).ok(201)
    (await cy.post(f"{url}/join")).ok(200)
    (await ada.get(f"{url}/members")).ok()
    (await ada.get(f"{url}/members?limit=20")).ok()
    (await ada.delete(f"{url}/members", {"targetUserId": bo.id})).ok(204)
    for where in (there, {**there, "groupId": group}):
        upload = (await ada.post("/api/uploads", {**ASKED, "purpose": "attachment"})).ok(201)
        wanted = {**where, "content": "Beans", "attachments": [upload["url"]], "isPinned": True}
        post = (await ada.post("/api/posts", wanted)).ok(201)
        feed = "&".join(f"{name}={value}" for name, value in where.items())
        page = await ada.get(f"/api/posts?{feed}")
        (await ada.get(f"/api/posts?{feed}", headers={"If-None-Match": page.headers["etag"]}))
        (await ada.get(f"/api/posts/{post['id']}")).ok()
        (await ada.patch(f"/api/posts/{post['id']}", {"content": "Peas", "attachments": []})).ok()
        (await ada.delete(f"/api/posts/{post['id']}")).ok(204)
    (await ada.delete(url)).ok(204)


async def keep_a_hub(world: World) -> None:
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    slug = f"orchard-{secrets.token_hex(6)}"
    (await ada.get(f"/v1/hubs/check-slug?slug={slug}")).data()
    made = (await ada.post("/v1/hubs", {"name": "Orchard", "slug": slug})).data(201)
    for url in (f"/v1/hubs/{made['id']}", f"/v1/hubs/{made['slug']}"):
        (await ada.get("/v1/hubs")).data()
        (await ada.get(url)).data()
        (await ada.get(f"{url}/summary")).data()
        (await ada.post(f"{url}/visit", {})).ok()
        (await ada.patch(url, {"name": "Orchard and garden", "slug": f"{slug}-{len(url)}"})).data()
    url = f"/v1/hubs/{slug}"
    (await ada.post(f"{url}/members", {"user_id": bo.id, "role": "viewer"})).data()
    (await ada.patch(f"{url}/members/{bo.id}", {"role": "admin"})).data()
    first = (await ada.post(f"{url}/invites", {"invitee": {"email": cy.email}})).data(201)
    (await ada.get(f"{url}/invites")).data()
    async with world.db.single() as tx:
        await tx.run("UPDATE invites SET created_at = '2026-01-01' WHERE id = $1::uuid", first["id"])
    (await ada.post(f"{url}/invites/{first['id']}/resend", {})).data()
    second = (await ada.post(f"{url}/invites/{first['id']}/regenerate", {})).data(201)
    (await world.nobody.get(f"/v1/invites/{second['token']}")).data()
    (await cy.post(f"/v1/invites/{second['token']}/accept", {})).data()
    third = (await ada.post(f"{url}/invites", {"invitee": {"user_id": eve.id}})).data(201)
    (await ada.delete(f"{url}/invites/{third['id']}")).ok()
    transfer = f"{url}/ownership-transfer"
    offer = (await ada.post(transfer, {"target_user_id": bo.id})).data(201)
    (await ada.post(f"{transfer}/{offer['id']}/cancel", {})).data()
    offer = (await ada.post(transfer, {"target_user_id": bo.id})).data(201)
    (await bo.post(f"{transfer}/{offer['id']}/accept", {})).data()
    (await bo.delete(f"{url}/members/{cy.id}")).ok()
    (await ada.post(f"{url}/leave", {})).ok()
    (await bo.delete(url)).ok()


async def use_keys(world: World) -> None:
    ada = await world.person("ada")
    key = (await ada.post("/v1/auth/api-keys", {"name": "laptop", "agent_name": "claude-code"})).ok(201)[
        "data"
    ]
    (await ada.get("/v1/auth/api-keys")).ok()
    (await ada.patch(f"/v1/auth/api-keys/{key['id']}", {"agent_name": "claude-code"})).ok()
    (await ada.get("/v1/agents")).ok()
    # A stream goes on for an hour, and costs what its beginning costs.
    assert (await ada.call("HEAD", "/v1/events/stream")).status == 200
    (await ada.patch("/v1/agents/claude-code", {"display_name": "Claude"})).ok()
    (await ada.delete(f"/v1/auth/api-keys/{key['id']}")).ok()
    (await ada.delete("/v1/agents/claude-code")).ok()


async def read_the_inbox(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = (await ada.post("/v1/hubs", {"name": "Orchard", "slug": f"told-{secrets.token_hex(6)}"})).data(201)
    for action in ("decline", "accept"):
        await ada.post(f"/v1/hubs/{hub['id']}/invites", {"invitee": {"user_id": bo.id}})
        (row,) = (await bo.get("/v1/notifications?kind=hub_invite")).data()["notifications"]
        (await bo.get("/v1/notifications/summary")).data()
        (await bo.post(f"/v1/notifications/{row['id']}/seen")).data()
        (await bo.post(f"/v1/notifications/{row['id']}/resolve", {"action": action})).data()
    # What comes before the first event.
    (await bo.call("HEAD", "/v1/events/stream")).ok()
    told = (await bo.get("/v1/notifications")).data()["notifications"]
    (await bo.post(f"/v1/notifications/{told[0]['id']}/dismiss")).data()
    for verb in ("seen", "dismiss"):
        (await bo.post(f"/v1/notifications/{verb}", {"kinds": []})).data()


async def keep_a_file(world: World, ada: Person) -> None:
    asked = {"filename": "a.txt", "content_type": "text/plain", "size_bytes": 6}
    sent = (await ada.post("/v1/uploads", asked | {"purpose": "memory_attachment"})).data(200)
    address = urlsplit(sent["upload_url"])
    where = f"{address.path}?{address.query}"
    (await world.nobody.call("PUT", where, content=b"A text", headers=sent["headers"])).ok(204)
    body = {"content": "Inline", "file_ref": {"object_key": sent["object_key"]}}
    memory = (await ada.post("/v1/memories", body)).data(201)
    url = f"/v1/memories/{memory['id']}/attachments/{memory['attachments'][0]['id']}"
    assert (await ada.get(f"{url}/download")).status == 200
    view = urlsplit((await ada.post(f"{url}/view-url")).data(200)["url"])
    assert (await world.nobody.get(f"{view.path}?{view.query}")).status == 200


async def keep_memories(world: World) -> None:
    ada = await world.person("ada")
    hub = (await ada.post("/v1/hubs", {"name": "Shed", "slug": f"shed-{secrets.token_hex(6)}"})).data(201)[
        "id"
    ]
    first, second, third = [
        (await ada.post("/v1/memories", {"content": f"Beans climb {n} times."})).data(201)["id"]
        for n in range(3)
    ]
    url = f"/v1/memories/{first}"
    for path in ("/v1/memories", url, f"{url}/related"):
        (await ada.get(path)).data(200)
    tool = {"name": "recall", "arguments": {"query": "beans", "hub": "personal"}}
    (await ada.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool})).ok(200)
    for path in ("/v1/memories/search?q=beans", "/v1/bar/search?q=beans"):
        (await ada.get(path)).data(200)
    (await ada.patch(url, {"title": "Beans"})).data(200)
    versions = (await ada.get(f"{url}/versions")).data(200)["versions"]
    (await ada.post(f"{url}/versions/{versions[-1]['version']}/restore")).data(200)
    (await ada.post(f"{url}/access")).ok(204)
    await keep_a_file(world, ada)
    (await ada.post("/v1/recall", {"query": "beans"})).data(200)
    (await ada.post("/v1/ask", {"query": "How do beans grow?"})).data(200)
    (await ada.post(f"{url}/share", {"target_hub_id": hub})).data(200)
    (await ada.post("/v1/memories/batch-move", {"ids": [second], "hub_id": hub})).data(200)
    (await ada.delete(url)).data(200)
    (await ada.post("/v1/memories/batch-delete", {"ids": [third]})).data(200)
    (await ada.delete("/v1/account/data")).data(200)


async def arrange_topics(world: World) -> None:
    ada = await world.person("ada")
    memory = (await ada.post("/v1/memories", {"content": "Beans climb."})).data(201)["id"]
    topic = (await ada.post("/v1/topics", {"name": "Beans"})).data(201)["id"]
    url = f"/v1/topics/{topic}"
    (await ada.post(f"{url}/memories", {"memory_id": memory})).ok(201)
    for path in ("/v1/topics", "/v1/topics/archived", url, f"{url}/memories"):
        (await ada.get(path)).data(200)
    (await ada.patch(url, {"name": "Climbers", "parent_id": ""})).data(200)
    moved = {"operations": [{"topic_id": topic, "position": 1, "parent_id": None}]}
    (await ada.post("/v1/topics/reorder", moved)).data(200)
    for what in ("visit", "archive", "restore"):
        (await ada.post(f"{url}/{what}", {})).data(200)
    (await ada.delete(f"{url}/memories/{memory}")).ok(204)
    (await ada.delete(url)).ok(204)


async def have_it_tidied_up(world: World) -> None:
    ada = await world.person("ada")
    for n in range(3):
        (await ada.post("/v1/memories", {"content": f"Compost wants turning, lesson {n}."})).data(201)
    (await ada.post("/v1/dreams/trigger", {})).data(200)
    await world.drain()
    (run,) = (await ada.get("/v1/dreams")).data(200)["runs"]
    for path in ("/v1/dreams/report", "/v1/usage/dreams"):
        (await ada.get(path)).data(200)
    done = (await ada.get(f"/v1/dreams/{run['id']}")).data(200)["actions"]
    action = next(action for action in done if action["status"] == "applied")
    (await ada.post(f"/v1/dreams/{run['id']}/actions/{action['id']}/undo")).data(200)
    (await ada.post(f"/v1/dreams/{run['id']}/undo", {})).data(200)
