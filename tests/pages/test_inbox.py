"""The inbox: what comes while one looks at it, and deciding there."""

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

pytestmark = pytest.mark.xdist_group("pages")


async def invite(site: Serving, owner: str, name: str, email: str) -> None:
    """Somebody's new hub, and an invitation to it."""
    async with httpx.AsyncClient(
        base_url=site.base_url, headers={"authorization": f"Bearer {owner}"}
    ) as client:
        hub = (await client.post("/v1/hubs", json={"name": name})).json()["data"]
        wanted = {"invitee": {"email": email}, "role": "viewer"}
        invited = await client.post(f"/v1/hubs/{hub['id']}/invites", json=wanted)
        assert invited.status_code == 201, invited.text


async def test_an_invitation_comes_while_one_looks_and_is_accepted_there(
    site: Serving, browser: Browser
) -> None:
    owner = await site.token("owner.of.notes@new.example", "--name", "Olga")
    async with visitor(browser, site) as someone:
        await someone.sign_in("reader@new.example", "--name", "Rita")
        page = await someone.open("/inbox")
        await expect(page.get_by_role("heading", name="Nothing new")).to_be_visible()
        await invite(site, owner, "Field notes", "reader@new.example")
        await expect(page.get_by_text("Olga invites you to the hub Field notes as a viewer.")).to_be_visible()
        await expect(page.locator("[data-inbox-count]")).to_have_text("1")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Accept Field notes").click()
        await expect(page.get_by_text("Olga invites you")).to_have_count(0)
        page = await someone.open("/")
        await page.get_by_role("link", name="Field notes").click()
        await expect(page.get_by_text("2 members · viewer")).to_be_visible()


async def test_many_tabs_share_one_stream_and_another_takes_over(site: Serving, browser: Browser) -> None:
    owner = await site.token("owner.of.tabs@new.example", "--name", "Tom")
    async with visitor(browser, site) as someone:
        await someone.sign_in("tabs@new.example", "--name", "Tabea")
        streams: list[str] = []
        someone.context.on(
            "request", lambda request: streams.append(request.url) if "stream" in request.url else None
        )
        first = await someone.open("/inbox")
        others = [await someone.context.new_page() for _ in range(8)]
        for page in others:
            await page.goto(first.url)
            await expect(page.get_by_role("heading", name="Nothing new")).to_be_visible()
        assert len(streams) == 1
        await invite(site, owner, "Old notes", "tabs@new.example")
        for page in (first, others[-1]):
            await expect(page.get_by_text("Tom invites you to the hub Old notes")).to_be_visible()
        async with someone.context.expect_event("request", lambda request: "stream" in request.url):
            await first.close()
        await invite(site, owner, "New notes", "tabs@new.example")
        await expect(others[-1].get_by_text("Tom invites you to the hub New notes")).to_be_visible()


async def test_what_a_dream_is_unsure_of_is_decided_there(site: Serving, browser: Browser) -> None:
    token = await site.token("gardener@new.example", "--name", "Gus")
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=site.base_url, headers=headers) as client,
        visitor(browser, site) as gus,
    ):
        hub = (await client.post("/v1/hubs", json={"name": "Greenhouse"})).json()["data"]["id"]
        for time in ("18:00", "20:00"):
            told = {
                "content": f"The <b>door</b> closes at {time} on weekdays in summer.",
                "title": f"Until {time}",
            }
            await client.post("/v1/memories", json=told, headers={"x-hub-id": hub})
        await gus.sign_in("gardener@new.example", "--name", "Gus")
        page = await gus.open("/inbox")
        asked = await client.post("/v1/dreams/trigger", headers={"x-hub-id": hub})
        assert asked.status_code == 200, asked.text
        await expect(page.get_by_text("Two memories in the hub Greenhouse contradict")).to_be_visible()
        await expect(page.get_by_role("link", name="Until 20:00")).to_be_visible()
        await expect(page.get_by_text("One says 18:00, the other 20:00.")).to_be_visible()
        await page.get_by_role("button", name="Keep the second").click()
        await expect(page.get_by_text("Two memories in the hub")).to_have_count(0)
        left = (await client.get("/v1/memories", headers={"x-hub-id": hub})).json()["data"]["memories"]
        assert [memory["title"] for memory in left] == ["Until 20:00"]
