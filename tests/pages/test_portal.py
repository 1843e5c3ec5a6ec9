"""The developer portal: trying a call, and the backlog board, by mouse and by keyboard."""

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

pytestmark = pytest.mark.xdist_group("pages")


async def test_a_call_is_tried_with_ones_own_session_and_reported_when_it_fails(
    site: Serving, browser: Browser
) -> None:
    async with visitor(browser, site, refused={400}) as someone:
        await someone.sign_in("ada@demo.example")
        page = await someone.open("/docs/api/communities")
        listing = page.locator("article", has=page.get_by_role("heading", name="List one's communities"))
        await listing.get_by_text("Try it").click()
        await listing.get_by_role("button", name="Send GET").click()
        await expect(listing.locator("[data-status]")).to_contain_text("200")
        await expect(listing.locator("[data-answer]")).to_contain_text("Riverside Gardeners")

        making = page.locator("article", has=page.get_by_role("heading", name="Create a community"))
        await making.get_by_text("Try it").click()
        await making.get_by_label("Body").last.fill('{"name": "x", "description": "my secret"}')
        await making.get_by_role("button", name="Send POST").click()
        await expect(making.locator("[data-status]")).to_contain_text("400")
        await making.get_by_role("link", name="Report this on the backlog").click()
        form = page.locator("#new-item form")
        await expect(form.get_by_label("Title")).to_have_value("POST /api/communities answers 400")
        report = await form.get_by_label("Description").input_value()
        assert "Request id: " in report and "my secret" not in report
        await form.get_by_role("button", name="Add it").click()
        await expect(page.get_by_role("heading", name="POST /api/communities answers 400")).to_be_visible()


async def test_the_documentation_can_be_read_without_script(site: Serving, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"http://localhost:{site.port}/docs/api/posts")
    await expect(page.get_by_role("heading", name="Write a post")).to_be_visible()
    await expect(page.locator("article").first.locator("pre").first).to_contain_text("curl -X GET")
    # What needs a script says so, and sends nothing before there is one.
    await page.goto(f"http://localhost:{site.port}/sign-in?next=/inbox")
    assert "it has to be on.</p></noscript>" in await page.content()
    await page.get_by_label("E-mail address").fill("nobody@new.example")
    await page.get_by_role("button", name="Send the code").click()
    assert page.url.endswith("/sign-in?next=/inbox")
    await context.close()


async def test_a_card_is_moved_by_keyboard_and_by_mouse_and_deleted_with_second_thoughts(
    site: Serving, browser: Browser
) -> None:
    async with httpx.AsyncClient(base_url=site.base_url) as client:
        made = await client.post(
            "/api/backlog",
            json={"title": "Move me", "type": "bug", "priority": "low", "session": "web"},
        )
        item = "/api/backlog?q=Move%20me"
        async with visitor(browser, site) as someone:
            page = await someone.open("/backlog")
            await page.get_by_role("searchbox").fill("Move me")
            await page.get_by_role("button", name="Search").click()
            await page.wait_for_url("**/backlog?q=Move*")
            card = page.locator(f'[data-card="{made.json()["id"]}"]')
            choice = card.get_by_label("Status of Move me")
            # By keyboard, a step at a time, and then by mouse.
            for status in ("in-progress", "done"):
                await choice.focus()
                async with page.expect_response("**/api/backlog/*"):
                    await page.keyboard.press("ArrowDown")
                column = page.locator(f'[data-column="{status}"]')
                await expect(column.get_by_role("heading", name="Move me")).to_be_visible()
                await expect(choice).to_be_focused()
                assert (await client.get(item)).json()["items"][0]["status"] == status
            async with page.expect_response("**/api/backlog/*"):
                await card.drag_to(page.locator('[data-column="open"]'))
            await expect(
                page.locator('[data-column="open"]').get_by_role("heading", name="Move me")
            ).to_be_visible()
            await expect(page.locator("[data-count]")).to_have_text(["1", "0", "0"])
            assert (await client.get(item)).json()["items"][0]["status"] == "open"

            await card.get_by_role("button", name="Delete Move me").click()
            await expect(card).to_be_hidden()
            await page.get_by_role("button", name="Undo").click()
            await expect(card).to_be_visible()
            assert (await client.get(item)).json()["total"] == 1

            await card.get_by_role("button", name="Delete Move me").click()
            await expect(card).to_be_hidden()
            # Leaving the page is the last word.
            await page.goto(f"http://localhost:{site.port}/docs")
            for _ in range(50):
                if (await client.get(item)).json()["total"] == 0:
                    break
                await page.wait_for_timeout(100)
            assert (await client.get(item)).json()["total"] == 0


async def test_a_stream_is_shown_as_it_comes_and_stopped_and_a_deletion_is_asked_about(
    site: Serving, browser: Browser
) -> None:
    async with visitor(browser, site) as someone:
        await someone.sign_in("trier@new.example", "--name", "Tilo")
        page = await someone.open("/docs/v1/events")
        stream = page.locator("article", has=page.get_by_role("heading", name="Hear of changes"))
        await stream.get_by_text("Try it").click()
        await stream.get_by_role("button", name="Send GET").click()
        await expect(stream.locator("[data-answer]")).to_contain_text("event: ready")
        await stream.get_by_role("button", name="Stop").click()
        await expect(stream.get_by_role("button", name="Stop")).to_be_hidden()
        await expect(stream.get_by_role("button", name="Send GET")).to_be_enabled()

        page = await someone.open("/docs/api/users")
        erasing = page.locator("article", has=page.locator("code", has_text="/api/users/me")).filter(
            has=page.get_by_text("DELETE", exact=True)
        )
        await erasing.get_by_text("Try it").click()
        await erasing.get_by_role("button", name="Send DELETE").click()
        await expect(page.get_by_text("This is done for real")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(erasing.locator("[data-status]")).to_be_hidden()
        await someone.open("/")
        await expect(page.get_by_role("heading", name="Hello, Tilo")).to_be_visible()
