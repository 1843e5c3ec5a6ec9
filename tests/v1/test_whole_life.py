"""A hub's whole life, as two people and an agent live it: over sockets alone, by a service of two processes.

After each step everybody has heard on their own stream what they should have, and nothing else.
"""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.commands.serving import Serving, serving
from tests.v1.listening import Listener, listening
from tests.world import Browser, World

PATIENCE_S = 15.0
_CARD = re.compile(r'<li class="card">(.*?)</li>', re.DOTALL)


class Outside(World):
    """A service as it looks from outside: an address, and nothing behind it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.nobody = Browser(self)

    async def mail(self, to: str, subject: str) -> str:
        """The newest mail of this subject, from the page where a developer reads it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                page = html.unescape((await self.client.get("/outbox")).text)
                for card in _CARD.findall(page):
                    if to in card and subject in card:
                        return card
                await asyncio.sleep(0.05)

    async def sign_in(self, email: str, name: str) -> Browser:
        (await self.nobody.post("/v1/auth/email/request", {"email": email})).data(200)
        found = re.search(r"code is (\d{6})", await self.mail(email, "sign-in code"))
        assert found is not None
        wanted = {"email": email, "code": found[1]}
        pair = (await self.nobody.post("/v1/auth/email/verify", wanted)).data(200)
        somebody = Browser(self, pair["access_token"])
        (await somebody.patch("/v1/auth/me", {"display_name": name})).data(200)
        return somebody


@pytest_asyncio.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder: Path = tmp_path_factory.mktemp("life")
    async with serving(folder / "data", workers=2) as running:
        yield running


def told(event: tuple[str, dict[str, Any]]) -> str:
    """An event in a word or two: what it is about, and what became of it."""
    kind, fields = event
    about = (fields.get(name) for name in ("state", "kind", "resolution", "change"))
    return " ".join([kind, *(str(word) for word in about if word)])


async def hears(stream: Listener, *expected: str) -> None:
    """Exactly these come next, in whatever order."""
    heard = [told(await stream.next()) for _ in expected]
    assert sorted(heard) == sorted(expected)


async def test_two_people_and_an_agent_live_through_a_hubs_whole_life(service: Serving) -> None:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=service.base_url, timeout=15))
        world = Outside(client)
        ada = await world.sign_in("ada@example.org", "Ada Lovelace")
        bo = await world.sign_in("bo@example.org", "Bo Bellman")
        bo_id = (await bo.get("/v1/auth/me")).data(200)["user"]["id"]
        at_ada, at_bo = [await stack.enter_async_context(listening(who)) for who in (ada, bo)]
        assert (await at_ada.next())[0] == (await at_bo.next())[0] == "ready"

        # Create.
        made = (await ada.post("/v1/hubs", {"name": "Orchard"})).data(201)
        hub = f"/v1/hubs/{made['id']}"
        await hears(at_ada, "hub.list.changed created")

        # Invite by link; whoever has it sees where it leads, and comes in once.
        link = (await ada.post(f"{hub}/invites", {"role": "viewer"})).data(201)
        card = (await world.nobody.get(f"/v1/invites/{link['token']}")).data(200)
        assert (card["hub"]["name"], card["invited_by"]) == ("Orchard", "Ada Lovelace")
        assert (await bo.get(hub)).error == "not_member"
        assert (await bo.post(f"/v1/invites/{link['token']}/accept", {})).data(200)["role"] == "viewer"
        await hears(at_ada, "hub.members.changed", "notification.created hub_member_joined")
        await hears(
            at_bo,
            "hub.members.changed",
            "hub.list.changed membership_joined",
            "notification.created hub_invite_accepted",
        )
        assert (await bo.post(f"/v1/invites/{link['token']}/accept", {})).error == "used"

        # Leave, and be invited again by e-mail.
        (await bo.post(f"{hub}/leave", {})).data(200)
        await hears(at_ada, "hub.members.changed")
        await hears(at_bo, "hub.list.changed membership_left")
        invited = {"role": "contributor", "invitee": {"email": "bo@example.org"}}
        mailed = (await ada.post(f"{hub}/invites", invited)).data(201)
        await hears(at_bo, "notification.created hub_invite")
        assert f"/join/{mailed['token']}" in await world.mail("bo@example.org", "Orchard")

        # Accept from the inbox.
        waiting = (await bo.get("/v1/notifications?kind=hub_invite")).data(200)["notifications"]
        assert [row["payload"]["hub"]["name"] for row in waiting] == ["Orchard"]
        answer = f"/v1/notifications/{waiting[0]['id']}/resolve"
        assert (await bo.post(answer, {"action": "accept"})).data(200)["resolution"] == "accepted"
        await hears(at_ada, "hub.members.changed", "notification.created hub_member_joined")
        await hears(
            at_bo,
            "hub.members.changed",
            "hub.list.changed membership_joined",
            "notification.resolved hub_invite accepted",
            "notification.created hub_invite_accepted",
        )
        assert (await bo.patch(hub, {"name": "Mine"})).error == "forbidden"

        # Promote.
        (await ada.patch(f"{hub}/members/{bo_id}", {"role": "admin"})).data(200)
        for stream in (at_ada, at_bo):
            await hears(stream, "hub.members.changed")
        (await bo.patch(hub, {"name": "Orchard and garden"})).data(200)
        for stream in (at_ada, at_bo):
            await hears(stream, "hub.list.changed metadata_updated", "hub.members.changed")

        # A key for the agent, which sees this hub alone and may do no more than read and write there.
        wanted = {"name": "Scout", "agent_name": "scout", "hub_id": made["id"], "scopes": ["read", "write"]}
        agent = Browser(world, (await bo.post("/v1/auth/api-keys", wanted)).data(201)["key"])
        await hears(at_bo, "key.changed created", "agent.changed upserted")
        assert [row["hub"]["id"] for row in (await agent.get("/v1/hubs")).data(200)] == [made["id"]]
        assert (await agent.post(f"{hub}/invites", {})).error == "permission_denied"
        assert (await agent.post(f"{hub}/leave", {})).error == "permission_denied"
        at_agent = await stack.enter_async_context(listening(agent))
        assert (await at_agent.next())[1]["hub_ids"] == [made["id"]]

        # What concerns its person elsewhere, the agent does not hear.
        elsewhere = (await bo.post("/v1/hubs", {"name": "Elsewhere"})).data(201)
        await hears(at_bo, "hub.list.changed created")

        # Transfer.
        offer = (await ada.post(f"{hub}/ownership-transfer", {"target_user_id": bo_id})).data(201)
        for stream in (at_bo, at_agent):
            await hears(stream, "notification.created hub_ownership_transfer")
        assert (await agent.post(f"{hub}/ownership-transfer/{offer['id']}/accept", {})).error == (
            "permission_denied"
        )
        (await bo.post(f"{hub}/ownership-transfer/{offer['id']}/accept", {})).data(200)
        changed = (
            "hub.members.changed",
            "hub.list.changed metadata_updated",
            "notification.created hub_ownership_transferred",
        )
        await hears(at_ada, *changed)
        for stream in (at_bo, at_agent):
            await hears(stream, *changed, "notification.resolved hub_ownership_transfer accepted")
        members = (await ada.get(hub)).data(200)["members"]
        assert [(row["user_name"], row["role"]) for row in members] == [
            ("Bo Bellman", "owner"),
            ("Ada Lovelace", "admin"),
        ]

        # Leave. From then on nothing of the hub is heard.
        (await ada.post(f"{hub}/leave", {})).data(200)
        await hears(at_ada, "hub.list.changed membership_left")
        for stream in (at_bo, at_agent):
            await hears(stream, "hub.members.changed")
        (await bo.patch(hub, {"icon": "🍎"})).data(200)
        for stream in (at_bo, at_agent):
            await hears(stream, "hub.list.changed metadata_updated", "hub.members.changed")

        # Delete. The agent's key was for this hub alone, and ends with it.
        (await bo.delete(hub)).data(200)
        await hears(at_bo, "key.changed revoked", "hub.list.changed deleted")
        assert (await at_agent.ended()) in ([], ["hub.list.changed"])
        assert (await agent.get("/v1/hubs")).status == 401
        for who in (ada, bo):
            assert (await who.get(hub)).error == "not_member"
        assert [row["hub"]["hub_type"] for row in (await ada.get("/v1/hubs")).data(200)] == ["personal"]

        # Ada has heard of nothing in between: her next event is of something new.
        (await ada.post("/v1/hubs", {"name": "Anew"})).data(201)
        await hears(at_ada, "hub.list.changed created")
        (await bo.delete(f"/v1/hubs/{elsewhere['id']}")).data(200)
        await hears(at_bo, "hub.list.changed deleted")
