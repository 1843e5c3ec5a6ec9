"""A newcomer's first ten minutes, in a browser alone."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from tests.commands.serving import Serving
from tests.pages.browsing import DESKTOP, PHONE, Visitor, visitor

pytestmark = pytest.mark.xdist_group("pages")

_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f"
    "000e0018605a347d6b0000000049454e44ae426082"
)


async def sign_in_by_code(someone: Visitor, email: str) -> None:
    """Type the address, read the code in the outbox as a developer does, type it too."""
    page = someone.page
    await page.get_by_label("E-mail address").fill(email)
    await page.get_by_role("button", name="Send the code").click()
    await expect(page.get_by_label("Code", exact=True)).to_be_visible()
    await page.get_by_label("Code", exact=True).fill(await code_for(someone, email))
    await page.get_by_role("button", name="Sign in").click()


async def code_for(someone: Visitor, email: str) -> str:
    mail = await mail_to(someone, email, "Your sign-in code")
    found = re.search(r"code is (\d{6})", mail)
    assert found is not None, mail
    return found[1]


async def mail_to(someone: Visitor, email: str, subject: str) -> str:
    """The newest mail of that subject to somebody, from the outbox page."""
    outbox = await someone.context.new_page()
    for _ in range(50):
        await outbox.goto(f"http://localhost:{someone.service.port}/outbox")
        mail = outbox.locator("li.card", has_text=email).filter(has_text=subject).first
        if await mail.count():
            text = await mail.inner_text()
            await outbox.close()
            return text
        await outbox.wait_for_timeout(200)
    raise AssertionError(f"no mail to {email}")


async def write_post(page: Page, text: str) -> None:
    await page.get_by_label("Text", exact=True).first.fill(text)
    await page.get_by_role("button", name="Post", exact=True).click()
    await expect(page.locator("article", has_text=text)).to_be_visible()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_two_people_meet_in_a_new_community(
    site: Serving, browser: Browser, viewport: dict[str, Any]
) -> None:
    size = viewport["width"]
    mary, edith = f"mary{size}@new.example", f"edith{size}@new.example"
    async with (
        visitor(browser, site, viewport=viewport) as first,
        visitor(browser, site, viewport=viewport) as second,
    ):
        page = await first.open("/")
        await page.get_by_role("link", name="Sign in").first.click()
        await sign_in_by_code(first, mary)
        await expect(page.get_by_role("heading", name="Hello, New member")).to_be_visible()

        await first.open("/profile")
        await page.get_by_label("Name", exact=True).fill("Mary Somerville")
        await page.get_by_label("Picture").set_input_files(
            {"name": "me.png", "mimeType": "image/png", "buffer": _PNG}
        )
        await expect(page.locator("img[data-shows]")).to_be_visible()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Save").click()
        await first.open("/")
        await expect(page.get_by_role("heading", name="Hello, Mary Somerville")).to_be_visible()
        await expect(page.locator("summary img.avatar")).to_have_count(1)

        await page.get_by_role("link", name="New community").click()
        await page.get_by_label("Name", exact=True).fill(f"Celestial mechanics {size}")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("heading", name=f"Celestial mechanics {size}")).to_be_visible()
        community = page.url

        await page.get_by_label("Text", exact=True).fill("Welcome, **everybody**.")
        await page.get_by_role("button", name="Preview").click()
        await expect(page.locator("#preview strong")).to_have_text("everybody")
        await page.get_by_label("Attach or drop files").set_input_files(
            {"name": "orbit.png", "mimeType": "image/png", "buffer": _PNG}
        )
        await expect(page.locator("[data-files] li")).to_have_text("orbit.png×")
        await page.get_by_label("Pin", exact=True).check()
        await page.get_by_role("button", name="Post", exact=True).click()
        await expect(page.locator("article strong", has_text="everybody")).to_be_visible()
        await expect(page.locator("article .tag", has_text="Pinned")).to_be_visible()
        await expect(page.locator("article .files img")).to_have_count(1)

        await page.goto(f"{community}/groups")
        await page.get_by_role("button", name="New group").click()
        await page.get_by_label("Name", exact=True).fill("Comets")
        await page.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("heading", name="Comets")).to_be_visible()

        await page.goto(f"{community}/invites")
        await page.get_by_label("E-mail address").fill(edith)
        await page.get_by_role("button", name="Send the invitation").click()
        await expect(page.get_by_text(edith).first).to_be_visible()

        mail = await mail_to(first, edith, "invites you to")
        link = re.search(r"/join/\S+", mail)
        assert link is not None, mail
        page = await second.open(link[0])
        await expect(page.get_by_text("Mary Somerville invites you to")).to_be_visible()
        await page.get_by_role("link", name="Sign in to join").click()
        await sign_in_by_code(second, edith)
        await page.get_by_role("button", name="Join Celestial").click()
        await expect(page.get_by_role("heading", name=f"Celestial mechanics {size}")).to_be_visible()
        await write_post(page, "Glad to be here.")

        page = await first.open(f"/c/{community.rpartition('/')[2]}")
        await expect(page.get_by_text("Glad to be here.")).to_be_visible()
        post = page.locator("article", has_text="Glad to be here.")
        await post.locator("summary").first.click()
        await post.get_by_role("button", name="Delete").click()
        await page.locator("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("Glad to be here.")).to_have_count(0)


@pytest.mark.parametrize("path", ["/{x}/evil.example/{token}", "//evil.example/{token}", "/docs/{token}"])
async def test_no_link_to_sign_in_makes_the_browser_carry_its_session_anywhere(
    site: Serving, browser: Browser, path: str
) -> None:
    async with visitor(browser, site, refused={404}) as someone:
        asked: list[str] = []
        someone.page.on("request", lambda request: asked.append(request.url))
        page = await someone.open(f"/sign-in?next={quote(path)}")
        await expect(page.locator("[data-goes]")).to_have_attribute("data-goes", "/")
        # The script does not rely on the server's refusal.
        await page.locator("[data-goes]").evaluate("(form, path) => { form.dataset.goes = path }", path)
        await sign_in_by_code(someone, f"tricked{len(path)}@new.example")
        await page.wait_for_url(lambda url: "/sign-in" not in url)
        assert not [url for url in asked if "eyJ" in url]
