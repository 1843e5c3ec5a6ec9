"""Whatever people write is shown as they wrote it, and never runs."""

import itertools
import re
from html.parser import HTMLParser

import httpx
import pytest
from playwright.async_api import Browser

from guildhall.db import new_id
from tests.commands.serving import Serving
from tests.pages.browsing import visitor
from tests.pages.test_answers import HTML
from tests.world import Community, Person, World

pytestmark = pytest.mark.xdist_group("pages")

_CALL = "ran=1"
_SHAPES = [
    "<script>{x}</script>",
    "<img src=x onerror={x}>",
    "<svg onload={x}>",
    "<svg><script>{x}</script></svg>",
    "<iframe srcdoc='<script>parent.{x}</script>'></iframe>",
    "<body onload={x}>",
    "<details open ontoggle={x}>",
    "<a href='javascript:{x}' autofocus onfocus={x}>go</a>",
    "<input autofocus onfocus={x}>",
    "<math><mtext><script>{x}</script></mtext></math>",
    "<template><script>{x}</script></template>",
    "<object data='javascript:{x}'></object>",
    "<embed src='javascript:{x}'>",
    "<form action='javascript:{x}'><button>go</button></form>",
    "<style>@import 'javascript:{x}';</style>",
    "<video><source onerror={x}></video>",
    "<marquee onstart={x}>m</marquee>",
    "[link](javascript:{x})",
    "[link](data:text/html,<script>{x}</script>)",
    "[link](vbscript:{x})",
    '![picture](x" onerror="{x})',
    '[a](https://e.example "onmouseover={x}")',
    "{{{{constructor.constructor('{x}')()}}}}",
    "${{{x}}}",
    "{{% raw %}}{x}{{% endraw %}}",
]
_AROUND = ["{}", '"{}', "'>{}", '">{}', "</textarea>{}", "</title>{}", "--><!-- {}", "]]>{}"]
PAYLOADS = [around.format(shape.format(x=_CALL)) for around, shape in itertools.product(_AROUND, _SHAPES)]


async def test_no_script_in_any_field_runs(site: Serving, browser: Browser) -> None:
    assert len(PAYLOADS) >= 200
    token = await site.token("mallory@demo.example")
    async with httpx.AsyncClient(
        base_url=site.base_url, headers={"authorization": f"Bearer {token}"}, timeout=30
    ) as mallory:
        me = (await mallory.post("/api/users/sync")).json()["id"]

        async def send(method: str, path: str, body: dict[str, object]) -> dict[str, object]:
            answer = await mallory.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else {}

        # One payload a field here, and all of them in posts; in every field all of them are below.
        await send("PATCH", f"/api/members/{me}/profile", {"displayName": PAYLOADS[1], "bio": PAYLOADS[2]})
        community = await send(
            "POST",
            "/api/communities",
            {"name": PAYLOADS[0], "description": PAYLOADS[3], "slug": "hostile-text"},
        )
        group = await send(
            "POST",
            "/api/groups",
            {"communityId": community["id"], "name": PAYLOADS[4], "description": PAYLOADS[5]},
        )
        invite = await send(
            "POST", f"/api/communities/{community['id']}/invite", {"email": "victim@demo.example"}
        )
        await mallory.post("/v1/hubs", json={"name": PAYLOADS[6], "slug": "hostile-hub"})
        await mallory.post("/v1/auth/api-keys", json={"name": PAYLOADS[7]})
        for start in range(0, len(PAYLOADS), 20):
            some = PAYLOADS[start : start + 20]
            await send(
                "POST",
                "/api/posts",
                {"communityId": community["id"], "title": some[0], "content": "\n\n".join(some)},
            )
        for payload in PAYLOADS[::25]:
            await send(
                "POST",
                "/api/backlog",
                {
                    "title": payload,
                    "description": "\n".join(PAYLOADS[:100]),
                    "apiEndpoint": payload,
                    "type": "bug",
                    "priority": "low",
                    "session": "web",
                },
            )
    async with visitor(browser, site) as someone:
        await someone.sign_in("mallory@demo.example")
        for path in (
            *("/", "/c/hostile-text", "/c/hostile-text/groups", "/c/hostile-text/members"),
            *("/c/hostile-text/invites", "/c/hostile-text/settings", f"/g/{group['id']}"),
            *(
                "/h/hostile-hub",
                "/h/hostile-hub/members",
                "/h/hostile-hub/settings",
                "/keys",
                "/profile",
                "/backlog",
            ),
            f"/join/{invite['token']}",
        ):
            page = await someone.open(path)
            await page.wait_for_load_state("load")
            assert await page.evaluate("window.ran") is None, path
        page = await someone.open("/c/hostile-text")
        # The first payload, said out loud by the page.
        assert PAYLOADS[0] in await page.locator("main").inner_text()
        # Nothing of what was written became an element, or a link that a browser would run.
        assert (
            await page.locator("main :is(script, iframe, object, embed, style, svg, math, video)").count()
            == 0
        )
        links = await page.eval_on_selector_all("main a", "links => links.map(link => link.protocol)")
        assert set(links) <= {"http:", "https:", "mailto:"}


class Seen(HTMLParser):
    """What a browser makes of pages: the texts and attributes' values, and what elements there are."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: set[str] = set()
        self.made: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.made |= {tag, *(f"{tag} {name}" for name, _ in attrs)}
        self.texts |= {value for _, value in attrs if value}

    def handle_data(self, data: str) -> None:
        self.texts.add(" ".join(data.split()))


async def look(who: Person, path: str) -> Seen:
    """A page and those that follow it, to the last."""
    seen = Seen()
    following: str | None = path
    while following is not None:
        reply = await who.get(following, headers=HTML)
        assert reply.status == 200, (following, reply)
        seen.feed(reply.response.text)
        more = re.search(r'href="([^"]+)" data-more=', reply.response.text)
        base = "" if more and more[1].startswith("/") else path.partition("?")[0]
        following = base + more[1].replace("&amp;", "&") if more else None
    return seen


async def fill(world: World, owner: Person, club: Community) -> dict[str, str]:
    """Put every payload into every field there is, and say on which pages they are to be seen."""
    hub = await world.hub(owner)
    group = (await owner.post("/api/groups", {"communityId": club.id, "name": "Group"})).ok(201)["id"]
    async with world.db.writing() as tx:
        people = f"mallory_{club.id[:8]}_"
        await tx.connection.execute(
            "INSERT INTO users (id, issuer, display_name, email, bio)"
            " SELECT $1 || n, issuer, text, $1 || n || '@example.org', text"
            " FROM unnest($2::text[]) WITH ORDINALITY AS each (text, n), users WHERE users.id = $3",
            people,
            PAYLOADS,
            owner.id,
        )
        for space, kind, role in ((club.id, "community", "member"), (hub.id, "hub", "viewer")):
            await tx.connection.execute(
                "INSERT INTO members (space_id, kind, user_id, role)"
                " SELECT $1::text::uuid, $2, id, $3 FROM users WHERE id LIKE $4",
                space,
                kind,
                role,
                people + "%",
            )
        await tx.connection.execute(
            "INSERT INTO group_members (space_id, group_id, user_id, role)"
            " SELECT $1::text::uuid, $2::text::uuid, id, 'member' FROM users WHERE id LIKE $3",
            club.id,
            group,
            people + "%",
        )
        await tx.connection.execute(
            "INSERT INTO notifications (id, space_id, recipient_user_id, kind, bucket, source_kind,"
            " source_id, person_id) SELECT gen_random_uuid(), $1::text::uuid, $2,"
            " 'community_member_joined', 'update', 'test', id, id FROM users WHERE id LIKE $3",
            club.id,
            owner.id,
            people + "%",
        )
        await tx.connection.execute(
            "INSERT INTO sessions (id, user_id, label, expires_at)"
            " SELECT $1 || n, $2, text, now() + interval '1 day'"
            " FROM unnest($3::text[]) WITH ORDINALITY AS each (text, n)",
            people,
            owner.id,
            PAYLOADS,
        )
    for number, payload in enumerate(PAYLOADS):
        body = {"communityId": club.id, "name": payload, "description": payload}
        (await owner.post("/api/groups", body)).ok(201)
        (await owner.post("/api/posts", {"communityId": club.id, "title": payload, "content": "."})).ok(201)
        (await owner.post("/v1/auth/api-keys", {"name": payload})).data(201)
        push = {"content": payload, "title": f"Number {number}"}
        (await owner.post("/v1/memories", push, headers={"X-Hub-ID": hub.id})).data(201)
        topic = {"hub_id": hub.id, "name": f"Topic {number}", "description": payload}
        (await owner.post("/v1/topics", topic)).data(201)
        item = {"title": payload, "type": "bug", "priority": "low", "session": "web", "apiEndpoint": payload}
        status = ("open", "in-progress", "done")[number % 3]
        (await owner.post("/api/backlog", {**item, "description": payload, "status": status})).ok(201)
    slug = club.body["slug"]
    return {
        "members": f"/c/{slug}/members",
        "groups": f"/c/{slug}/groups",
        "posts": f"/c/{slug}",
        "group members": f"/g/{group}/members",
        "hub members": f"/h/{hub.body['slug']}/members",
        "keys": "/keys",
        "sessions": "/sessions",
        "inbox": "/inbox",
        **{f"backlog, {each}": f"/backlog?q=&status={each}" for each in ("open", "in-progress", "done")},
        "hub memory": f"/h/{hub.body['slug']}",
        "hub topics": f"/h/{hub.body['slug']}/topics",
    }


async def test_two_hundred_scripts_in_every_field_show_as_text(world: World) -> None:
    ada = await world.person("ada")
    club = await world.community(ada, description="Quiet")
    for number, (name, path) in enumerate((await fill(world, ada, club)).items()):
        seen = await look(ada, path)
        wanted = PAYLOADS[(number + 1) % 3 :: 3] if name.startswith("backlog") else PAYLOADS
        missing = [each for each in wanted if not any(each in text for text in seen.texts)]
        assert missing == [], name
        assert not {each for each in seen.made if " on" in each}, name
        assert not seen.made & {
            *("iframe", "object", "embed", "style", "math", "video", "marquee", "template"),
            *("script srcdoc", "img onerror"),
        }, name
    # Names of spaces, which one person may have a hundred of.
    for payloads in (PAYLOADS[:100], PAYLOADS[100:]):
        owner = await world.person("owner")
        made: dict[str, str] = {}
        for payload in payloads[:50]:
            made = (await owner.post("/api/communities", {"name": payload, "description": payload})).ok(201)
        for payload in payloads[50:]:
            (await owner.post("/v1/hubs", {"name": payload, "slug": f"h-{new_id().hex}"})).data(201)
        home = await look(owner, "/")
        assert [each for each in payloads if each not in home.texts] == []
        for page in ("", "/groups", "/members", "/invites", "/settings"):
            seen = await look(owner, f"/c/{made['slug']}{page}")
            assert payloads[49] in seen.texts
            assert not {each for each in seen.made if " on" in each}
