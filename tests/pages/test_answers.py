"""What pages answer, asked without a browser."""

import re
from pathlib import Path

import pytest

from guildhall.db import new_id
from guildhall.spaces.notices import KINDS
from tests.api.clerks import clerk, clerk_settings, visitor
from tests.cluster import Cluster
from tests.servers.clerk_server import ClerkServer
from tests.world import Browser, World, open_world

__all__ = ["clerk"]

HTML = {"Accept": "text/html"}


async def shown(who: Browser, path: str, status: int = 200) -> str:
    """The page's HTML without the script's words."""
    reply = await who.get(path, headers=HTML)
    assert reply.status == status, reply
    return re.sub(r'data-words="[^"]*"', "", reply.response.text)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_news_is_told_in_a_sentence(world: World, kind: str) -> None:
    ada, bo = await world.people("ada", "bo")
    place = await world.community(ada) if kind.startswith("community_") else await world.hub(ada)
    notice = new_id()
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO notifications (id, audience, space_id, recipient_user_id, kind, bucket, source_kind,"
            " source_id, person_id, payload)"
            " VALUES ($1, 'user', $2::text::uuid, $3, $4, $5, $4, $1::uuid::text, $6, $7::text::jsonb)",
            notice,
            place.id,
            ada.id,
            kind,
            KINDS[kind],
            bo.id,
            '{"role": "admin"}',
        )
    text = await shown(ada, "/inbox")
    assert str(notice) in text or KINDS[kind] == "action"
    assert kind not in text


@pytest.mark.parametrize(
    "path",
    ["/backlog?q=&type=&priority=&session=", "{club}/members?q=&role=", "/backlog?q=&type=bug&priority="],
)
async def test_a_filter_that_is_left_empty_is_no_filter(world: World, path: str) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    await shown(ada, path.format(club=f"/c/{club.body['slug']}"))


async def test_whom_clerk_signed_in_is_taken_in_by_every_page_and_signs_out_there(
    clerk: ClerkServer, cluster: Cluster, database: str, tmp_path: Path
) -> None:
    portal = "https://accounts.example.org"
    settings = clerk_settings(clerk, cluster, database, tmp_path, CLERK_SIGN_IN_URL=f"{portal}/sign-in")
    async with open_world(settings) as world:
        clerk.put_user("user_newcomer", email="newcomer@example.org")
        newcomer = visitor(world, clerk, "user_newcomer")
        assert f"{portal}/sign-in?redirect_url=" in await shown(world.nobody, "/sign-in")
        for path in ("/", "/sign-in", "/join/inv_nothing", "/docs", "/backlog", "/inbox"):
            assert "POST /api/users/sync" in await shown(newcomer, path), path
        (await newcomer.post("/api/users/sync")).ok()
        home = await shown(newcomer, "/")
        assert f"{portal}/user?redirect_url=" in home
        assert "/sessions" not in home and "/api/auth/session" not in home
        reply = await newcomer.get("/sign-in?next=/inbox", headers=HTML)
        assert (reply.status, reply.headers["location"]) == (303, "/inbox")
        assert "/api/auth/session" not in await shown(newcomer, "/join/inv_nothing")
