"""Content to look at in an empty installation: made by the routes that people use, in one transaction."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from guildhall.commands.demo_content import COMMUNITIES, PEOPLE, WISHES, Community, Group, Post
from guildhall.db import Write
from guildhall.settings import Settings

DOMAIN = "demo.example"

# Everything was made in one instant; these give it a past. The newest post is an hour old.
_AGE_POSTS = """
UPDATE posts SET created_at = aged.at, updated_at = aged.at
  FROM (SELECT space_id, id,
               now() - interval '1 hour'
                     - (row_number() OVER (ORDER BY id DESC) - 1) * interval '7 hours 13 minutes' AS at
          FROM posts) AS aged
 WHERE (posts.space_id, posts.id) = (aged.space_id, aged.id)
"""
_AGE_SPACES = """
UPDATE spaces SET created_at = now() - interval '40 days', updated_at = now() - interval '40 days',
       last_active_at = coalesce((SELECT max(created_at) FROM posts WHERE space_id = spaces.id), now())
"""
_AGE_MEMBERS = """
UPDATE members SET joined_at = now() - interval '40 days'
                             + (hashtext(space_id::text || user_id) & 1023) * interval '30 minutes'
"""


def plant(settings: Settings, say: Callable[[str], None]) -> None:
    """Fill the installation unless it holds anything; all of it or, after any fault, nothing."""
    if settings.identity is not None:
        say("There is no demo content with Clerk, whose people cannot be invented.")
        return
    if asyncio.run(_plant(settings)):
        people, communities = len(PEOPLE), len(COMMUNITIES)
        say(f"Made demo content: {people} people, among them ada@{DOMAIN}, in {communities} communities.")


async def _plant(settings: Settings) -> bool:
    from guildhall.db.core import Joined
    from guildhall.users.sign_in import issue_session, person_with
    from guildhall.web.limits import Limiter
    from guildhall.wiring import build_edge, open_house

    async with open_house(settings) as house, house.db.writing() as tx:
        if await tx.value("SELECT EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM spaces)"):
            return False
        # Every request below works inside this transaction, and as fast as it can.
        service = msgspec.structs.replace(house.service, limiter=Limiter(0))
        edge: Any = build_edge(msgspec.structs.replace(house, db=Joined(house.db, tx), service=service))
        assert house.service.issuer is not None
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(edge), base_url=settings.public_url
        ) as client:
            people: dict[str, _Person] = {}
            for name, full_name in PEOPLE.items():
                issuer = house.service.issuer
                user_id = await person_with(tx, issuer.issuer, _address(name), name=full_name)
                session = await issue_session(
                    tx, issuer, house.service.keys, user_id, label="demo", bare=True
                )
                people[name] = _Person(client, user_id, session.token)
            for community in COMMUNITIES:
                await _found(community, people)
            for wish in reversed(WISHES):
                await _Person(client, "", None).post("/api/backlog", wish)
        await _age(tx)
    return True


async def _age(tx: Write) -> None:
    await tx.run(_AGE_POSTS)
    await tx.run(_AGE_SPACES)
    await tx.run(_AGE_MEMBERS)
    # The sessions were for the making only.
    await tx.run("DELETE FROM sessions")


def _address(name: str) -> str:
    return f"{name.lower()}@{DOMAIN}"


class _Person:
    def __init__(self, client: httpx.AsyncClient, user_id: str, token: str | None) -> None:
        self.id = user_id
        self._client = client
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def post(self, path: str, body: object = None) -> Any:
        return await self._send("POST", path, body)

    async def patch(self, path: str, body: object) -> Any:
        return await self._send("PATCH", path, body)

    async def _send(self, method: str, path: str, body: object) -> Any:
        content = msgspec.json.encode({} if body is None else body)
        answer = await self._client.request(method, path, content=content, headers=self._headers)
        # A refusal here is a bug of the demo content; with it the whole is taken back.
        answer.raise_for_status()
        return answer.json() if answer.content else None


async def _found(community: Community, people: Mapping[str, _Person]) -> None:
    owner = people[community.owner]
    made = await owner.post(
        "/api/communities",
        # Open while people come in, as a founder would do it.
        {"name": community.name, "description": community.description},
    )
    url = f"/api/communities/{made['id']}"
    for names, role in (
        (community.admins, "admin"),
        (community.moderators, "moderator"),
        (community.members, None),
    ):
        for name in names:
            await people[name].post(f"{url}/join")
            if role is not None:
                await owner.patch(f"{url}/members", {"targetUserId": people[name].id, "role": role})
    if community.is_private:
        await owner.patch(url, {"isPrivate": True})
    for address in community.invited:
        await owner.post(f"{url}/invite", {"email": address})
    for group in community.groups:
        await _gather(group, made["id"], people)
    # Told newest last, so that the last to be made is the newest.
    for post in community.posts:
        await _write(post, people, communityId=made["id"])


async def _gather(group: Group, community_id: str, people: Mapping[str, _Person]) -> None:
    maker = people[group.by]
    made = await maker.post(
        "/api/groups",
        {
            "communityId": community_id,
            "name": group.name,
            "description": group.description,
            "isPrivate": group.is_private,
        },
    )
    for name in group.members:
        await maker.post(f"/api/groups/{made['id']}", {"targetUserId": people[name].id})
    for post in group.posts:
        await _write(post, people, communityId=community_id, groupId=made["id"])


async def _write(post: Post, people: Mapping[str, _Person], **where: str) -> None:
    body: dict[str, object] = {**where, "content": post.content}
    if post.title is not None:
        body["title"] = post.title
    if post.pinned:
        body["isPinned"] = True
    await people[post.by].post("/api/posts", body)
