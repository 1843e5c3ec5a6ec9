"""What holds on every page: a screen reader can use it, it is light, and it loads nothing from elsewhere."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser

from guildhall.inbox.rules import ANSWERS
from guildhall.pages import render
from guildhall.spaces.notices import KINDS
from tests.commands.serving import Serving
from tests.pages.browsing import DESKTOP, FIRST_CONTENT, PHONE, visitor

pytestmark = pytest.mark.xdist_group("pages")

MOST_BYTES = 150 * 1024
ANYBODY = [
    "/",
    "/sign-in",
    "/join/inv_nothing",
    "/docs",
    "/docs/api/posts",
    "/docs/v1/hubs",
    "/backlog",
    "/outbox",
]
MEMBERS = [
    *("/", "/profile", "/sessions", "/keys", "/inbox", "/new/community", "/new/hub", "/status"),
    *("/c/riverside-gardeners", "/c/riverside-gardeners/groups", "/c/riverside-gardeners/members"),
    *("/c/riverside-gardeners/invites", "/c/riverside-gardeners/settings", "{group}", "{group}/members"),
    *("{hub}", "{hub}/members", "{hub}/invites", "{hub}/settings", "{personal}", "{personal}/settings"),
    *("{hub}?q=tomatoes", "{hub}/topics", "{hub}/dreams", "{memory}", "{memory}?version=2#changes", "{join}"),
]
STATIC = Path(render.__file__).parent


@pytest_asyncio.fixture(scope="session")
async def places(site: Serving) -> dict[str, str]:
    """Pages whose address is only known once the site is there."""
    token = await site.token("ada@demo.example")
    async with httpx.AsyncClient(base_url=site.base_url, headers={"authorization": f"Bearer {token}"}) as ada:
        community = (await ada.get("/api/communities/riverside-gardeners")).json()["id"]
        groups = (await ada.get("/api/groups", params={"communityId": community})).json()["items"]
        # What is wider than a phone, if one lets it.
        wide = f"```\n{'wide ' * 60}\n```\n\n|{'a wide table | ' * 20}\n|{'-|' * 20}\n\n{'w' * 200}"
        body = {"communityId": community, "groupId": groups[0]["id"], "content": wide}
        assert (await ada.post("/api/posts", json=body)).status_code == 201
        hub = (await ada.post("/v1/hubs", json={"name": "Garden notes"})).json()["data"]
        here = {"X-Hub-ID": hub["id"]}
        text = f"# Tomatoes\n\nTomatoes want sun.\n\n{wide}"
        pushed = await ada.post("/v1/memories", json={"content": text, "tags": ["sun"]}, headers=here)
        memory = pushed.json()["data"]["id"]
        changed = await ada.patch(f"/v1/memories/{memory}", json={"content": text + "\n\nAnd water."})
        assert changed.is_success, changed.text
        for n in range(30):
            await ada.post("/v1/memories", json={"content": f"Row {n} of tomatoes is red."}, headers=here)
        root = await ada.post("/v1/topics", json={"name": "Vegetables", "hub_id": hub["id"]})
        under = {"name": "Tomatoes", "hub_id": hub["id"], "parent_id": root.json()["data"]["id"]}
        assert (await ada.post("/v1/topics", json=under)).is_success
        personal = next(
            each["hub"]
            for each in (await ada.get("/v1/hubs")).json()["data"]
            if each["hub"]["hub_type"] == "personal"
        )
        invite = await ada.post(
            f"/api/communities/{community}/invite", json={"email": "ada.elsewhere@demo.example"}
        )
        # What waits in the inbox: somebody came in, and invites back.
        link = (await ada.post(f"/v1/hubs/{hub['id']}/invites", json={"role": "viewer"})).json()["data"][
            "token"
        ]
        bob = {"authorization": f"Bearer {await site.token('bob@demo.example', '--name', 'Bob')}"}
        joined = await ada.post(f"/v1/invites/{link}/accept", headers=bob)
        assert joined.is_success, joined.text
        theirs = (await ada.post("/v1/hubs", json={"name": "Bob's notes"}, headers=bob)).json()["data"]
        wanted = {"invitee": {"email": "ada@demo.example"}, "role": "viewer"}
        invited = await ada.post(f"/v1/hubs/{theirs['id']}/invites", json=wanted, headers=bob)
        assert invited.is_success, invited.text
    return {
        "group": f"/g/{groups[0]['id']}",
        "hub": f"/h/{hub['slug']}",
        "memory": f"/h/{hub['slug']}/m/{memory}",
        "personal": f"/h/{personal['slug']}",
        "join": "/join/" + invite.json()["token"],
    }


@pytest.mark.parametrize(("viewport", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["light", "phone"])
async def test_no_page_has_a_serious_fault_of_accessibility_or_needs_sideways_scrolling(
    site: Serving,
    browser: Browser,
    places: dict[str, str],
    viewport: Any,
    dark: bool,
    record_property: Any,
) -> None:
    slowest = 0.0
    faults: list[str] = []
    axe = Axe()
    for email, paths in ((None, ANYBODY), ("ada@demo.example", MEMBERS)):
        async with visitor(browser, site, viewport=viewport, dark=dark) as someone:
            if email:
                await someone.sign_in(email)
            await someone.open("/nowhere", 404)
            for path in paths:
                page = await someone.open(path.format(**places))
                slowest = max(slowest, await page.evaluate(FIRST_CONTENT))
                if path == "/inbox":
                    assert await page.locator("#entries li").count() >= 2
                found = await axe.run(page)
                faults += [
                    f"{path}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
                    for fault in found.response["violations"]
                    if fault["impact"] in ("serious", "critical")
                ]
                if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    faults.append(f"{path}: wider than the screen")
    record_property("slowest_first_content_ms", slowest)
    assert faults == []


async def test_a_page_with_all_it_loads_is_light(site: Serving, places: dict[str, str]) -> None:
    token = await site.token("ada@demo.example")
    bearer = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=site.base_url, headers={"accept": "text/html"}) as client:
        for path, headers in [(path, {}) for path in ANYBODY] + [(path, bearer) for path in MEMBERS]:
            size, text = await received(client, path.format(**places), headers)
            for url in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', text)):
                size += (await received(client, url, {}))[0]
            assert size < MOST_BYTES, path


async def received(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """How many bytes came over the wire, and the text that they are."""
    async with client.stream("GET", path, headers=headers) as answer:
        text = (await answer.aread()).decode()
        return answer.num_bytes_downloaded, text


async def test_every_page_has_a_policy_that_allows_no_inline_script_or_style(site: Serving) -> None:
    async with httpx.AsyncClient(base_url=site.base_url, headers={"accept": "text/html"}) as client:
        for path in [*ANYBODY, "/nowhere"]:
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            for part in ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
                assert part in policy
            assert not re.search(r"<style|\sstyle=|<script(?![^>]*\ssrc=)|\son[a-z]+=", answer.text)


def test_every_sentence_is_used_and_every_used_one_exists() -> None:
    known = set(render._words())
    used: set[str] = set()
    for source in (*(STATIC / "templates").rglob("*.html"), STATIC / "reference.py"):
        text = source.read_text("utf-8")
        used |= set(re.findall(r'\b(?:t|words)\([\'"]([a-z0-9_.-]+[a-z0-9_-])[\'"]', text))
        for prefix in re.findall(r'\bt\([\'"]([a-z0-9_.-]+)[\'"] ~', text):
            used |= {key for key in known if key.startswith(prefix)}
    used |= {f"inbox.{kind}" for kind in KINDS}
    used |= {f"inbox.{answer}" for answers in ANSWERS.values() for answer in answers}
    used |= {key for key in known if key.startswith(("kind.characters_", "kind.number_"))}
    used = {key for key in used if not key.endswith((".", "_"))}
    assert used - known == set()
    assert {key for key in known - used if not key.startswith("script.")} == set()


INSIDE = ["/c/some-place", "/join/inv_x?y=1", "/inbox#new"]
OUTSIDE = [
    *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
    *("/\tevil", "/%0d%0aSet-Cookie:x", "https:evil.example", "///evil.example", "/ü", " /x", "evil"),
    *("/{x}/evil.example/{token}", "/docs/{token}"),
]


@pytest.mark.parametrize("path", INSIDE)
def test_one_goes_on_to_a_page_inside(path: str) -> None:
    assert render.inside(path) == path


@pytest.mark.parametrize("path", [*OUTSIDE, None, ""])
async def test_one_is_never_sent_outside(site: Serving, path: str | None) -> None:
    token = await site.token("ada@demo.example")
    async with httpx.AsyncClient(
        base_url=site.base_url, headers={"authorization": f"Bearer {token}", "accept": "text/html"}
    ) as client:
        answer = await client.get("/sign-in", params={} if path is None else {"next": path})
    assert answer.status_code in (303, 400)
    if answer.status_code == 303:
        to = answer.headers["location"]
        assert to.startswith("/") and not to.startswith(("//", "/\\")) and "evil" not in to.split("?")[0][:2]


@pytest.mark.parametrize("path", ["/profile", "/c/riverside-gardeners", "/keys", "/inbox", "/status"])
async def test_without_a_session_a_page_leads_to_sign_in_and_back(site: Serving, path: str) -> None:
    async with httpx.AsyncClient(base_url=site.base_url, headers={"accept": "text/html"}) as client:
        answer = await client.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/sign-in?next={path}"


async def test_what_one_may_not_know_of_is_not_there(site: Serving) -> None:
    stranger = await site.token("stranger@demo.example")
    member = await site.token("dev@demo.example")
    async with httpx.AsyncClient(base_url=site.base_url, headers={"accept": "text/html"}) as client:

        async def status(token: str, path: str) -> int:
            answer = await client.get(path, headers={"authorization": f"Bearer {token}"})
            return answer.status_code

        assert await status(stranger, "/status") == 404
        assert (
            await status(stranger, "/c/repair-cafe-team") == await status(stranger, "/c/no-such-place") == 404
        )
        assert await status(stranger, "/c/riverside-gardeners/members") == 404
        assert await status(member, "/c/riverside-gardeners/settings") in (403, 404)
