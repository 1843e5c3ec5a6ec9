"""What people do with what is theirs, and with what is meant for somebody else."""

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

pytestmark = pytest.mark.xdist_group("pages")


async def test_an_archive_of_ones_data_is_prepared_and_opened(site: Serving, browser: Browser) -> None:
    async with visitor(browser, site) as someone:
        await someone.sign_in("packer@new.example", "--name", "Pia")
        page = await someone.open("/profile")
        await page.get_by_role("button", name="Prepare an archive").click()
        link = page.get_by_role("link", name="Open the archive")
        await expect(link).to_be_visible(timeout=20_000)
        url = await link.get_attribute("href")
        assert url is not None
    async with httpx.AsyncClient() as client:
        assert "packer@new.example" in (await client.get(url)).text


async def test_a_session_elsewhere_is_ended(site: Serving, browser: Browser) -> None:
    elsewhere = await site.token("roamer@new.example", "--name", "Rosa")
    async with visitor(browser, site) as someone:
        await someone.sign_in("roamer@new.example")
        page = await someone.open("/sessions")
        await expect(page.get_by_text("this one")).to_be_visible()
        await page.get_by_role("button", name="Sign it out").first.click()
        await expect(page.get_by_role("button", name="Sign it out")).to_have_count(0)
    async with httpx.AsyncClient(base_url=site.base_url) as client:
        answer = await client.get("/api/auth/sessions", headers={"authorization": f"Bearer {elsewhere}"})
    assert answer.status_code == 401


async def test_an_invitation_for_somebody_else_says_so_and_offers_another_account(
    site: Serving, browser: Browser
) -> None:
    ada = await site.token("ada@demo.example")
    async with httpx.AsyncClient(
        base_url=site.base_url, headers={"authorization": f"Bearer {ada}"}
    ) as client:
        community = (await client.get("/api/communities/riverside-gardeners")).json()["id"]
        invited = await client.post(
            f"/api/communities/{community}/invite", json={"email": "meant@new.example"}
        )
    async with visitor(browser, site, refused={403}) as someone:
        await someone.sign_in("other@new.example", "--name", "Otto")
        page = await someone.open("/join/" + invited.json()["token"])
        await page.get_by_role("button", name="Join Riverside Gardeners").click()
        await expect(page.locator(".form-error")).to_contain_text("for somebody else")
        await page.get_by_role("button", name="Use another account").click()
        await expect(page.get_by_label("E-mail address")).to_be_visible()
        assert "next=%2Fjoin%2F" in page.url


async def test_files_are_dropped_into_a_post_and_taken_out_again(site: Serving, browser: Browser) -> None:
    async with visitor(browser, site) as someone:
        await someone.sign_in("ada@demo.example")
        page = await someone.open("/c/riverside-gardeners")
        dropped = await page.evaluate_handle(
            """() => {
                const carried = new DataTransfer();
                for (const name of ["seeds.txt", "weeds.txt"]) {
                    carried.items.add(new File(["seeds: 12"], name, { type: "text/plain" }));
                }
                return carried;
            }"""
        )
        zone = page.locator("form.drop").first
        await zone.dispatch_event("dragover", {"dataTransfer": dropped})
        await zone.dispatch_event("drop", {"dataTransfer": dropped})
        await expect(zone.locator("[data-files] li")).to_have_text(["seeds.txt×", "weeds.txt×"])
        await zone.get_by_role("button", name="Remove weeds.txt").click()
        await expect(zone.locator("[data-files] li")).to_have_text(["seeds.txt×"])
        await zone.get_by_label("Text", exact=True).fill("The list of seeds.")
        await page.get_by_role("button", name="Post", exact=True).click()
        post = page.locator("article", has_text="The list of seeds.")
        await expect(post.get_by_role("link", name="seeds.txt")).to_be_visible()

        # By keyboard: the menu, the dialog and back, and then an edit that takes the file out.
        menu = post.locator("summary")
        await menu.focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog", name="Edit")
        await expect(dialog.get_by_label("Text")).to_have_value("The list of seeds.")
        await page.keyboard.press("Escape")
        await expect(menu).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await dialog.get_by_role("button", name="Remove seeds.txt").press("Enter")
        await dialog.get_by_label("Text").fill("No list any more.")
        await dialog.get_by_role("button", name="Save").press("Enter")
        post = page.locator("article", has_text="No list any more.")
        await expect(post).to_contain_text("edited")
        await expect(post.get_by_role("link")).to_have_count(0)


async def test_a_key_is_made_shown_once_and_revoked(site: Serving, browser: Browser) -> None:
    async with visitor(browser, site) as someone:
        await someone.sign_in("keeper@new.example", "--name", "Kay")
        page = await someone.open("/keys")
        await page.get_by_label("Name", exact=True).fill("Laptop")
        await page.get_by_role("button", name="Make the key").click()
        await expect(page.locator("#new-key")).to_be_focused()
        key = await page.locator("#new-key [data-value]").inner_text()
        async with httpx.AsyncClient(base_url=site.base_url) as client:
            answer = await client.get("/v1/hubs", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200
            await page.get_by_role("link", name="Done").click()
            await expect(page.get_by_text("all your hubs")).to_be_visible()
            assert key not in await page.content()
            await page.get_by_role("button", name="Revoke Laptop").click()
            await page.locator("dialog").get_by_role("button", name="Revoke").click()
            await expect(page.get_by_role("button", name="Revoke Laptop")).to_have_count(0)
            answer = await client.get("/v1/hubs", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 401


async def test_what_was_written_outlives_the_session(site: Serving, browser: Browser) -> None:
    async with visitor(browser, site, refused={401}) as someone:
        await someone.sign_in("ada@demo.example")
        page = await someone.open("/c/riverside-gardeners")
        await page.get_by_label("Text", exact=True).first.fill("A long thought.")
        await someone.context.clear_cookies()
        await page.get_by_role("button", name="Post", exact=True).click()
        await expect(page.get_by_label("E-mail address")).to_be_visible()
        await someone.sign_in("ada@demo.example")
        await someone.open("/c/riverside-gardeners")
        await expect(page.get_by_label("Text", exact=True).first).to_have_value("A long thought.")
        await page.reload()
        await expect(page.get_by_label("Text", exact=True).first).to_have_value("")
