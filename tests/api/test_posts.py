"""Posts: who reads, writes, changes and deletes them, and the feed they stand in."""

import asyncio
import base64
import json
from typing import Any

import pytest

from tests.world import Community, Person, World

NOBODY = "018f0000-0000-7000-8000-000000000000"


async def write(person: Person, club: Community, content: str = "Hello", **fields: Any) -> dict[str, Any]:
    return (await person.post("/api/posts", {"communityId": club.id, "content": content, **fields})).ok(201)


async def group_of(owner: Person, club: Community, *people: Person, **fields: Any) -> dict[str, Any]:
    body = {"communityId": club.id, "name": "Tomatoes", **fields}
    group = (await owner.post("/api/groups", body)).ok(201)
    for person in people:
        (await owner.post(f"/api/groups/{group['id']}", {"targetUserId": person.id})).ok(201)
    return group


def feed(club: Community, group: dict[str, Any] | None = None, more: str = "") -> str:
    return f"/api/posts?communityId={club.id}" + (f"&groupId={group['id']}" if group else "") + more


async def contents(person: Person, path: str) -> list[str]:
    return [post["content"] for post in (await person.get(path)).ok()["items"]]


def same(reply: Any, missing: Any) -> bool:
    return reply.json | {"requestId": ""} == missing.json | {"requestId": ""}


# Writing.


async def test_a_post_is_answered_as_everybody_will_read_it(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])

    url = f"{world.house.service.public_url}/blobs/abc.png"
    made = await write(bo, club, "  # Ü\n\n<b>bold</b>  ", title=" First ", attachments=[url])
    assert made == {
        "id": made["id"],
        "communityId": club.id,
        "groupId": None,
        "author": {"id": bo.id, "displayName": "bo", "avatarUrl": None},
        "title": "First",
        "content": "# Ü\n\n<b>bold</b>",
        "attachments": [url],
        "isPinned": False,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
        "editedAt": None,
    }
    assert made["createdAt"].endswith("Z")
    assert (await ada.get(f"/api/posts/{made['id']}")).ok() == made
    page = (await ada.get(feed(club))).ok()
    assert page == {
        "items": [made],
        "page": 1,
        "limit": 20,
        "total": 1,
        "hasMore": False,
        "nextCursor": None,
    }


async def test_writing_needs_membership_of_the_community_and_of_the_group(world: World) -> None:
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    club = await world.community(ada, members=[bo, cy])
    hidden = await world.community(ada, isPrivate=True)
    public, private = await group_of(ada, club, bo), await group_of(ada, club, bo, isPrivate=True)

    async def attempt(person: Any, community: Community, group: Any = None) -> str | None:
        body = {"communityId": community.id, "content": "Hi", "groupId": group and group["id"]}
        return (await person.post("/api/posts", body)).error

    assert await attempt(eve, club) == "forbidden"
    assert await attempt(eve, hidden) == "not_found"
    assert await attempt(eve, club, public) == "forbidden"
    assert await attempt(eve, hidden, public) == "not_found"
    assert await attempt(cy, club, public) == "forbidden"
    assert await attempt(cy, club, private) == "not_found"
    assert await attempt(cy, club, {"id": NOBODY}) == "not_found"
    # A group of another community is none, also to somebody who is in both.
    assert await attempt(ada, hidden, public) == "not_found"
    assert await attempt(world.nobody, club) == "unauthorized"
    for person in (ada, bo):
        assert await attempt(person, club, public) is None
        assert await attempt(person, club, private) is None
    async with world.db.reading() as read:
        count = await read.value("SELECT count(*) FROM posts WHERE space_id = $1::uuid", club.id)
    assert count == 4


async def test_who_may_not_write_does_not_learn_what_is_wrong_with_the_body(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    club = await world.community(ada)
    hidden = await world.community(ada, isPrivate=True)
    bad = {"content": "", "title": 5, "attachments": ["https://evil.example/x.png"], "isPinned": "yes"}

    assert (await eve.post("/api/posts", bad | {"communityId": hidden.id})).error == "not_found"
    assert (await eve.post("/api/posts", bad | {"communityId": club.id})).error == "forbidden"
    foreign = {"communityId": club.id, "groupId": NOBODY}
    assert (await ada.post("/api/posts", bad | foreign)).error == "not_found"
    assert (await ada.post("/api/posts", bad | {"communityId": club.id})).fields == {
        "/content": "too_short",
        "/title": "type",
        "/attachments/0": "not_allowed",
        "/isPinned": "type",
    }
    assert (await ada.post("/api/posts", {})).fields == {"/communityId": "required", "/content": "required"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"content": "x" * 10_000}, None),
        ({"content": "é" * 10_000}, None),
        ({"content": " " + "x" * 10_000 + "\n"}, None),
        ({"content": "x" * 10_001}, {"/content": "too_long"}),
        ({"content": " \n\t "}, {"/content": "too_short"}),
        ({"content": None}, {"/content": "type"}),
        ({"title": "t" * 200}, None),
        ({"title": "t" * 201}, {"/title": "too_long"}),
        ({"title": "a\u202eb"}, {"/title": "character"}),
        ({"title": None}, None),
        ({"groupId": "nonsense"}, {"/groupId": "too_short"}),
        ({"attachments": ["OWN"] * 10}, None),
        ({"attachments": ["OWN"] * 11}, {"/attachments": "too_long"}),
        ({"attachments": None}, {"/attachments": "type"}),
        ({"attachments": ["OWN", "https://evil.example/a.png"]}, {"/attachments/1": "not_allowed"}),
        ({"attachments": ["javascript:alert(1)"]}, {"/attachments/0": "not_allowed"}),
        ({"attachments": ["http://localhost:3002/blobs/../x.png"]}, {"/attachments/0": "not_allowed"}),
    ],
)
async def test_the_limits_of_a_post(
    world: World, fields: dict[str, Any], problem: dict[str, str] | None
) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    own = f"{world.house.service.public_url}/blobs/abc.png"
    if isinstance(fields.get("attachments"), list):
        fields = {"attachments": [own if url == "OWN" else url for url in fields["attachments"]]}

    reply = await ada.post("/api/posts", {"communityId": club.id, "content": "Hi", **fields})
    if problem is None:
        reply.ok(201)
        made = reply.json
        changed = await ada.patch(f"/api/posts/{made['id']}", fields)
        assert changed.ok()["content"] == made["content"]
    else:
        assert reply.fields == problem
        made = await write(ada, club)
        if "groupId" not in fields:
            # The same field has the same rule on both routes.
            assert (await ada.patch(f"/api/posts/{made['id']}", fields)).fields == problem


async def test_fields_that_are_not_the_writers_are_ignored(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])

    forged = {"id": NOBODY, "authorId": ada.id, "author": {"id": ada.id}, "createdAt": "2001-01-01T00:00:00Z"}
    made = await write(bo, club, **forged)
    assert made["author"]["id"] == bo.id
    assert made["id"] != NOBODY
    assert not made["createdAt"].startswith("2001")
    moved = (await bo.patch(f"/api/posts/{made['id']}", forged | {"communityId": NOBODY})).ok()
    assert moved == made


# Pinning.


async def test_pinning_is_for_the_owner_admins_and_moderators(world: World) -> None:
    ada, bo, cy, dan = await world.people("ada", "bo", "cy", "dan")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan])

    refused = await dan.post("/api/posts", {"communityId": club.id, "content": "Up", "isPinned": True})
    assert (refused.status, refused.error) == (403, "may_not_pin")
    for person in (ada, bo, cy):
        assert (await write(person, club, isPinned=True))["isPinned"] is True
    mine = await write(dan, club, isPinned=False)
    url = f"/api/posts/{mine['id']}"
    assert (await dan.patch(url, {"isPinned": True})).error == "may_not_pin"
    assert (await dan.patch(url, {"isPinned": True, "content": "x"})).error == "may_not_pin"
    assert (await dan.patch(url, {"isPinned": False, "content": "As before"})).ok()["isPinned"] is False
    pinned = (await cy.patch(url, {"isPinned": True})).ok()
    assert (pinned["isPinned"], pinned["content"]) == (True, "As before")
    assert (await dan.patch(url, {"isPinned": False})).error == "may_not_pin"
    assert (await cy.patch(url, {"isPinned": False, "content": "Mine now"})).error == "forbidden"


async def test_pinned_posts_come_first_and_then_the_newest(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    posts = [await write(ada, club, str(n)) for n in range(4)]

    await ada.patch(f"/api/posts/{posts[1]['id']}", {"isPinned": True})
    assert await contents(ada, feed(club)) == ["1", "3", "2", "0"]
    await ada.patch(f"/api/posts/{posts[2]['id']}", {"isPinned": True})
    assert await contents(ada, feed(club)) == ["2", "1", "3", "0"]
    await ada.patch(f"/api/posts/{posts[1]['id']}", {"isPinned": False})
    assert await contents(ada, feed(club)) == ["2", "3", "1", "0"]


# Reading.


async def test_a_feed_is_read_by_those_who_may_see_it(world: World) -> None:
    ada, bo, cy, dan, eve = await world.people("ada", "bo", "cy", "dan", "eve")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan])
    hidden = await world.community(ada, isPrivate=True)
    public, private = await group_of(ada, club), await group_of(ada, club, isPrivate=True)
    await write(ada, club, "everybody")
    posts = [await write(ada, club, n, groupId=g["id"]) for n, g in (("open", public), ("secret", private))]

    for person in (ada, bo, cy, dan):
        assert await contents(person, feed(club)) == ["everybody"]
        assert await contents(person, feed(club, public)) == ["open"]
        assert (await person.get(f"/api/posts/{posts[0]['id']}")).ok() == posts[0]
    for person in (ada, bo):
        assert await contents(person, feed(club, private)) == ["secret"]
        assert (await person.get(f"/api/posts/{posts[1]['id']}")).ok() == posts[1]
    missing = await dan.get(f"/api/posts/{NOBODY}")
    assert missing.status == 404
    for reply in (
        await cy.get(feed(club, private)),
        await dan.get(feed(club, private)),
        await dan.get(f"/api/posts/{posts[1]['id']}"),
        await dan.get(feed(club, {"id": NOBODY})),
        await ada.get(feed(hidden, public)),
        await eve.get(feed(hidden)),
        await eve.get(feed(hidden, public)),
        await eve.get(f"/api/posts/{posts[0]['id']}"),
        await eve.get(f"/api/posts?communityId={NOBODY}"),
        await eve.get("/api/posts/nonsense"),
    ):
        assert same(reply, missing), reply
    assert (await eve.get(feed(club))).error == "forbidden"
    assert (await world.nobody.get(feed(club))).status == 401


async def test_pages_and_cursors_make_the_same_whole_also_through_ties(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    group = await group_of(ada, club)
    async with world.db.writing() as tx:
        for place in (None, group["id"]):
            # Three times only, so that pages end between posts of the same moment.
            await tx.run(
                "INSERT INTO posts (id, space_id, group_id, author_id, content, is_pinned, created_at)"
                " SELECT gen_random_uuid(), $1::uuid, $2::uuid, $3, n::text, n % 5 = 0,"
                "        timestamptz '2026-01-01' + (n % 3) * interval '1 microsecond'"
                "   FROM generate_series(1, 23) AS n",
                club.id,
                place,
                ada.id,
            )

    for place in (None, group):
        whole = (await ada.get(feed(club, place, "&limit=100"))).ok()["items"]
        assert whole == sorted(whole, key=lambda p: (p["isPinned"], p["createdAt"], p["id"]), reverse=True)
        assert len(whole) == 23
        for limit in (1, 4, 23, 24):
            by_page, number = [], 1
            while True:
                page = (await ada.get(feed(club, place, f"&limit={limit}&page={number}"))).ok()
                assert (page["total"], page["limit"], page["page"]) == (23, limit, number)
                by_page += page["items"]
                if not page["hasMore"]:
                    assert page["nextCursor"] is None
                    break
                number += 1
            by_cursor, cursor = [], ""
            while cursor is not None:
                page = (await ada.get(feed(club, place, f"&limit={limit}{cursor}"))).ok()
                assert page["total"] == 23
                by_cursor += page["items"]
                cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
            assert by_page == by_cursor == whole
        assert (await ada.get(feed(club, place, "&page=9"))).ok()["items"] == []


async def test_a_cursor_does_not_shift_when_something_new_is_posted(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    for n in range(4):
        await write(ada, club, str(n))

    first = (await ada.get(feed(club, None, "&limit=2"))).ok()
    await write(ada, club, "new")
    assert await contents(ada, feed(club, None, f"&limit=2&cursor={first['nextCursor']}")) == ["1", "0"]


def _cursor(*key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", None),
        ("&limit=1", None),
        ("&limit=100", None),
        ("&limit=0", {"?limit": "out_of_range"}),
        ("&limit=101", {"?limit": "out_of_range"}),
        ("&limit=ten", {"?limit": "out_of_range"}),
        ("&limit=-1", {"?limit": "out_of_range"}),
        ("&limit=%31", None),
        ("&limit=%C2%B2", {"?limit": "out_of_range"}),
        ("&limit=", {"?limit": "out_of_range"}),
        ("&limit=2&limit=3", {"?limit": "repeated"}),
        ("&page=0&limit=x", {"?page": "out_of_range", "?limit": "out_of_range"}),
        ("&page=5000", None),
        ("&page=5001", {"?page": "too_deep"}),
        ("&page=99999999999999999999", {"?page": "out_of_range"}),
        ("&groupId=nonsense", {"?groupId": "format"}),
        ("&groupId=", {"?groupId": "format"}),
        ("&cursor=", {"?cursor": "invalid_cursor"}),
        ("&cursor=nonsense!", {"?cursor": "invalid_cursor"}),
        ("&cursor=" + _cursor(True, "2026-01-01T00:00:00Z", NOBODY), None),
        ("&cursor=" + _cursor(True, "0001-01-01T00:00:00+14:00", NOBODY), {"?cursor": "invalid_cursor"}),
        ("&cursor=" + _cursor(True, "9999-12-31T23:59:59-14:00", NOBODY), {"?cursor": "invalid_cursor"}),
        ("&cursor=" + _cursor(True, "2026-01-01T00:00:00", NOBODY), {"?cursor": "invalid_cursor"}),
        ("&cursor=" + _cursor(1, "2026-01-01T00:00:00Z", NOBODY), {"?cursor": "invalid_cursor"}),
        ("&cursor=" + _cursor("2026-01-01T00:00:00Z", NOBODY), {"?cursor": "invalid_cursor"}),
        ("&unknown=%ff&&=x&y", None),
    ],
)
async def test_the_parameters_of_a_feed(world: World, query: str, problem: dict[str, str] | None) -> None:
    ada, eve = await world.people("ada", "eve")
    hidden = await world.community(ada, isPrivate=True)

    reply = await ada.get(feed(hidden, None, query))
    if problem is None:
        reply.ok(200)
    else:
        assert (reply.status, reply.fields) == (400, problem)
    # To a stranger there is nothing to ask of, however it is asked.
    assert (await eve.get(feed(hidden, None, query))).status == 404


async def test_a_feed_needs_a_community(world: World) -> None:
    ada = await world.person("ada")

    assert (await ada.get("/api/posts")).fields == {"?communityId": "required"}
    assert (await ada.get("/api/posts?communityId=gardeners")).fields == {"?communityId": "format"}
    assert (await world.nobody.get("/api/posts")).status == 401


async def test_an_erased_author_leaves_a_post_without_a_name(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    made = await write(bo, club)
    before = await ada.get(feed(club))
    (await bo.delete(f"{club.url}/members?targetUserId={bo.id}")).ok(204)
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE users SET status = 'erased', erased_at = now(), email = NULL, display_name = 'Erased'"
            " WHERE id = $1",
            bo.id,
        )

    nobody = {"id": None, "displayName": None, "avatarUrl": None}
    after = await ada.get(feed(club), headers={"If-None-Match": before.headers["ETag"]})
    assert after.ok(200)["items"][0]["author"] == nobody
    assert (await ada.get(f"/api/posts/{made['id']}")).ok()["author"] == nobody


# Asking again.


async def test_an_unchanged_feed_is_not_sent_again(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await group_of(ada, club)
    await write(ada, club)

    for path in (feed(club), feed(club, group), feed(club, None, "&limit=5")):
        first = await bo.get(path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        etag = {"If-None-Match": first.headers["ETag"]}
        again = await bo.get(path, headers=etag)
        assert (again.status, again.response.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Cache-Control"] == "private, no-cache"
        listed = {"If-None-Match": f'"other", {first.headers["ETag"]}'}
        assert (await bo.get(path, headers=listed)).status == 304
        assert (await bo.get(path, headers={"If-None-Match": '"other"'})).status == 200
    other = await bo.get(feed(club, None, "&limit=6"), headers=etag)
    assert other.status == 200


async def test_whatever_a_feed_shows_changes_its_tag(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await group_of(ada, club, bo)

    for place in (None, group):
        fields = {"groupId": place["id"]} if place else {}
        made: dict[str, Any] = {}

        async def rename() -> None:
            async with world.db.writing() as tx:
                await tx.run("UPDATE users SET display_name = display_name || '!' WHERE id = $1", bo.id)

        async def post(fields: Any = fields, made: Any = made) -> None:
            made |= await write(bo, club, **fields)

        async def edit(made: Any = made) -> None:
            (await bo.patch(f"/api/posts/{made['id']}", {"content": "Else"})).ok()

        async def pin(made: Any = made) -> None:
            (await ada.patch(f"/api/posts/{made['id']}", {"isPinned": True})).ok()

        async def remove(made: Any = made) -> None:
            (await ada.delete(f"/api/posts/{made['id']}")).ok()

        seen = await bo.get(feed(club, place))
        for change in (post, rename, edit, pin, remove):
            await change()
            now = await bo.get(feed(club, place), headers={"If-None-Match": seen.headers["ETag"]})
            assert now.status == 200, change
            seen = now


async def test_a_tag_is_worth_nothing_to_who_lost_the_right_to_read(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await group_of(ada, club, bo, isPrivate=True)
    tags = [{"If-None-Match": (await bo.get(feed(club, g))).headers["ETag"]} for g in (None, group)]

    (await bo.delete(f"/api/groups/{group['id']}/members?targetUserId={bo.id}")).ok(204)
    assert (await bo.get(feed(club, group), headers=tags[1])).status == 404
    (await ada.delete(f"{club.url}/members?targetUserId={bo.id}")).ok(204)
    assert (await bo.get(feed(club), headers=tags[0])).status == 403
    async with world.db.writing() as tx:
        await tx.run("UPDATE users SET status = 'disabled' WHERE id = $1", bo.id)
    assert (await bo.get(feed(club), headers=tags[0])).status == 401


# Changing and deleting.


async def test_a_post_is_changed_by_its_author_and_says_when_its_text_was(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club = await world.community(ada, moderators=[cy], members=[bo])
    made = await write(bo, club, title="One")
    url = f"/api/posts/{made['id']}"

    assert (await bo.patch(url, {})).ok() == made
    assert (await bo.patch(url, {"content": "Hello", "title": "One"})).ok() == made
    own = f"{world.house.service.public_url}/blobs/abc.png"
    attached = (await bo.patch(url, {"attachments": [own]})).ok()
    assert (attached["editedAt"], attached["attachments"]) == (None, [own])
    assert attached["updatedAt"] > made["updatedAt"]
    edited = (await bo.patch(url, {"content": "Bye", "title": None})).ok()
    assert (edited["content"], edited["title"], edited["attachments"]) == ("Bye", None, [own])
    assert edited["editedAt"] == edited["updatedAt"] > attached["updatedAt"]
    pinned = (await cy.patch(url, {"isPinned": True})).ok()
    assert pinned["editedAt"] == edited["editedAt"]
    for person in (ada, cy):
        for change in ({"content": "x"}, {"title": None}, {"attachments": []}):
            assert (await person.patch(url, change)).error == "forbidden"
    assert (await ada.get(url)).ok() == pinned


async def test_who_may_not_change_a_post_does_not_learn_what_is_wrong_with_the_change(world: World) -> None:
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    club = await world.community(ada, members=[bo, cy])
    url = f"/api/posts/{(await write(bo, club))['id']}"

    assert (await cy.patch(url, {"content": 5})).error == "forbidden"
    assert (await eve.patch(url, {"content": 5})).error == "not_found"
    assert (await ada.patch(url, {"isPinned": 5})).fields == {"/isPinned": "type"}


async def test_a_post_is_deleted_by_its_author_and_by_moderators_who_see_it(world: World) -> None:
    ada, bo, cy, dan, eve = await world.people("ada", "bo", "cy", "dan", "eve")
    club = await world.community(ada, admins=[bo], moderators=[cy], members=[dan, eve])
    public, private = await group_of(ada, club, dan), await group_of(ada, club, dan, isPrivate=True)

    async def by(person: Person, group: Any = None) -> int:
        made = await write(dan, club, groupId=group and group["id"])
        status = (await person.delete(f"/api/posts/{made['id']}")).status
        left = (await ada.get(f"/api/posts/{made['id']}")).status
        assert left == (404 if status == 204 else 200)
        return status

    assert [await by(p) for p in (ada, bo, cy, dan, eve)] == [204, 204, 204, 204, 403]
    assert [await by(p, public) for p in (ada, bo, cy, dan, eve)] == [204, 204, 204, 204, 403]
    assert [await by(p, private) for p in (ada, bo, cy, dan, eve)] == [204, 204, 404, 204, 404]
    page = (await ada.get(feed(club))).ok()
    assert page["total"] == len(page["items"]) == 1
    async with world.db.reading() as read:
        noted = await read.value(
            "SELECT count(*) FROM audit WHERE space_id = $1::uuid AND action = 'post.delete'", club.id
        )
    assert noted == 11


async def test_former_members_have_no_right_to_what_they_wrote(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    club = await world.community(ada, members=[bo, cy])
    public, private = await group_of(ada, club, bo, cy), await group_of(ada, club, bo, isPrivate=True)
    own, open_, secret = [await write(bo, club, groupId=g) for g in (None, public["id"], private["id"])]

    for group in (public, private):
        (await bo.delete(f"/api/groups/{group['id']}/members?targetUserId={bo.id}")).ok(204)
    for call in (bo.delete, lambda url: bo.patch(url, {"content": "x"})):
        assert (await call(f"/api/posts/{open_['id']}")).error == "forbidden"
        assert (await call(f"/api/posts/{secret['id']}")).error == "not_found"
    (await bo.delete(f"{club.url}/members?targetUserId={bo.id}")).ok(204)
    for made in (own, open_, secret):
        url = f"/api/posts/{made['id']}"
        for reply in (await bo.get(url), await bo.delete(url), await bo.patch(url, {"content": "x"})):
            assert reply.error == "not_found"
        assert (await ada.get(url)).ok() == made
    assert (await bo.post("/api/posts", {"communityId": club.id, "content": "x"})).error == "forbidden"


async def test_a_deleted_group_takes_its_posts_along(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    group = await group_of(ada, club)
    made = await write(ada, club, groupId=group["id"])

    (await ada.delete(f"/api/groups/{group['id']}")).ok(204)
    assert (await ada.get(f"/api/posts/{made['id']}")).error == "not_found"
    assert (await ada.get(feed(club, group))).error == "not_found"
    assert (await ada.patch(f"/api/posts/{made['id']}", {"isPinned": True})).error == "not_found"
    body = {"communityId": club.id, "groupId": group["id"], "content": "x"}
    assert (await ada.post("/api/posts", body)).error == "not_found"


async def test_a_deleted_community_takes_its_posts_along(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    made = await write(ada, club)

    (await ada.delete(club.url)).ok(204)
    for reply in (
        await ada.get(f"/api/posts/{made['id']}"),
        await ada.delete(f"/api/posts/{made['id']}"),
        await ada.get(feed(club)),
        await ada.post("/api/posts", {"communityId": club.id, "content": "x"}),
    ):
        assert reply.error == "not_found"


# At once.


async def test_no_post_outlives_a_group_that_is_deleted_meanwhile(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])

    for _ in range(8):
        group = await group_of(ada, club, bo)
        body = {"communityId": club.id, "groupId": group["id"], "content": "x"}
        replies = await asyncio.gather(
            bo.post("/api/posts", body),
            bo.post("/api/posts", body),
            ada.delete(f"/api/groups/{group['id']}"),
            bo.post("/api/posts", body),
        )
        assert {r.status for r in replies} <= {201, 204, 404}
        async with world.db.reading() as read:
            assert not await read.value("SELECT count(*) FROM posts WHERE space_id = $1::uuid", club.id)
    assert (await ada.get(feed(club))).ok()["total"] == 0


async def test_nobody_posts_after_their_removal_was_answered(world: World) -> None:
    """The community is locked before the membership is read, so who waits for the lock sees the removal."""
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = await group_of(ada, club, bo)
    body = {"communityId": club.id, "groupId": group["id"], "content": "late"}
    url = f"{feed(club, group)}&limit=100"

    async with world.db.writing() as tx:
        await tx.run("SELECT FROM spaces WHERE id = $1::uuid FOR NO KEY UPDATE", club.id)
        waiting = [asyncio.create_task(bo.post("/api/posts", body)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await tx.run(
            "DELETE FROM group_members WHERE group_id = $1::uuid AND user_id = $2", group["id"], bo.id
        )
    assert {r.error for r in await asyncio.gather(*waiting)} == {"forbidden"}
    assert await contents(ada, url) == []

    async with world.db.writing() as tx:
        await tx.run("SELECT FROM spaces WHERE id = $1::uuid FOR NO KEY UPDATE", club.id)
        plain = {"communityId": club.id, "content": "late"}
        waiting = [asyncio.create_task(bo.post("/api/posts", plain)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await tx.run("DELETE FROM members WHERE space_id = $1::uuid AND user_id = $2", club.id, bo.id)
    assert {r.error for r in await asyncio.gather(*waiting)} == {"forbidden"}
    assert await contents(ada, feed(club)) == []


async def test_posts_written_at_once_are_all_there_once_and_counted(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)

    await asyncio.gather(*(write(ada, club, str(n)) for n in range(12)))
    page = (await ada.get(feed(club))).ok()
    assert sorted(int(p["content"]) for p in page["items"]) == list(range(12))
    assert page["total"] == 12


async def test_a_repeated_post_with_an_idempotency_key_is_written_once(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    body, key = {"communityId": club.id, "content": "once"}, {"Idempotency-Key": "k1"}

    first = await ada.post("/api/posts", body, headers=key)
    again = await ada.post("/api/posts", body, headers=key)
    assert first.ok(201) == again.ok(201)
    assert (await ada.get(feed(club))).ok()["total"] == 1


async def test_reading_and_writing_take_one_round_trip(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    group = await group_of(ada, club)
    made = await write(ada, club)
    tag = {"If-None-Match": (await ada.get(feed(club))).headers["ETag"]}
    body = {"communityId": club.id, "groupId": group["id"], "content": "x"}

    for call, status in (
        (lambda: ada.get(feed(club)), 200),
        (lambda: ada.get(feed(club, group)), 200),
        (lambda: ada.get(feed(club, group, "&cursor=" + _cursor(True, "2026-01-01T00:00:00Z", NOBODY))), 200),
        (lambda: ada.get(feed(club), headers=tag), 304),
        (lambda: ada.get(f"/api/posts/{made['id']}"), 200),
        (lambda: ada.post("/api/posts", body), 201),
        (lambda: ada.get(feed(club, {"id": NOBODY})), 404),
    ):
        before = world.db.trips
        assert (await call()).status == status
        assert world.db.trips - before == 1


async def test_the_feed_is_found_by_its_index_however_it_is_asked_for(world: World) -> None:
    """The rows of one page are read, not the community's."""
    from guildhall.posts import queries

    ada = await world.person("ada")
    club = await world.community(ada)
    group = await group_of(ada, club)
    async with world.db.writing() as tx:
        for place in (None, group["id"]):
            await tx.run(
                "INSERT INTO posts (id, space_id, group_id, author_id, content, created_at)"
                " SELECT gen_random_uuid(), $1::uuid, $2::uuid, $3, 'x', now() - n * interval '1 second'"
                "   FROM generate_series(1, 3000) AS n",
                club.id,
                place,
                ada.id,
            )
    start = [*_me(world, ada), club.id, 20, 1]
    after = [False, "2100-01-01T00:00:00Z", NOBODY]
    for sql, args in (
        (queries._OWN_FEED, start),
        (queries._OWN_FEED_AFTER, start + after),
        (queries._GROUP_FEED, [*start, group["id"]]),
        (queries._GROUP_FEED_AFTER, [*start, *after, group["id"]]),
    ):
        literal = ", ".join("NULL" if a is None else f"'{a}'" for a in args)
        # A generic plan is what a busy connection ends up with.
        async with world.db.writing() as tx:
            await tx.connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            await tx.connection.execute(f"PREPARE feed AS {sql}")
            rows = await tx.connection.fetch(f"EXPLAIN (ANALYZE, FORMAT TEXT) EXECUTE feed ({literal})")
            await tx.connection.execute("DEALLOCATE feed")
        plan = "\n".join(row[0] for row in rows)
        assert "Index Scan using posts_of_a_" in plan, plan
        scans = [line for line in plan.splitlines() if "posts_of_a_" in line]
        assert all(
            "rows=21" in line.partition("actual")[2].replace("rows=21.00", "rows=21") for line in scans
        ), plan


def _me(world: World, person: Person) -> list[Any]:
    issuer = world.house.service.issuer
    assert issuer is not None
    return [person.id, issuer.issuer, None]


async def test_files_that_a_post_no_longer_names_are_left_to_be_cleared_away(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    group = await group_of(ada, club)
    prefix = f"{world.house.service.public_url}/blobs/"
    names = [f"{club.id}-{n}.png" for n in range(4)]
    urls = [prefix + name for name in names]

    async def cleared() -> list[str]:
        async with world.db.reading() as read:
            rows = await read.connection.fetch(
                "SELECT convert_from(payload, 'UTF8')::jsonb ->> 'name' AS name FROM pgqueuer"
                " WHERE entrypoint = 'blob.unused' ORDER BY id"
            )
        return [row["name"] for row in rows if row["name"].startswith(club.id)]

    made = await write(ada, club, attachments=urls[:3])
    (await ada.patch(f"/api/posts/{made['id']}", {"content": "Else"})).ok()
    assert await cleared() == []
    (await ada.patch(f"/api/posts/{made['id']}", {"attachments": urls[1:2]})).ok()
    assert sorted(await cleared()) == [names[0], names[2]]
    (await ada.delete(f"/api/posts/{made['id']}")).ok()
    assert (await cleared())[2:] == [names[1]]
    await write(ada, club, attachments=urls[3:], groupId=group["id"])
    (await ada.delete(f"/api/groups/{group['id']}")).ok()
    assert (await cleared())[3:] == [names[3]]
