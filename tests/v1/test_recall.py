"""Recall: what is known is found by its words, its date, its speaker and what was said beside it."""

import secrets
from typing import Any

import pytest

from guildhall.memories.jobs import TermCountsDue, count_terms
from tests.v1.test_memories import at, key_of, push
from tests.world import Browser, Hub, Person, World


async def recall(person: Browser, query: str, hub: Hub | None = None, **more: Any) -> list[dict[str, Any]]:
    reply = await person.post("/v1/recall", {"query": query, **more}, headers=at(hub) if hub else {})
    return reply.data(200)["memories"]


async def ids(person: Browser, query: str, hub: Hub | None = None, **more: Any) -> list[str]:
    return [memory["id"] for memory in await recall(person, query, hub, **more)]


async def test_rare_words_weigh_more_than_common_ones_and_short_is_no_virtue(world: World) -> None:
    ada = await world.person("ada")
    await push(ada, "Garden!")
    for n in range(6):
        await push(ada, f"The garden needs work number {n}.")
    wanted = await push(
        ada, "In the garden behind the house, where there is shade all day, the ferns thrive."
    )
    found = await recall(ada, "Which garden plants are the ferns?")
    assert found[0]["id"] == wanted["id"]
    assert found[0]["relevance_score"] == 1
    assert found[0]["reasons"]["terms"][:2] == ["fern", "garden"]
    scores = [memory["relevance_score"] for memory in found]
    assert scores == sorted(scores, reverse=True)
    assert await recall(ada, "zucchini") == []
    assert await recall(ada, "the of and") == []


async def test_what_was_said_beside_it_its_date_and_its_speaker_count(world: World) -> None:
    ada = await world.person("ada")
    talk = [
        ("Bo", "Did you hear about the marathon?"),
        ("Caroline", "Yes, I finished it in four hours."),
        ("Bo", "Impressive."),
        ("Caroline", "The cat slept all day."),
    ]
    said = [
        await push(ada, text, thread_id="t", seq=n, speaker=who, occurred_at="2023-05-08T10:00:00Z")
        for n, (who, text) in enumerate(talk)
    ]
    await push(ada, "A marathon is long.", thread_id="other", seq=1, speaker="Bo")
    found = await recall(ada, "What did Caroline say of the marathon?")
    answer = next(memory for memory in found if memory["id"] == said[1]["id"])
    assert answer["reasons"]["neighbour_id"] == said[0]["id"]
    assert answer["reasons"]["speaker"] is True
    assert said[3]["id"] not in [memory["id"] for memory in found]
    assert set(await ids(ada, "8 May 2023")) == {memory["id"] for memory in said}


async def talk(person: Person, hub: Hub, *said: tuple[str, str]) -> list[str]:
    """A conversation, each with who says what; answers the ids."""
    return [
        (await push(person, text, hub, thread_id="t", seq=n, speaker=who))["id"]
        for n, (who, text) in enumerate(said)
    ]


async def test_who_speaks_here_is_found_by_what_they_say_not_by_being_called(world: World) -> None:
    ada = await world.person("ada")
    hub, notes = await world.hub(ada), await world.hub(ada)
    answer, called, *_ = await talk(
        ada,
        hub,
        ("Zoë Marie-Claire", "We want to plant a lemon tree."),
        ("Bo", "Zoë, that is wonderful!"),
        ("Zoë Marie-Claire", "You are welcome."),
        ("Bo", "The cat sleeps."),
        ("Bo", "It rains."),
        ("Bo", "A plant of mine died."),
    )
    found = await recall(ada, "What did Zoe plant?", hub, hub_ids=[hub.id])
    assert found[0]["id"] == answer and found[0]["reasons"]["speaker"] is True
    assert called in [memory["id"] for memory in found]
    # One of several names is enough, and an accent or a hyphen is no hindrance.
    assert (await recall(ada, "claire lemon", hub, hub_ids=[hub.id]))[0]["reasons"]["speaker"] is True
    # Where nobody of that name speaks, it is a word as rare as any.
    texts = ["Zoë, that is wonderful!", "We want to plant a lemon tree.", "Plant two.", "It rains."]
    kept = [(await push(ada, text, notes))["id"] for text in texts]
    assert (await ids(ada, "What did Zoe plant?", notes, hub_ids=[notes.id]))[0] == kept[0]


async def test_company_reaches_two_places_each_way_and_adds_up(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    said = await talk(ada, hub, *(("Bo", text) for text in ("tulip", "a", "b", "c", "e", "f", "tulip")))
    found = {memory["id"]: memory for memory in await recall(ada, "tulip", hub, hub_ids=[hub.id])}
    scores = [found[id]["relevance_score"] if id in found else None for id in said]
    assert scores == [1, 0.4, 0.2, None, 0.2, 0.4, 1]
    assert found[said[2]]["reasons"]["neighbour_id"] == said[0] and found[said[2]]["reasons"]["terms"] == []
    (await ada.delete(f"/v1/memories/{said[3]}")).ok(200)
    found = {memory["id"]: memory for memory in await recall(ada, "tulip", hub, hub_ids=[hub.id])}
    assert [found[said[n]]["relevance_score"] for n in (1, 2, 4)] == [0.4, 0.2, 0.2]
    (await ada.delete(f"/v1/memories/{said[4]}")).ok(200)
    found = {memory["id"]: memory for memory in await recall(ada, "tulip", hub, hub_ids=[hub.id])}
    assert [found[said[n]]["relevance_score"] for n in (1, 2, 5)] == [0.4, 0.4, 0.4]


async def test_what_follows_a_question_counts_as_its_answer(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    said = await talk(ada, hub, ("Bo", "So."), ("Bo", "Who has the tulips? "), ("Al", "I do."), ("Bo", "Ah."))
    found = {memory["id"]: memory for memory in await recall(ada, "tulip", hub, hub_ids=[hub.id])}
    assert [found[id]["relevance_score"] for id in said] == [0.4, 1, 0.6, 0.2]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("What did Ada buy?", "I bought a kayak"),
        ("Who is buying it?", "Bo bought it"),
        ("Which song was sung?", "Caroline sings"),
        ("flies", "It flew away"),
        ("child", "Children play"),
        ("taking turns", "He had taken all"),
    ],
)
async def test_words_that_change_within_are_found_in_every_form(world: World, query: str, text: str) -> None:
    ada = await world.person("ada")
    hub, german = await world.hub(ada), await world.hub(ada)
    (await ada.patch(german.url, {"language": "german"})).ok(200)
    made = await push(ada, text, hub)
    await push(ada, text.split()[-1], german)
    assert await ids(ada, query, hub, hub_ids=[hub.id]) == [made["id"]]
    assert await ids(ada, query.split()[0], german, hub_ids=[german.id]) == []


async def test_a_long_memory_is_found_by_its_part_and_parts_keep_each_other_company(world: World) -> None:
    ada = await world.person("ada")
    parts = [f"# Manual\n\n## Chapter {n}\n\n" + f"About the thing{n} and more. " * 90 for n in range(5)]
    long = await push(ada, "\n\n".join(parts), content_type="markdown")
    found = await recall(ada, "thing3")
    assert [memory["id"] for memory in found] == [long["id"]]
    assert found[0]["heading_chain"] == "Manual > Chapter 3"
    assert "thing3" in found[0]["chunk_content"] and "thing1" not in found[0]["chunk_content"]
    (await ada.patch(f"/v1/memories/{long['id']}", {"content": "Short now"})).ok(200)
    assert await recall(ada, "thing3") == []
    assert await ids(ada, "short") == [long["id"]]


@pytest.mark.parametrize(
    ("content", "query", "language"),
    [
        ("We went camping/hiking.Then home", "hike", None),
        ("We went camping/hiking.Then home", "When did they camp?", None),
        ("See src/guildhall/engine.py", "src/guildhall/engine.py", None),
        ("See src/guildhall/engine.py", "the engine", None),
        ("It is Melanie’s", "Melanie's", None),
        ("It is Melanie's", "melanie", None),
        ("日本語の文書を検索する", "文書の検索", None),
        ("Die Häuser wurden verkauft", "Haus verkaufen", "german"),
        ("Café crème à Orléans", "cafe orleans", None),
        ("한국어 검색은 된다", "한국어", None),
    ],
)
async def test_other_languages_are_found(
    world: World, content: str, query: str, language: str | None
) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    if language:
        (await ada.patch(hub.url, {"language": language})).ok(200)
    made = await push(ada, content, hub)
    await push(ada, "Something else entirely", hub)
    assert await ids(ada, query, hub) == [made["id"]]


async def test_filters_bind_or_fail(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    tagged = await push(ada, "Plum jam", hub, tags=["jam", "fruit"], kind="procedural")
    plain = await push(ada, "Plum tree", hub)
    far = await push(ada, "Plum cake", other)
    everything = {tagged["id"], plain["id"], far["id"]}
    assert set(await ids(ada, "plum")) == everything
    assert set(await ids(ada, "plum", hub_ids=[hub.id])) == {tagged["id"], plain["id"]}
    assert await ids(ada, "plum", hub_ids=["018f0000-0000-7000-8000-000000000000"]) == []
    # To look in no hub is not to look in all.
    assert await ids(ada, "plum", hub_ids=[]) == await ids(ada, "plum", hub_ids=["no id"]) == []
    assert await ids(ada, "plum", tags=["jam", "fruit"]) == [tagged["id"]]
    assert await ids(ada, "plum", tags=["jam", "other"]) == []
    assert await ids(ada, "plum", created_before="2020-01-01T00:00:00Z") == []
    assert set(await ids(ada, "plum", created_after="1h")) == everything
    assert (await ids(ada, "plum", kind="procedural"))[0] == tagged["id"]
    assert (await ids(ada, "plum", other))[0] == far["id"]
    assert len(await ids(ada, "plum", limit=2)) == 2
    async with world.db.writing() as tx:
        await tx.run("UPDATE memories SET state = 'archived' WHERE id = $1::uuid", plain["id"])
    assert plain["id"] not in await ids(ada, "plum")
    assert plain["id"] in await ids(ada, "plum", include_archived=True)
    for body, code in (
        ({}, "missing_query"),
        ({"query": " "}, "missing_query"),
        ({"query": "x", "topic_id": "x"}, "invalid_topic_id"),
        ({"query": "x", "kind": "x"}, "invalid_kind"),
        ({"query": "x", "created_after": "soon"}, "invalid_created"),
        ({"query": 5}, "invalid_json"),
    ):
        assert (await ada.post("/v1/recall", body)).error == code


async def test_reads_take_a_hub_by_its_slug_as_writes_do(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    hub, far = await world.hub(ada), await world.hub(eve)
    mine = await push(ada, "Plum wine")
    made = await push(ada, "Plum pudding", hub)
    topic = (await ada.post("/v1/topics", {"name": "Plums"}, headers=at(hub))).data(201)
    slug = (await ada.get(hub.url)).data(200)["hub"]["slug"]
    closed = (await eve.get(far.url)).data(200)["hub"]["slug"]
    for named, wanted in ((slug, made), (hub.id, made), (closed, mine), ("no such", mine), (None, mine)):
        headers = {"X-Hub-ID": named} if named else {}
        (row,) = (await ada.get("/v1/memories", headers=headers)).data(200)["memories"]
        assert row["id"] == wanted["id"]
        topics = (await ada.get("/v1/topics", headers=headers)).data(200)["topics"]
        assert [row["id"] for row in topics] == ([topic["id"]] if wanted is made else [])
    (row,) = (await ada.get(f"/v1/memories?hub_id={slug}")).data(200)["memories"]
    assert row["id"] == made["id"]
    assert [row["id"] for row in (await ada.get(f"/v1/topics?hub_id={slug}")).data(200)["topics"]]
    for named in (closed, "nonsense", "no such"):
        assert (await ada.get(f"/v1/topics?hub_id={named}")).error == "missing_hub"
    assert (await ada.get(f"/v1/topics/{topic['id']}", headers={"X-Hub-ID": slug})).data(200)
    assert (await ada.get(f"/v1/topics/{topic['id']}", headers={"X-Hub-ID": closed})).error == "not_found"
    assert await ids(ada, "plum", hub_ids=[slug]) == [made["id"]]
    assert await ids(ada, "plum", hub_ids=[closed, "no such"]) == []
    body = {"query": "plum"}
    first, *_ = (await ada.post("/v1/recall", body, headers={"X-Hub-ID": slug})).data(200)["memories"]
    assert (first["id"], first["reasons"]["fits"]) == (made["id"], ["hub"])
    # A former slug leads to its hub for a while.
    (await ada.patch(hub.url, {"slug": slug[:40] + "-anew"})).data(200)
    assert await ids(ada, "plum", hub_ids=[slug]) == [made["id"]]


async def test_nobody_finds_what_they_may_not_read_by_any_way(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada, viewers=[bo])
    canary = "canary" + secrets.token_hex(6)
    made = await push(ada, f"The {canary} sings", hub, thread_id="t", seq=1)
    await push(eve, "What sings?")

    async def found(person: Browser) -> list[str]:
        texts = [
            await person.post("/v1/recall", {"query": f"{canary} sings"}),
            await person.post("/v1/ask", {"query": f"{canary} sings"}),
            await person.get(f"/v1/memories/search?q={canary}"),
            await person.get(f"/v1/bar/search?q={canary[:10]}"),
            await person.get(f"/v1/memories/{made['id']}/related"),
            await person.get("/v1/memories", headers=at(hub)),
        ]
        # What was asked for may be said again; what was stored may not be.
        return [reply.response.request.url.path for reply in texts if f"The {canary}" in reply.response.text]

    assert len(await found(bo)) == 5
    assert await found(eve) == []
    other = await world.hub(bo)
    assert await found(await key_of(bo, hub_ids=[other.id])) == []
    (await bo.post(f"{hub.url}/leave", {})).ok(200)
    assert await found(bo) == []


async def test_what_a_key_was_just_shown_it_does_not_push_as_its_own(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    told = await push(ada, "The tomatoes are ripe in August, and not before.", hub)
    key = await key_of(bo, hub_ids=[hub.id])
    shown = (await key.post("/v1/recall", {"query": "when are tomatoes ripe"})).data(200)
    assert [memory["id"] for memory in shown["memories"]] == [told["id"]]
    echo = await key.post("/v1/memories", {"content": "the tomatoes are  ripe in August"})
    assert echo.data(200)["id"] == told["id"]
    assert (await bo.get("/v1/memories?actor=self", headers=at(hub))).data()["total"] == 0
    news = await push(key, "The tomatoes were ripe in July already.")
    assert news["id"] != told["id"]
    # A person who says the same has said it.
    assert (await push(bo, "The tomatoes are ripe in August", hub))["id"] != told["id"]
    assert (await ada.get(f"/v1/memories/{told['id']}")).data()["shown_count"] == 1
    again = (await bo.post("/v1/recall", {"query": "tomatoes ripe"})).data(200)
    quoted = {"content": "ripe in August, and not before.", "receipt_id": again["receipt_id"]}
    assert (await bo.post("/v1/memories", quoted, headers=at(hub))).data(200)["id"] == told["id"]


async def test_search_finds_while_one_types_and_the_bar_finds_names_too(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada, name="Tomato lovers")
    made = await push(ada, "Tomatoes like warmth. " + "They grow. " * 30, hub, title="Warmth")
    (row,) = (await ada.get("/v1/memories/search?q=toma")).data(200)
    assert (row["memory_id"], row["title"], row["hub_name"]) == (made["id"], "Warmth", "Tomato lovers")
    assert row["snippet"].startswith("Tomatoes like warmth.") and len(row["snippet"]) <= 202
    assert (await ada.get("/v1/memories/search?q=")).error == "missing_query"
    bar = (await ada.get("/v1/bar/search?q=tomato")).data(200)
    assert [m["memory_id"] for m in bar["memories"]] == [made["id"]]
    assert bar["hubs"] == [{"id": hub.id, "name": "Tomato lovers"}]
    assert (await ada.get("/v1/bar/search?q=")).data(200) == {
        "query": "",
        "memories": [],
        "topics": [],
        "hubs": [],
    }


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("The running connection to Zürich is configured.", "r ru run runn runni runnin running"),
        ("The running connection to Zürich is configured.", "connec connect connecti connectio connections"),
        ("The running connection to Zürich is configured.", "Zür zür Zürich zuri (zuri zürich)"),
        ("東京に住んでいます", "東 東京 住"),
        ("김치를 담갔습니다", "김 김치"),
    ],
)
async def test_what_is_found_stays_found_while_its_word_is_typed(world: World, text: str, typed: str) -> None:
    ada = await world.person("ada")
    made = await push(ada, text)
    for typing in typed.split():
        if len(typing) == 1 and typing.isascii():
            continue
        rows = (await ada.get("/v1/memories/search", params={"q": typing})).data(200)
        assert [row["memory_id"] for row in rows] == [made["id"]], typing
    for other in ("runt", "connectpet", "Zurk", "京城"):
        rows = (await ada.get("/v1/memories/search", params={"q": other})).data(200)
        assert rows == [] or "東" in text


async def test_a_word_of_one_character_is_found(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    house = await push(ada, "我家有一只猫很可爱", hub)
    sofa = await push(ada, "猫喜欢在沙发上睡觉", hub)
    dog = await push(ada, "狗在花园里", hub)
    for query in ("猫", "有猫吗", "小猫"):
        assert set(await ids(ada, query, hub)) == {house["id"], sofa["id"]}
    assert (await ids(ada, "猫睡觉", hub))[0] == sofa["id"]
    assert await ids(ada, "狗", hub) == [dog["id"]]
    # What only joins words finds nothing by itself.
    assert await ids(ada, "吗", hub) == await ids(ada, "的", hub) == []


async def test_an_answer_quotes_what_it_cites_word_for_word(world: World) -> None:
    ada = await world.person("ada")
    made = await push(ada, "Roses need pruning. They are pruned in March, before the buds open. Use gloves.")
    await push(ada, "The shed is green.")
    answered = (await ada.post("/v1/ask", {"query": "When are roses pruned in March?"})).data(200)
    (cited, *_) = answered["citations"]
    assert cited["memory_id"] == made["id"]
    assert cited["quote"] == "They are pruned in March, before the buds open."
    assert f"“{cited['quote']}” [{cited['index']}]" in answered["answer"]
    assert answered["sources"][cited["index"] - 1]["id"] == made["id"]
    nothing = (await ada.post("/v1/ask", {"query": "submarine"})).data(200)
    assert nothing["citations"] == [] and nothing["sources"] == []
    stream = await ada.post("/v1/ask", {"query": "roses"}, headers={"Accept": "text/event-stream"})
    assert stream.headers["content-type"].startswith("text/event-stream")
    names = [line[7:] for line in stream.response.text.splitlines() if line.startswith("event: ")]
    assert names[0] == "sources" and names[-1] == "done" and set(names[1:-1]) == {"delta"}


async def test_an_answer_is_bound_like_recall_and_says_where_nothing_is_known(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    made = await push(
        ada, "Quinces ripen in October.", hub, tags=["fruit"], occurred_at="2024-10-02T00:00:00Z"
    )
    far = await push(ada, "Quinces ripen on the shelf.", other)
    await push(ada, "Row 2 holds text.", hub)
    await push(ada, "Bo bought a red bicycle.", hub, speaker="Bo")
    await push(ada, "猫喜欢在沙发上睡觉", hub)

    async def ask(query: str, **more: Any) -> tuple[list[str], list[str], str]:
        answered = (await ada.post("/v1/ask", {"query": query, **more})).data(200)
        cited = [citation["memory_id"] for citation in answered["citations"]]
        return cited, [source["id"] for source in answered["sources"]], answered["answer"]

    question = "When do quinces ripen?"
    cited, sources, _ = await ask(question)
    assert set(cited) == set(sources) == {made["id"], far["id"]}
    for bound in (
        {"hub_ids": [hub.id]},
        {"tags": ["fruit"]},
        {"hub_ids": [hub.id], "created_after": "1h", "tags": ["fruit"]},
    ):
        assert (await ask(question, **bound))[:2] == ([made["id"]], [made["id"]])
    for bound in (
        {"tags": ["nope"]},
        {"created_after": "2030-01-01T00:00:00Z"},
        {"created_before": "2020-01-01T00:00:00Z"},
        {"hub_ids": []},
    ):
        assert await ask(question, **bound) == ([], [], "Nothing in these hubs answers this.")
    assert (await ada.post("/v1/ask", {"query": "x", "created_after": "soon"})).error == "invalid_created"
    # A word in common is no answer; what comes nearest is told all the same.
    for unknown in ("What is 2+2?", "Which text explains submarine reactors?", "Is the Eiffel tower red?"):
        cited, sources, answer = await ask(unknown)
        assert (cited, answer) == ([], "Nothing in these hubs answers this.")
        assert sources != []
    for known in ("What does Bo buy?", "Who bought the bicycle?", "猫在哪里睡觉？", "quinces"):
        assert (await ask(known))[0] != [], known


async def test_related_memories_share_what_is_special(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    hub = await world.hub(ada)
    first = await push(ada, "Kubernetes ingress with certificates from Letsencrypt", hub)
    like = await push(ada, "Letsencrypt certificates expire; the ingress renews them", hub)
    await push(ada, "The canteen has soup", hub)
    (row,) = (await ada.get(f"/v1/memories/{first['id']}/related")).data(200)
    assert row["memory"]["id"] == like["id"] and 0 < row["similarity"] <= 1
    assert (await eve.get(f"/v1/memories/{first['id']}/related")).error == "not_found"


async def test_words_in_half_of_a_large_hub_are_found_as_well_as_rare_ones(world: World) -> None:
    """In what is large, common words are only asked for among what rare ones have found."""
    ada = await world.person("ada")
    hub = await world.hub(ada)
    await _fill(world, ada, hub, 21_000)
    needle = await push(ada, "common needle", hub)
    assert (await ids(ada, "the common needle", hub))[0] == needle["id"]
    assert len(await ids(ada, "common", hub)) == 10
    await count_terms(world.house.work, TermCountsDue())
    async with world.db.reading() as read:
        counted = "SELECT memories FROM memory_term_counts WHERE space_id = $1::uuid AND lexeme = 'common'"
        assert await read.value(counted, hub.id) == 10_501
    assert (await ids(ada, "the common needle", hub))[0] == needle["id"]
    assert len(await ids(ada, "common", hub)) == 10


async def _fill(world: World, author: Person, hub: Hub, count: int) -> None:
    """Many memories at once, every second of them with a common word."""
    async with world.db.writing() as tx:
        await tx.connection.execute("SET LOCAL statement_timeout = '60s'")
        await tx.connection.execute(
            """
            INSERT INTO memories (id, space_id, author_id, content, content_hash)
            SELECT uuid7(), $1::uuid, $2, text, sha256(text::bytea)
              FROM (SELECT 'w' || n || CASE WHEN n % 2 = 0 THEN ' common' ELSE ' plain' END AS text
                      FROM generate_series(1, $3::integer) AS n) AS texts
            """,
            hub.id,
            author.id,
            count,
            timeout=60,
        )


async def test_a_hub_that_changes_its_language_is_found_in_the_new_one(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    made = await push(ada, "Die Häuser wurden verkauft", hub)
    assert await ids(ada, "Haus", hub) == []
    assert (await ada.patch(hub.url, {"language": "german"})).data(200)["language"] == "german"
    await world.drain()
    assert await ids(ada, "Haus", hub) == [made["id"]]
    assert (await ada.patch(hub.url, {"language": "klingon"})).error == "invalid_language"
