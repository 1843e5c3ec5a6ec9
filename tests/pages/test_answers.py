"""What pages answer, asked without a browser."""

import gzip
import random
import re
from pathlib import Path

import pytest

from guildhall.db import new_id
from guildhall.pages import render
from guildhall.pages.render import error_page, markdown
from guildhall.spaces.notices import KINDS
from guildhall.web.app import Internal
from tests.api.clerks import clerk, clerk_settings, visitor
from tests.cluster import Cluster, app_url
from tests.servers.clerk_server import ClerkServer
from tests.v1.test_hubs import crowd
from tests.world import Browser, World, open_world, settings_for

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
            "INSERT INTO notifications (id, space_id, recipient_user_id, kind, bucket, source_kind,"
            " source_id, person_id, payload)"
            " VALUES ($1, $2::text::uuid, $3, $4, $5, $4, $1::uuid::text, $6, $7::text::jsonb)",
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


async def test_an_error_page_keeps_the_way_to_what_is_ones_own(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    for path, status in (
        ("/nowhere", 404),
        (f"/c/{club.body['slug']}/settings", 403),
    ):
        text = await shown(bo, path, status)
        assert 'href="/inbox"' in text and 'href="/sign-in"' not in text, path
    text = await shown(world.nobody, "/nowhere", 404)
    assert 'href="/sign-in"' in text and 'href="/inbox"' not in text


async def test_a_fault_of_ours_is_not_put_down_to_the_request(world: World) -> None:
    status, _, body = error_page(world.house.service, Internal(), "/", "req_1", False)
    assert status == 500
    assert b"went wrong on our side" in body and b"req_1" in body


@pytest.mark.parametrize("dead", [False, True])
async def test_who_is_in_already_is_led_there_by_an_invitation(world: World, dead: bool) -> None:
    ada, bo = await world.people("ada", "bo")
    club, hub = await world.community(ada), await world.hub(ada)
    links = {
        f"/c/{club.body['slug']}": (await ada.post(f"{club.url}/invite", {"email": bo.email})).ok(201)[
            "token"
        ],
        f"/h/{hub.body['slug']}": (await ada.post(f"{hub.url}/invites", {"role": "viewer"})).data(201)[
            "token"
        ],
    }
    for place, token in links.items():
        assert "/accept" in await shown(bo, f"/join/{token}")
        kind = "/api/invites" if place.startswith("/c/") else "/v1/invites"
        (await bo.post(f"{kind}/{token}/accept")).ok()
        looker = bo if dead else ada
        text = await shown(looker, f"/join/{token}")
        assert f'href="{place}"' in text and "/accept" not in text
        assert "has been used" in await shown(world.nobody, f"/join/{token}")
        # Clients that know only this address make links of their own form.
        assert (await world.nobody.get(f"/invite/{token}")).headers["location"] == f"/join/{token}"


async def test_every_item_of_the_backlog_can_be_reached_and_read(world: World) -> None:
    mark = new_id().hex
    last = ""
    for number in range(45):
        item = {"title": f"{mark} {number}", "type": "bug", "priority": "low", "session": "web"}
        made = await world.nobody.post("/api/backlog", {**item, "description": prose(5_000, number)})
        last = made.ok(201)["id"]
    text = await shown(world.nobody, f"/backlog?q={mark}")
    assert "data-count>45<" in text
    assert len(text) < 100_000
    titles: set[str] = set()
    while True:
        titles |= set(re.findall(rf">({mark} \d+)</a>", text))
        more = re.search(r'href="([^"]+)" data-more="cards-open"', text)
        if more is None:
            break
        text = await shown(world.nobody, more[1].replace("&amp;", "&"))
    assert len(titles) == 45
    whole = await shown(world.nobody, f"/backlog/{last}")
    assert prose(5_000, 44).strip() in whole
    await shown(world.nobody, f"/backlog/{new_id()}", 404)
    await shown(world.nobody, "/backlog/nothing", 404)


def test_no_form_of_the_script_is_sent_by_the_browser_itself() -> None:
    for path in (Path(render.__file__).parent / "templates").rglob("*.html"):
        for form in re.findall(r"<form[^>]*\sdata-(?:call|try)[^>]*>", path.read_text("utf-8")):
            assert 'method="dialog"' in form, form


async def test_where_the_documentation_is_hidden_no_page_leads_there(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    settings = settings_for(tmp_path, app_url(cluster, database), database, DOCS="false")
    async with open_world(settings) as world:
        for path in ("/", "/backlog", "/sign-in"):
            assert '"/docs' not in await shown(world.nobody, path)
        await shown(world.nobody, "/docs", 404)


async def test_a_failed_job_is_tried_again_by_an_operator_alone(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    operator = f"operator.{new_id().hex}@example.org"
    settings = settings_for(tmp_path, app_url(cluster, database), database, OPERATORS=operator)
    async with open_world(settings) as world:
        ada, eve = await world.people("ada", "eve")
        async with world.db.writing() as tx:
            await tx.run("UPDATE users SET email = $2 WHERE id = $1", ada.id, operator)
            job = await tx.value(
                "INSERT INTO pgqueuer (priority, entrypoint, status) VALUES (0, 'blob.unused', 'failed')"
                " RETURNING id"
            )
        again = f"/status/jobs/{job}/retry"
        assert f"POST {again}" in await shown(ada, "/status")
        await shown(eve, "/status", 404)
        assert (await eve.post(again)).status == 404
        assert (await ada.post(again)).status == 204
        assert again not in await shown(ada, "/status")
        assert (await ada.post(again)).status == 404
        assert 'href="/status"' in await shown(ada, "/")
        async with world.db.writing() as tx:
            await tx.run("DELETE FROM pgqueuer WHERE id = $1", job)


async def test_a_service_says_what_it_is(cluster: Cluster, database: str, tmp_path: Path) -> None:
    about = {"NAME": "Valley <Commons>", "ABOUT": "For everybody & their neighbours."}
    settings = settings_for(tmp_path, app_url(cluster, database), database, **about)
    async with open_world(settings) as world:
        home = await shown(world.nobody, "/")
        assert "Valley &lt;Commons&gt;</title>" in home
        assert "For everybody &amp; their neighbours." in home
        assert 'href="/api/health"' in home


def test_an_address_in_a_post_is_a_link() -> None:
    html = markdown("See https://a.example/x_y_z?q=1, [b](https://b.example) and `https://c.example`.")
    assert '<a href="https://a.example/x_y_z?q=1"' in html and "q=1</a>," in html
    assert html.count("<a ") == 2
    assert "<a " not in markdown("https:// javascript://x http://")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("expires_at = now() - interval '1 minute'", "This invitation has expired"),
        ("revoked_at = now(), revoked_by = invited_by", "This invitation was withdrawn"),
        ("accepted_at = now(), accepted_by = invited_by", "This invitation has been used"),
    ],
)
async def test_a_dead_invitation_says_what_it_died_of_and_nothing_else(
    world: World, change: str, says: str
) -> None:
    ada, eve = await world.people("ada", "eve")
    hub = await world.hub(ada, name="A secret place")
    made = (await ada.post(f"{hub.url}/invites", {"role": "viewer"})).data(201)
    async with world.db.writing() as tx:
        await tx.connection.execute(f"UPDATE invites SET {change} WHERE id = $1::text::uuid", made["id"])
    for who in (eve, world.nobody):
        text = await shown(who, f"/join/{made['token']}")
        assert says in text and "A secret place" not in text and "/accept" not in text
    text = await shown(eve, f"/join/{made['token'][:-1]}")
    assert "This link leads nowhere" in text


async def test_members_of_a_hub_are_listed_some_at_a_time(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    await crowd(world, hub, 60)
    (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)

    path = f"/h/{hub.body['slug']}/members"
    first = await shown(bo, path)
    (following,) = re.findall(r'href="(\?cursor=[^"]+)"', first)
    second = await shown(bo, path + following)
    assert (first.count("data-item"), second.count("data-item")) == (50, 12)
    assert "cursor=" not in second
    for text in (first, second):
        assert "62 members" in text and "ada offers you" in text.replace("\n", " ")
