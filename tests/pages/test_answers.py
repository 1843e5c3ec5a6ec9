"""What pages answer, asked without a browser."""

import gzip
import random
import re
from pathlib import Path

import pytest

from guildhall.db import new_id
from guildhall.pages.render import markdown
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


LONGEST = 10_000


def prose(length: int, seed: int) -> str:
    """Words as people write them, no two texts alike."""
    draw = random.Random(seed)
    words = ("".join(draw.choices("abcdefghilmnoprstuvw", k=draw.randint(2, 9))) for _ in range(length))
    return " ".join(words)[:length]


async def test_a_feed_of_the_longest_posts_is_light_on_the_wire(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    for number in range(20):
        body = {"communityId": club.id, "content": prose(LONGEST // 2, number)}
        (await ada.post("/api/posts", body)).ok(201)
    path = f"/c/{club.body['slug']}"
    plain = (await ada.get(path, headers={**HTML, "Accept-Encoding": "identity"})).response
    assert "content-encoding" not in plain.headers
    # Each text once: what its author edits is read when they do.
    assert len(plain.content) < 20 * LONGEST
    async with world.client.stream(
        "GET", path, headers={**HTML, "Accept-Encoding": "gzip", "Authorization": f"Bearer {ada.token}"}
    ) as reply:
        sent = b"".join([part async for part in reply.aiter_raw()])
    assert reply.headers["content-encoding"] == "gzip" and reply.headers["vary"] == "Accept-Encoding"
    assert len(sent) < 100 * 1024
    assert gzip.decompress(sent) == plain.content


@pytest.mark.parametrize(
    "shape",
    [
        *("|a" * 80 + "|\n" + "|-" * 80 + "|\n" + "|\n" * 4_800, "> - " * 2_500, "> - > - > - a\n" * 700),
        *("[" * LONGEST, "![" * 5_000, "**x " * 2_500, "[a](" * 2_500, "- a\n" * 2_500, "*~~_`[" * 1_600),
    ],
)
def test_no_post_becomes_much_larger_than_it_was(shape: str) -> None:
    assert len(markdown(shape[:LONGEST])) < 15 * LONGEST


async def test_an_attached_file_keeps_its_name(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    asked = {"filename": "minutes of <May>.txt", "contentType": "text/plain", "sizeBytes": 3}
    place = (await ada.post("/api/uploads", {**asked, "purpose": "attachment"})).ok(201)
    sent = await world.client.put(place["uploadUrl"], content=b"yes", headers=place["headers"])
    assert sent.status_code == 204, sent.text
    body = {"communityId": club.id, "content": "See below.", "attachments": [place["url"]]}
    (await ada.post("/api/posts", body)).ok(201)
    assert ">minutes of &lt;May&gt;.txt</a>" in await shown(ada, f"/c/{club.body['slug']}")
