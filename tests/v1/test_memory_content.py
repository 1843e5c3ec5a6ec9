"""The content of memories: made harmless, cut into pieces, and never a way to keep others waiting."""

import asyncio
import random
from typing import Any

import pytest

from guildhall.memories.chunks import MOST_CHUNKS, MOST_TOKENS, split, tokens
from guildhall.memories.reading import Unreadable, clean_html
from tests.v1.test_memories import at, push
from tests.v1.test_recall import ids
from tests.world import World

HOSTILE = "<script>alert(1)</script><b onclick=x>hi</b>"


@pytest.mark.parametrize(
    "content",
    [
        "<p>x</p>" * 9_000 + "<div>" * 60_000,
        # As deep, though a glance does not see it.
        "<div><!--</div>-->" * 100_000,
        "<div>" + "".join(f"<b a={n}>" for n in range(400)) + "</div>" + "<p>x</p>" * 200_000,
    ],
    ids=["deep", "hidden", "wide"],
)
async def test_html_that_is_built_to_keep_one_busy_is_refused_while_others_are_served(
    world: World, content: str
) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    made = await push(ada, "Plain", hub)
    body = {"content": content, "content_type": "html"}
    pushing = asyncio.create_task(ada.post("/v1/memories", body, headers=at(hub)))
    served = 0
    while not pushing.done():
        (await bo.get(f"/v1/memories/{made['id']}")).ok(200)
        served += 1
    assert served > 3
    refused = await pushing
    assert (refused.status, refused.error) == (400, "content_too_complex")
    assert [error["pointer"] for error in refused.details["errors"]] == ["/content"]
    assert (await bo.post("/v1/memories", body, headers=at(hub))).error == "no_write_access"
    assert (await ada.patch(f"/v1/memories/{made['id']}", body)).error == "content_too_complex"
    assert (await ada.get(f"/v1/memories/{made['id']}")).data()["content"] == "Plain"


async def test_large_html_is_cleaned_as_small_html_is() -> None:
    page = "<h2>Peas</h2><p>Sow <b>early</b> &amp; <a href='https://example.org'>deep</a>.<br>" + HOSTILE
    once = await clean_html(page)
    assert "script" not in once and "onclick" not in once and "<b>early</b>" in once
    assert (await clean_html(page * 200)).count("<b>early</b>") == 200
    with pytest.raises(Unreadable):
        await clean_html("<em>" * 600)


async def test_what_becomes_html_is_made_harmless_whichever_way(world: World) -> None:
    ada = await world.person("ada")
    made = await push(ada, HOSTILE, content_type="text")
    assert made["content"] == HOSTILE
    url = f"/v1/memories/{made['id']}"
    changed = (await ada.patch(url, {"content_type": "html"})).data(200)
    assert (changed["content_type"], changed["content"]) == ("html", "<b>hi</b>")
    assert changed["content_hash"] != made["content_hash"]
    back = (await ada.post(f"{url}/versions/1/restore")).data(200)
    assert (back["content_type"], back["content"]) == ("text", HOSTILE)
    again = (await ada.patch(url, {"content_type": "html", "title": "T"})).data(200)
    assert (again["content"], again["title"]) == ("<b>hi</b>", "T")
    assert await ids(ada, "alert") == []


async def test_a_heading_without_a_text_is_found_as_a_text_is(world: World) -> None:
    ada = await world.person("ada")
    headings = "".join(f"# w{n:07d}x\n" for n in range(120_000))
    assert len(headings) > 1_300_000
    made = await push(ada, headings)
    assert await ids(ada, "w0000003x") == [made["id"]]
    text = "\n".join(f"## Chapter{n}\nAbout growing things. {'And more of it. ' * 60}" for n in range(5))
    lone = await push(ada, f"# Almanac\n{text}\n## Quincunx\n# Zugzwang\n## Ytterbium")
    for word in ("almanac", "chapter3", "quincunx", "zugzwang", "ytterbium"):
        assert await ids(ada, word) == [lone["id"]]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        ("ä" * 1_500_000, "text"),
        ("日本" * 500_000, "text"),
        ("# a" + " " * 1_000_000 + "b", "markdown"),
        ("# " + "x # " * 500_000 + "x", "markdown"),
        ("#" * 1_000_000 + " x", "markdown"),
        ("<h1" * 700_000, "html"),
        ("<h1>" * 700_000, "html"),
        ("<" + "a" * 2_000_000, "html"),
        ("<p " * 700_000 + ">", "html"),
        ("a. " * 700_000, "text"),
        ("```\n" * 500_000, "markdown"),
        ("\n" * 2_000_000, "text"),
        ("ä\n# b\n" * 300_000, "markdown"),
    ],
    ids=lambda value: f"{len(value)} of {value[:6]!r}",
)
def test_a_text_is_cut_in_time_that_grows_with_its_length_alone(content: str, content_type: str) -> None:
    pieces = split(content, content_type)
    assert len(pieces) <= MOST_CHUNKS
    assert all(piece.content and tokens(piece.content) <= MOST_TOKENS + 50 for piece in pieces)


def test_no_word_is_lost_when_a_text_is_cut() -> None:
    chance = random.Random(7)
    for _ in range(200):
        words, lines = 0, list[str]()
        for _ in range(chance.randrange(1, 120)):
            line: list[Any] = []
            for _ in range(chance.choice([0, 1, 3, 40])):
                line.append(f"w{words}")
                words += 1
            lines.append(chance.choice(["", "", "# ", "## ", "#### ", "- "]) + " ".join(line))
            lines += [""] * chance.randrange(2)
        pieces = split("\n".join(lines), "markdown")
        if pieces:
            said = " ".join(f"{piece.heading_chain} {piece.content}" for piece in pieces)
            found = set(said.replace("#", " ").split())
            assert [n for n in range(words) if f"w{n}" not in found] == []


async def test_no_answer_is_heavier_than_it_must_be_and_nothing_is_lost_for_that(world: World) -> None:
    ada = await world.person("ada")
    made = [(await push(ada, f"{n} " + "long " * 500_000))["id"] for n in range(5)]
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page = (await ada.get("/v1/memories", params={"cursor": cursor, "limit": "50"})).data(200)
        seen += [memory["id"] for memory in page["memories"]]
        cursor, pages = page["next_cursor"], pages + 1
        assert page["has_more"] == (cursor != "")
        assert pages > 1 or page["total"] == 5
    assert (seen, pages) == ([*reversed(made)], 2)
    url = f"/v1/memories/{made[0]}"
    for n in range(4):
        (await ada.patch(url, {"content": f"{n}. " + "again " * 400_000})).ok(200)
    numbers: list[int] = []
    cursor, pages = "", 0
    while cursor or not pages:
        page = (await ada.get(f"{url}/versions", params={"cursor": cursor})).data(200)
        numbers += [version["version"] for version in page["versions"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (numbers, pages) == ([5, 4, 3, 2, 1], 3)
    few = (await ada.get(f"{url}/versions?limit=1")).data(200)
    assert [version["version"] for version in few["versions"]] == [5] and few["has_more"]
    assert (await ada.get(f"{url}/versions?cursor=x")).error == "invalid_cursor"


async def test_of_two_changes_at_once_none_lets_scripts_through(world: World) -> None:
    ada = await world.person("ada")
    for n in range(6):
        made = await push(ada, f"Plain {n}")
        url = f"/v1/memories/{made['id']}"
        changes = [{"content_type": "html"}, {"content": f"{HOSTILE} {n}"}, {"title": "T"}]
        for reply in await asyncio.gather(*(ada.patch(url, change) for change in changes)):
            reply.ok(200)
        read = (await ada.get(url)).data()
        assert (read["content_type"], read["content"], read["title"]) == ("html", f"<b>hi</b> {n}", "T")
