"""What a hub knows: pushed, recalled, changed, brought back and put in order, at a desk and by thumb."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from guildhall import __version__
from guildhall.pages.texts import Piece, difference, marked
from tests.commands.serving import Serving
from tests.pages.browsing import DESKTOP, PHONE, visitor

pytestmark = pytest.mark.xdist_group("pages")


@asynccontextmanager
async def caller(site: Serving, email: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    token = await site.token(email, "--name", name)
    bearer = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=site.base_url, headers=bearer, timeout=30) as client:
        yield client


async def flawless(page: Page) -> None:
    """What is open now has no serious fault of accessibility and needs no sideways scrolling."""
    found = (await Axe().run(page)).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []
    assert not await page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_what_is_pushed_is_recalled_with_reasons_changed_and_brought_back(
    site: Serving, browser: Browser, viewport: Any
) -> None:
    name = f"kim{viewport['width']}"
    async with (
        caller(site, f"{name}@memory.example", "Kim") as kim,
        visitor(browser, site, viewport=viewport) as someone,
    ):
        hub = (await kim.post("/v1/hubs", json={"name": "Allotment", "slug": f"plot-{name}"})).json()["data"]
        await someone.sign_in(f"{name}@memory.example")
        page = await someone.open(f"/h/{hub['slug']}")
        await expect(page.get_by_role("heading", name="Nothing is known here yet")).to_be_visible()

        await page.get_by_label("Text").fill("Quinces ripen in October.\nThey want a warm wall.")
        await page.get_by_label("Tags").fill("fruit, autumn")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Push", exact=True).click()
        await expect(page.get_by_text("Kept. It can be recalled from now on.")).to_be_visible()
        await expect(page.locator("#memories .tag", has_text="autumn")).to_be_visible()

        await page.get_by_label("What do you want to know?").fill("When do quinces ripen?")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Recall").click()
        assert await page.locator("#memories mark").all_inner_texts() == ["Quinces", "ripen"]
        await expect(page.get_by_label("Why it was found").get_by_text("quinc")).to_be_visible()
        await flawless(page)

        await page.get_by_role("link", name="Quinces ripen in October.").click()
        await page.get_by_label("What to do with this memory").click()
        await page.get_by_role("button", name="Change").click()
        dialog = page.locator("#edit-memory")
        await dialog.get_by_label("Text").fill("Quinces ripen in November.\nThey want a warm wall.")
        async with page.expect_navigation():
            await dialog.get_by_role("button", name="Save").click()
        await expect(page.locator("article").get_by_text("Quinces ripen in November.")).to_be_visible()
        await expect(page.locator("article .tag", has_text="autumn")).to_be_visible()

        await page.get_by_role("link", name="Version 2").click()
        changes = page.locator("#changes")
        await expect(changes.locator("del")).to_contain_text("Quinces ripen in October.")
        await expect(changes.locator("ins")).to_contain_text("Quinces ripen in November.")
        await expect(changes.get_by_text("They want a warm wall.")).to_be_visible()
        await flawless(page)
        await page.get_by_role("link", name="Version 1").click()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Restore this version").click()
        await expect(page.get_by_text("It is again what it was in version 1.")).to_be_visible()
        await expect(page.locator("article").get_by_text("They want a warm wall.")).to_contain_text("October")
        await expect(page.get_by_role("link", name="Version 3")).to_be_visible()

        await page.get_by_label("What to do with this memory").click()
        await page.get_by_role("button", name="Delete").click()
        await page.locator("dialog[open]").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="Nothing is known here yet")).to_be_visible()


async def test_a_list_is_filtered_and_goes_on(site: Serving, browser: Browser) -> None:
    async with (
        caller(site, "lea@memory.example", "Lea") as lea,
        caller(site, "max@memory.example", "Max") as max_,
        visitor(browser, site) as someone,
    ):
        hub = (await lea.post("/v1/hubs", json={"name": "Well", "slug": "the-well"})).json()["data"]
        invite = (await lea.post(f"/v1/hubs/{hub['id']}/invites", json={})).json()["data"]
        assert (await max_.post(f"/v1/invites/{invite['token']}/accept")).is_success
        here = {"X-Hub-ID": hub["id"]}
        for n in range(25):
            body = {
                "content": f"Depth number {n} was measured.",
                "kind": "episodic" if n == 3 else "semantic",
            }
            assert (await (max_ if n == 5 else lea).post("/v1/memories", json=body, headers=here)).is_success
        await someone.sign_in("max@memory.example")
        page = await someone.open("/h/the-well")
        rows = page.locator("#memories > li")
        await expect(rows).to_have_count(20)
        await page.locator("a[data-more]").scroll_into_view_if_needed()
        await expect(rows).to_have_count(25)
        await page.get_by_label("Kind").select_option("episodic")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Show").click()
        await expect(rows).to_have_count(1)
        page = await someone.open("/h/the-well?who=self")
        await expect(page.get_by_role("link", name="Depth number 5")).to_be_visible()
        await expect(rows).to_have_count(1)
        # Somebody else's memory is read, not changed.
        await someone.open("/h/the-well")
        await page.get_by_role("link", name="Depth number 24").click()
        await expect(page.get_by_label("What to do with this memory")).to_have_count(0)
        # What has no title has a name all the same, to open it by.
        assert (await lea.post("/v1/memories", json={"content": "   "}, headers=here)).is_success
        await someone.open("/h/the-well")
        await page.get_by_role("link", name="(no title)").click()
        await expect(page.get_by_role("heading", name="(no title)")).to_be_visible()


async def test_topics_are_arranged_by_dragging_and_by_menus(site: Serving, browser: Browser) -> None:
    async with caller(site, "noa@memory.example", "Noa") as noa, visitor(browser, site) as someone:
        hub = (await noa.post("/v1/hubs", json={"name": "Library", "slug": "a-library"})).json()["data"]
        ids = {}
        for topic in ("Maps", "Poems", "Birds"):
            made = await noa.post("/v1/topics", json={"name": topic, "hub_id": hub["id"]})
            ids[topic] = made.json()["data"]["id"]

        async def tree() -> list[Any]:
            found = (await noa.get(f"/v1/topics?hub_id={hub['id']}")).json()["data"]["topics"]
            return [[each["name"], *(child["name"] for child in each["children"])] for each in found]

        await someone.sign_in("noa@memory.example")
        page = await someone.open("/h/a-library/topics")

        def row(topic: str) -> Any:
            return page.locator(f"[data-topic='{ids[topic]}'] > .topic")

        box = await row("Poems").bounding_box()
        async with page.expect_navigation():
            await row("Birds").drag_to(row("Poems"), target_position={"x": 60, "y": box["height"] / 2})
        assert await tree() == [["Maps"], ["Poems", "Birds"]]
        async with page.expect_navigation():
            await row("Poems").drag_to(row("Maps"), target_position={"x": 60, "y": 3})
        assert await tree() == [["Poems", "Birds"], ["Maps"]]
        await page.get_by_label("What to do with Poems").click()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Move down").locator("visible=true").click()
        assert await tree() == [["Maps"], ["Poems", "Birds"]]

        await page.get_by_label("What to do with Birds").click()
        await page.get_by_role("button", name="Rename or move").locator("visible=true").click()
        dialog = page.locator("#edit-topic")
        await expect(dialog.get_by_label("Under")).to_have_value(ids["Poems"])
        await dialog.get_by_label("Name").fill("Songbirds")
        await dialog.get_by_label("Under").select_option("")
        async with page.expect_navigation():
            await dialog.get_by_role("button", name="Save").click()
        assert sorted(each[0] for each in await tree()) == ["Maps", "Poems", "Songbirds"]

        await page.get_by_label("Name").first.fill("Sonnets")
        await page.get_by_label("Under").first.select_option(ids["Poems"])
        async with page.expect_navigation():
            await page.get_by_role("button", name="Make it").click()
        await page.get_by_label("What to do with Poems").click()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Archive").locator("visible=true").click()
        assert await tree() == [["Maps"], ["Songbirds"]]
        await page.get_by_text("Archived: 2").click()
        async with page.expect_navigation():
            await page.get_by_role("button", name="Restore Poems").click()
        assert ["Poems", "Sonnets"] in await tree()
        await flawless(page)


async def test_a_dream_is_read_decided_on_and_taken_back(site: Serving, browser: Browser) -> None:
    async with caller(site, "uma@memory.example", "Uma") as uma, visitor(browser, site) as someone:
        hub = (await uma.post("/v1/hubs", json={"name": "Greenhouse", "slug": "the-greenhouse"})).json()[
            "data"
        ]
        here = {"X-Hub-ID": hub["id"]}
        copy = "Water the tomatoes early in the morning before the sun gets hot, and never at noon."
        texts = [copy, copy + " ", *(f"The door closes at {at}:00 on weekdays in summer." for at in (18, 20))]
        texts += ["Compost wants turning.", "Compost needs air.", "Put no meat into the compost."]
        for text in texts:
            assert (await uma.post("/v1/memories", json={"content": text}, headers=here)).is_success
        await someone.sign_in("uma@memory.example")
        page = await someone.open("/h/the-greenhouse/dreams")
        await expect(page.get_by_role("heading", name="Nothing was tidied up yet")).to_be_visible()
        await page.get_by_role("button", name="Tidy up now").click()
        await expect(page.get_by_text("It is done soon.")).to_be_visible()
        async with asyncio.timeout(30):
            while not (found := (await uma.get("/v1/dreams/report", headers=here)).json()["data"]).get(
                "run"
            ) or (found["run"]["status"] == "running"):
                await asyncio.sleep(0.2)
        await someone.open("/h/the-greenhouse/dreams")
        merged = page.locator("#actions li", has_text="Joined")
        await expect(merged.get_by_text("Done ·")).to_be_visible()
        await expect(merged.get_by_text("kept", exact=True)).to_have_count(1)
        # What was sorted says whereto.
        await expect(
            page.locator("#actions li", has_text="Sorted").get_by_role("link", name="Compost", exact=True)
        ).to_be_visible()
        waiting = page.locator("#actions li", has_text="One says 18:00, the other 20:00.")
        await flawless(page)
        async with page.expect_navigation():
            await merged.get_by_role("button", name="Undo").click()
        await expect(merged.get_by_text("Taken back ·")).to_be_visible()

        # What was found is decided on here as well as in the inbox.
        await someone.open("/inbox")
        entry = page.locator("#entries li", has_text="contradict each other")
        await expect(entry.get_by_role("link", name="The door closes at 18:00")).to_be_visible()
        await flawless(page)
        await someone.open("/h/the-greenhouse/dreams")
        async with page.expect_navigation():
            await waiting.get_by_role("button", name="Keep the second").click()
        await expect(waiting.get_by_text("Done ·")).to_be_visible()
        await someone.open("/inbox")
        await expect(entry).to_have_count(0)
        await someone.open("/h/the-greenhouse")
        await expect(page.get_by_role("link", name="The door closes at 20:00")).to_be_visible()
        await expect(page.get_by_role("link", name="The door closes at 18:00")).to_have_count(0)


async def test_who_may_not_change_anything_sees_no_way_to(site: Serving, browser: Browser) -> None:
    async with (
        caller(site, "ole@memory.example", "Ole") as ole,
        caller(site, "pia@memory.example", "Pia") as pia,
        visitor(browser, site) as someone,
    ):
        hub = (await ole.post("/v1/hubs", json={"name": "Archive", "slug": "old-archive"})).json()["data"]
        invite = (await ole.post(f"/v1/hubs/{hub['id']}/invites", json={"role": "viewer"})).json()["data"]
        assert (await pia.post(f"/v1/invites/{invite['token']}/accept")).is_success
        here = {"X-Hub-ID": hub["id"]}
        pushed = await ole.post("/v1/memories", json={"content": "Read only."}, headers=here)
        assert (await ole.post("/v1/topics", json={"name": "Old", "hub_id": hub["id"]})).is_success
        memory = pushed.json()["data"]["id"]
        await someone.sign_in("pia@memory.example")
        page = await someone.open("/h/old-archive")
        await expect(page.get_by_text("As a viewer you read what is here.")).to_be_visible()
        for path in (
            f"/h/old-archive/m/{memory}?version=1",
            "/h/old-archive/topics",
            "/h/old-archive/dreams",
        ):
            await someone.open(path)
            assert await page.locator("main [data-call]:not([data-auto]), main [draggable]").count() == 0
            await expect(page.locator("footer")).to_contain_text(f"Guildhall {__version__}")
        # What is in another hub is not here.
        other = (await pia.post("/v1/hubs", json={"name": "Mine", "slug": "pias-own"})).json()["data"]
        await someone.open(f"/h/{other['slug']}/m/{memory}", 404)
        await someone.open("/h/old-archive/m/nothing", 404)
        await someone.open(f"/h/old-archive/m/{memory}?version=2", 404)


def test_words_are_marked_as_they_were_found() -> None:
    assert marked("The ferns thrive.", ["fern"]) == [
        Piece("The ", met=False),
        Piece("ferns", met=True),
        Piece(" thrive.", met=False),
    ]
    assert "".join(piece.text for piece in marked("文書の検索", ["文書", "検索"])) == "文書の検索"
    assert [piece.text for piece in marked("文書の検索", ["文書", "検索"]) if piece.met] == ["文書", "検索"]
    assert marked("", ["x"]) == [] and marked("None", []) == [Piece("None", met=False)]


def test_what_changed_is_shown_with_what_is_around_it() -> None:
    before = "\n".join(str(n) for n in range(20))
    lines = difference(before, before.replace("\n10\n", "\nten\n"))
    assert lines is not None
    assert [line.what for line in lines] == [
        *("skipped", "kept", "kept", "kept", "gone", "new", "kept", "kept", "kept", "skipped")
    ]
    assert difference("same", "same") == []
    assert difference("x\n" * 3000, "y\n" * 3000) is None
