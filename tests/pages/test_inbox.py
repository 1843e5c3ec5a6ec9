"""The inbox: what comes while one looks at it, and deciding there."""

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

pytestmark = pytest.mark.xdist_group("pages")


async def test_an_invitation_comes_while_one_looks_and_is_accepted_there(
    site: Serving, browser: Browser
) -> None:
    owner = await site.token("owner.of.notes@new.example", "--name", "Olga")
    async with visitor(browser, site) as someone:
        await someone.sign_in("reader@new.example", "--name", "Rita")
        page = await someone.open("/inbox")
        await expect(page.get_by_role("heading", name="Nothing new")).to_be_visible()
        async with httpx.AsyncClient(
            base_url=site.base_url, headers={"authorization": f"Bearer {owner}"}
        ) as olga:
            hub = (await olga.post("/v1/hubs", json={"name": "Field notes"})).json()["data"]
            wanted = {"invitee": {"email": "reader@new.example"}, "role": "viewer"}
            invited = await olga.post(f"/v1/hubs/{hub['id']}/invites", json=wanted)
            assert invited.status_code == 201, invited.text
        await expect(page.get_by_text("Olga invites you to the hub Field notes as a viewer.")).to_be_visible()
        await expect(page.locator("[data-inbox-count]")).to_have_text("1")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Accept Field notes").click()
        await expect(page.get_by_text("Olga invites you")).to_have_count(0)
        page = await someone.open("/")
        await page.get_by_role("link", name="Field notes").click()
        await expect(page.get_by_text("2 members · viewer")).to_be_visible()
