"""What people do every day, done as they do it: by mouse or by keyboard, and seen afterwards in the API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f"
    "000e0018605a347d6b0000000049454e44ae426082"
)

pytestmark = pytest.mark.xdist_group("pages")


@asynccontextmanager
async def caller(site: Serving, email: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who uses the API."""
    token = await site.token(email, "--name", name)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=site.base_url, headers=headers) as client:
        yield client


async def check_dialog(page: Page) -> None:
    """The open dialog has the focus and no serious fault of accessibility."""
    assert await page.evaluate("!!document.activeElement.closest('dialog[open]')")
    found = await Axe().run(page)
    serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == []


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_roles_are_given_when_one_says_so_and_ownership_is_handed_over(
    site: Serving, browser: Browser
) -> None:
    async with (
        caller(site, "olga@acts.example", "Olga") as olga,
        caller(site, "bea@acts.example", "Bea") as bea,
        caller(site, "carl@acts.example", "Carl") as carl,
        visitor(browser, site, refused={409}) as owner,
        visitor(browser, site) as heir,
    ):
        club = (await olga.post("/api/communities", json={"name": "Choir", "isPrivate": False})).json()
        for each in (bea, carl):
            assert (await each.post(f"/api/communities/{club['id']}/join")).is_success

        async def roles() -> dict[str, str]:
            members = (await olga.get(f"/api/communities/{club['id']}/members")).json()["items"]
            return {member["displayName"]: member["role"] for member in members}

        await owner.sign_in("olga@acts.example")
        page = await owner.open(f"/c/{club['slug']}/members")
        role = page.get_by_label("Role of Bea")
        await role.focus()
        await press(page, "ArrowUp", "ArrowUp")
        await expect(role).to_have_value("admin")
        assert (await roles())["Bea"] == "member"
        async with page.expect_navigation():
            await press(page, "Tab", "Enter")
        await expect(role).to_have_value("admin")
        assert (await roles())["Bea"] == "admin"

        # An owner is made after a question, and so is a change of one's own role.
        for who, choice in (("Bea", "owner"), ("Olga", "member")):
            await page.get_by_label(f"Role of {who}").select_option(choice)
            await page.locator("li", has_text=who).get_by_role("button", name="Change").click()
            await check_dialog(page)
            await press(page, "Escape")
            await expect(page.locator("dialog")).to_have_count(0)
        assert await roles() == {"Olga": "owner", "Bea": "admin", "Carl": "member"}

        # Whoever alone owns something cannot go, and is told what it is.
        await owner.open("/profile")
        await page.get_by_role("button", name="Erase my account").click()
        await page.locator("dialog").get_by_role("button", name="Erase my account").click()
        await expect(page.locator(".toast")).to_contain_text("Choir")
        await owner.open(f"/c/{club['slug']}/members")

        await page.get_by_label("Actions on Carl").focus()
        await press(page, "Enter", "Tab", "Tab", "Enter")
        await expect(page.get_by_text("Remove Carl?")).to_be_visible()
        await press(page, "Shift+Tab", "Enter")
        await expect(page.get_by_label("Role of Carl")).to_have_count(0)
        assert "Carl" not in await roles()

        await page.get_by_label("Actions on Bea").click()
        await page.get_by_role("button", name="Offer the ownership").click()
        await page.locator("dialog").get_by_role("button", name="Offer the ownership").click()
        await expect(page.get_by_text("The ownership is offered to Bea.")).to_be_visible()

        await heir.sign_in("bea@acts.example")
        theirs = await heir.open(f"/c/{club['slug']}")
        await expect(theirs.get_by_text("Olga offers you the ownership")).to_be_visible()
        async with theirs.expect_navigation():
            await theirs.get_by_role("button", name="Accept").click()
        assert await roles() == {"Olga": "admin", "Bea": "owner"}

        await heir.open(f"/c/{club['slug']}/settings")
        await theirs.get_by_role("button", name="Delete").click()
        await check_dialog(theirs)
        await theirs.locator("dialog").get_by_role("button", name="Delete").click()
        await expect(theirs.get_by_role("heading", name="Hello, Bea")).to_be_visible()
        assert (await bea.get(f"/api/communities/{club['id']}")).status_code == 404


async def test_invitations_are_made_mailed_again_renewed_and_withdrawn(
    site: Serving, browser: Browser
) -> None:
    async with (
        caller(site, "ines@acts.example", "Ines") as ines,
        visitor(browser, site) as inviter,
        visitor(browser, site) as invited,
    ):
        club = (await ines.post("/api/communities", json={"name": "Bakers"})).json()
        hub = (await ines.post("/v1/hubs", json={"name": "Recipes"})).json()["data"]
        await inviter.sign_in("ines@acts.example")
        await inviter.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = inviter.page

        async def copied() -> str:
            await page.get_by_role("button", name="Copy link").click()
            await expect(page.get_by_text("Copied.").last).to_be_visible()
            link: str = await page.evaluate("navigator.clipboard.readText()")
            return "/join/" + link.rpartition("/")[2]

        async def state(link: str, text: str) -> None:
            await invited.open(link)
            await expect(invited.page.get_by_text(text)).to_be_visible()

        for path, whom in (
            (f"/c/{club['slug']}/invites", "ivo@acts.example"),
            (f"/h/{hub['slug']}/invites", ""),
        ):
            await inviter.open(path)
            await expect(page.get_by_role("heading", name="No open invitations")).to_be_visible()
            await page.get_by_label("E-mail address").fill(whom)
            async with page.expect_navigation():
                await press(page, "Enter")
            first = await copied()
            await state(first, "Ines invites you to")
            menu = page.get_by_label("Actions on the invitation of")
            if whom:
                await menu.click()
                await page.get_by_role("button", name="Mail it again").click()
                await expect(page.get_by_text("It is mailed again.")).to_be_visible()
                await press(page, "Escape")
            await menu.click()
            await page.get_by_role("button", name="New link").click()
            async with page.expect_navigation():
                await page.locator("dialog").get_by_role("button", name="New link").click()
            second = await copied()
            assert second != first
            await state(first, "This invitation was withdrawn")
            await state(second, "Ines invites you to")
            await menu.click()
            await page.get_by_role("button", name="Withdraw").click()
            await check_dialog(page)
            await page.locator("dialog").get_by_role("button", name="Withdraw").click()
            await expect(page.get_by_role("heading", name="No open invitations")).to_be_visible()
            await state(second, "This invitation was withdrawn")


async def test_a_feed_is_read_to_its_end_and_its_posts_are_pinned_and_deleted(
    site: Serving, browser: Browser
) -> None:
    async with caller(site, "paul@acts.example", "Paul") as paul, visitor(browser, site) as someone:
        club = (await paul.post("/api/communities", json={"name": "Poets"})).json()
        for number in range(45):
            body = {"communityId": club["id"], "content": f"Verse {number:02}."}
            assert (await paul.post("/api/posts", json=body)).is_success
        await someone.sign_in("paul@acts.example")
        page = await someone.open(f"/c/{club['slug']}")
        posts = page.locator("article")
        while await posts.count() < 45:
            await page.keyboard.press("End")
            await page.wait_for_timeout(50)
        await expect(page.get_by_role("link", name="Show more")).to_have_count(0)
        texts = await posts.locator(".markdown").all_inner_texts()
        assert texts == [f"Verse {number:02}." for number in reversed(range(45))]

        # An edit far down leaves one where one was.
        await posts.filter(has_text="Verse 03.").locator("summary").click()
        await page.get_by_role("button", name="Edit").click()
        await page.locator("#edit-post").get_by_label("Text").fill("Verse 03, mended.")
        async with page.expect_navigation():
            await page.locator("#edit-post").get_by_role("button", name="Save").click()
        await expect(posts.filter(has_text="Verse 03, mended.")).to_be_in_viewport()
        await expect(page.get_by_text("Saved.")).to_be_visible()

        oldest = posts.filter(has_text="Verse 00.")
        await oldest.locator("summary").focus()
        async with page.expect_navigation():
            await press(page, "Enter", "Tab", "Tab", "Enter")
        await expect(posts.first).to_contain_text("Verse 00.")
        await expect(posts.first.locator(".tag")).to_have_text("Pinned")
        await posts.first.locator("summary").focus()
        await press(page, "Enter", "Tab", "Tab", "Tab", "Enter")
        await check_dialog(page)
        await press(page, "Escape")
        await expect(posts.first.locator("summary")).to_be_focused()
        await press(page, "Enter", "Tab", "Tab", "Tab", "Enter", "Shift+Tab", "Enter")
        await expect(page.get_by_text("Verse 00.")).to_have_count(0)
        assert (await paul.get("/api/posts", params={"communityId": club["id"]})).json()["total"] == 44


async def test_a_space_is_given_another_look_and_a_group(site: Serving, browser: Browser) -> None:
    async with caller(site, "lena@acts.example", "Lena") as lena, visitor(browser, site) as someone:
        club = (await lena.post("/api/communities", json={"name": "Painters"})).json()
        hub = (await lena.post("/v1/hubs", json={"name": "Pigments"})).json()["data"]
        await someone.sign_in("lena@acts.example")
        page = await someone.open(f"/c/{club['slug']}/settings")
        for heading, field in (("Logo", "logoUrl"), ("Cover", "coverImageUrl")):
            form = page.locator("form", has=page.get_by_role("heading", name=heading))
            await form.locator("input[type=file]").set_input_files(
                {"name": "look.png", "mimeType": "image/png", "buffer": PNG}
            )
            await expect(form.locator("img")).to_be_visible()
            async with page.expect_navigation():
                await form.get_by_role("button", name="Save").click()
            assert (await lena.get(f"/api/communities/{club['id']}")).json()[field]
        async with page.expect_navigation():
            await page.get_by_role("button", name="Remove the picture").first.click()
        assert (await lena.get(f"/api/communities/{club['id']}")).json()["logoUrl"] is None
        await page.get_by_label("Name").fill("Painters of the river")
        await press(page, "Enter")
        await expect(page.get_by_text("Saved.")).to_be_visible()
        await expect(page.get_by_role("heading", name="Painters of the river")).to_be_visible()

        page = await someone.open(f"/c/{club['slug']}/groups")
        await page.get_by_role("button", name="New group").click()
        await check_dialog(page)
        await page.get_by_label("Name", exact=True).fill("Sketches")
        await press(page, "Enter")
        await expect(page.get_by_role("heading", name="Sketches")).to_be_visible()
        await page.get_by_label("Actions on the group").click()
        await page.get_by_role("button", name="Edit the group").click()
        await check_dialog(page)
        await page.get_by_label("Description").fill("Every Friday.")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Every Friday.").first).to_be_visible()

        page = await someone.open(f"/h/{hub['slug']}/settings")
        await page.get_by_label("Colour").select_option("rose")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("Saved.")).to_be_visible()
        assert (await lena.get(f"/v1/hubs/{hub['id']}")).json()["data"]["hub"]["accent"] == "rose"
        await expect(page.locator(".tint-rose")).to_be_visible()
        await page.get_by_role("button", name="Delete").click()
        await page.locator("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="Hello, Lena")).to_be_visible()


async def test_a_hub_is_handed_over(site: Serving, browser: Browser) -> None:
    async with (
        caller(site, "hana@acts.example", "Hana") as hana,
        caller(site, "gil@acts.example", "Gil") as gil,
        visitor(browser, site) as owner,
        visitor(browser, site) as heir,
    ):
        hub = (await hana.post("/v1/hubs", json={"name": "Weather"})).json()["data"]
        invite = (await hana.post(f"/v1/hubs/{hub['id']}/invites", json={"role": "viewer"})).json()["data"]
        assert (await gil.post(f"/v1/invites/{invite['token']}/accept")).is_success
        await owner.sign_in("hana@acts.example")
        page = await owner.open(f"/h/{hub['slug']}/members")
        await page.get_by_label("Role of Gil").select_option("contributor")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Change").click()
        await page.get_by_label("Actions on Gil").click()
        await page.get_by_role("button", name="Offer the ownership").click()
        await page.locator("dialog").get_by_role("button", name="Offer the ownership").click()
        await expect(page.get_by_text("The ownership is offered to Gil.")).to_be_visible()
        await heir.sign_in("gil@acts.example")
        theirs = await heir.open("/inbox")
        await expect(theirs.get_by_text("Hana offers you the ownership of the hub Weather.")).to_be_visible()
        await heir.open(f"/h/{hub['slug']}")
        await expect(theirs.get_by_text("Hana offers you the ownership of this hub.")).to_be_visible()
        async with theirs.expect_navigation():
            await theirs.get_by_role("button", name="Accept").click()
        await expect(theirs.get_by_text("2 members · owner")).to_be_visible()
