"""Dreams: what they do by themselves, what they leave to people, and that all of it can be taken back."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from guildhall.db import new_id
from guildhall.dreams import comparing, copies, jobs, planning, queries, rules
from guildhall.dreams.jobs import DreamAsked
from guildhall.events.bus import CHANNEL
from tests.v1.test_memories import at, counts, push
from tests.v1.test_topics import make, shape, tree
from tests.world import Hub, Person, World

WATER = "Water the tomatoes early in the morning before the sun gets hot, and never at noon."


async def dream(world: World, hub: Hub | str) -> str:
    """Tidy a hub up; answers the run's id."""
    run = new_id()
    space = UUID(hub if isinstance(hub, str) else hub.id)
    await jobs.dream(world.house.work, DreamAsked(run_id=run, space_id=space))
    return str(run)


async def detail(person: Person, run: str) -> dict[str, Any]:
    return (await person.get(f"/v1/dreams/{run}")).data(200)


async def actions(person: Person, run: str, kind: str | None = None) -> list[dict[str, Any]]:
    found = (await detail(person, run))["actions"]
    return [action for action in found if kind in (None, action["action_type"])]


async def age(world: World, hub: Hub, days: int) -> None:
    async with world.db.single() as tx:
        await tx.run(
            "UPDATE memories SET created_at = created_at - make_interval(days => $2),"
            " updated_at = updated_at - make_interval(days => $2) WHERE space_id = $1::uuid",
            hub.id,
            days,
        )


async def digest(world: World, hub: Hub | str) -> str:
    """A hash of all that is in a hub: memories, the words they are found by, topics, and what is counted."""
    async with world.db.single() as tx:
        return await tx.value(
            """
            SELECT encode(sha256(convert_to(jsonb_build_object(
                'memories', (SELECT jsonb_agg(to_jsonb(m) - '{version,updated_at,updated_by}'::text[]
                                               ORDER BY m.id)
                               FROM memories m WHERE m.space_id = s.id),
                'words', (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.lexeme, t.memory_id, t.chunk)
                            FROM memory_terms t WHERE t.space_id = s.id),
                'archived words', (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.lexeme, t.memory_id, t.chunk)
                                     FROM archived_memory_terms t WHERE t.space_id = s.id),
                'chunks', (SELECT jsonb_agg(to_jsonb(c) ORDER BY c.memory_id, c.chunk)
                             FROM memory_chunks c WHERE c.space_id = s.id),
                'topics', (SELECT jsonb_agg(to_jsonb(t) - 'updated_at' ORDER BY t.id)
                             FROM topics t WHERE t.space_id = s.id),
                'numbers', jsonb_build_array(s.memory_count, s.unsorted_count, s.topic_count)
                )::text, 'UTF8')), 'hex')
              FROM spaces s WHERE s.id = $1::uuid
            """,
            hub if isinstance(hub, str) else hub.id,
        )


async def garden(world: World, ada: Person) -> Hub:
    """A hub with something for every phase."""
    hub = await world.hub(ada)
    await push(ada, WATER, hub)
    await push(ada, WATER.replace("early", "early,") + "\nUse rain water.", hub)
    for n, text in enumerate(
        ("Compost wants turning every week.", "Turn compost with a fork.", "Put no meat into compost.")
    ):
        await push(ada, f"{text} Lesson {n}", hub)
    await push(ada, "The greenhouse door closes at 18:00 on weekdays in summer.", hub)
    await push(ada, "The greenhouse door closes at 20:00 on weekdays in summer.", hub)
    return hub


async def test_copies_are_merged_and_come_apart_again(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    short = await push(ada, WATER, hub)
    long = await push(ada, WATER.replace("early", "Early"), hub, title="Watering")
    extra = await push(ada, "Beans climb poles, peas climb nets.\nSow them in May, not before.", hub)
    other = await push(
        ada, "Beans climb poles; peas climb nets\nSow them in May, not before.\nPick young.", hub
    )
    before = await digest(world, hub)
    run = await dream(world, hub)

    merged = await actions(ada, run, "merge")
    assert len(merged) == 2
    assert all(action["status"] == "applied" and action["automatic"] for action in merged)
    states = {}
    for memory in (short, long, extra, other):
        states[memory["id"]] = (await ada.get(f"/v1/memories/{memory['id']}")).data()
    assert sorted(one["state"] for one in states.values()) == ["active", "active", "archived", "archived"]
    # The longer is kept.
    assert states[other["id"]]["state"] == "active"
    history = states[extra["id"]]["lifecycle"]["dream_history"]
    assert [(ref["run_id"], ref["action_type"], ref["reason"]) for ref in history] == [
        (run, "merge", "The one says all that the other does.")
    ]
    undone = (await ada.post(f"/v1/dreams/{run}/undo", {})).data(200)
    assert (len(undone["undone"]), undone["skipped"]) == (2, [])
    assert await digest(world, hub) == before
    # What was taken back is not done again.
    again = await dream(world, hub)
    assert await actions(ada, again, "merge") == []
    assert await digest(world, hub) == before


async def test_a_merge_is_forgotten_with_either_memory(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    kept = await push(ada, f"{WATER} Mulch keeps the soil moist for a long time.\nStake them.", hub)
    copy = await push(ada, f"{WATER} Mulch keeps the soil moist for a long time.", hub)
    run = await dream(world, hub)
    (action,) = await actions(ada, run, "merge")
    assert action["result_memory_id"] == kept["id"]
    whole = (await ada.get(f"/v1/memories/{kept['id']}")).data()
    assert (whole["content"], whole["version"]) == (kept["content"], 1)
    (await ada.delete(f"/v1/memories/{copy['id']}")).data()
    (action,) = await actions(ada, run, "merge")
    assert (action["status"], action["reason"], action["evidence"]) == ("dropped", "", {})
    other = await push(ada, f"{WATER} Mulch keeps the soil moist; for a long time!", hub)
    run = await dream(world, hub)
    (await ada.delete(f"/v1/memories/{kept['id']}")).data()
    # What it repeated is no more, so that it is all there is.
    (action,) = await actions(ada, run, "merge")
    assert (await ada.post(f"/v1/dreams/{run}/undo", {})).data()["undone"] == [action["id"]]
    assert (await ada.get(f"/v1/memories/{other['id']}")).data()["state"] == "active"


PASSWORD = "The database password for the {} customer cluster is in the vault at infra, under team secrets."
RESTART = "Restart the {} worker with systemctl restart when the queue is stuck and nobody answers the phone."
REPORT = "The report for the board is due on the {} working day of each month, at the latest before lunch."
BILLING = "{} is the owner of the billing service and of all that runs beside it in the second cluster."
SITTING = "Die Sitzung der Gruppe ist immer am {} um zehn im alten Saal neben dem Garten."
INDENT = "Indent all the code in the whole of this repository with {}. Nobody wants to argue about it."
SERVER = "客户的数据库服务器在{}的机房里面由我们的团队负责维护"
RULES = "The rules for parcels are on the wall beside the door of the post room, in three languages"


async def test_what_differs_in_a_word_is_never_merged(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    pairs = [
        (PASSWORD.format("alpha"), PASSWORD.format("beta")),
        (RESTART.format("payments"), RESTART.replace("{} ", "")),
        (REPORT.format("third"), REPORT.format("fifth")),
        (BILLING.format("Maria"), BILLING.format("Pedro")),
        (SITTING.format("Dienstag"), SITTING.format("Freitag")),
        (INDENT.format("tabs"), INDENT.format("spaces")),
        (SERVER.format("东京"), SERVER.format("大阪")),
        (f"{RULES}. Anyone may change them.", f"{RULES}. Admins may change them."),
        (f"Owner: Maria\n{RULES.lower()}", f"{RULES.lower()}\nOwner: Pedro"),
    ]
    for content in (content for pair in pairs for content in pair):
        await push(ada, content, hub)
    assert await actions(ada, await dream(world, hub), "merge") == []
    assert (await counts(ada, hub))[0] == 18


async def test_what_a_memory_says_beside_its_text_is_not_lost(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    beside: list[dict[str, Any]] = [
        {"title": "Alpha cluster"},
        {"hint": "for the alpha cluster"},
        {"tags": ["alpha"]},
        {"kind": "rationale"},
        {"stability": "stable"},
        {"project_context": {"repo": "alpha"}},
        {"speaker": "Maria"},
        {"occurred_at": "2026-03-01T09:30:00Z", "kind": "semantic"},
        {"source_path": "notes/alpha.md", "content_type": "text"},
        {},
    ]
    special: list[str] = []
    for n, more in enumerate(beside):
        content = f"The key of door number {n} hangs behind the board at the entrance, on hook {n}."
        special.append((await push(ada, content, hub, **more))["id"])
        await push(ada, content.replace("board", "board,"), hub)
    await dream(world, hub)
    states = [(await ada.get(f"/v1/memories/{id}")).data()["state"] for id in special]
    assert states == ["active"] * 9 + ["archived"]


async def fill(world: World, hub: Hub, author: Person, contents: list[str]) -> None:
    """Many memories at once, as if they had been pushed."""
    async with world.db.single() as tx:
        await tx.run(
            "INSERT INTO memories (id, space_id, author_id, content, content_hash)"
            " SELECT uuid7(), $1::uuid, $2, t, sha256(convert_to(t, 'UTF8'))"
            "   FROM unnest($3::text[]) AS t",
            hub.id,
            author.id,
            contents,
        )


async def plan_merges(world: World, hub: Hub, budget: rules.Budget) -> comparing.Plan:
    async with world.db.writing() as tx:
        found = await queries.lock_hub(tx, UUID(hub.id))
    assert found is not None
    return await planning.merges(world.db, found, budget)


async def test_what_changed_is_compared_with_all_there_is_however_old(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    old = await push(ada, WATER, hub)
    words = ["water", "tomatoes", "early", "morning", "sun", "noon"]
    await fill(world, hub, ada, [f"{word} of day {n} in the garden" for n in range(60) for word in words])
    copy = await push(ada, WATER.replace(".", "!"), hub)
    plan = await plan_merges(world, hub, rules.Budget(candidate_limit=1, action_limit=9))
    assert plan.looked.keys() == {UUID(copy["id"])}
    assert [set(found.memories) for found in plan.proposals] == [{UUID(old["id"]), UUID(copy["id"])}]
    assert plan.more
    # However long the texts are, there is an end to it for one run.
    some = await plan_merges(world, hub, rules.Budget(candidate_limit=200, action_limit=9, characters=1))
    assert 0 < len(some.looked) < 200 and some.more
    await dream(world, hub)
    assert (await plan_merges(world, hub, rules.Budget(candidate_limit=1, action_limit=9))).more is False


async def test_copies_of_common_words_alone_find_each_other_once_both_were_looked_at(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    words = ["water", "tomatoes", "early", "morning", "sun", "noon"]
    old = await push(ada, " ".join(words), hub)
    others = [" ".join((*words[:at], f"n{n}", *words[at:])) for n in range(210) for at in range(1, 6)]
    await fill(world, hub, ada, others)
    copy = await push(ada, " ".join(words) + ".", hub)
    only = rules.Budget(candidate_limit=1, action_limit=9)
    assert (await plan_merges(world, hub, only)).proposals == []
    async with world.db.writing() as tx:
        seen = {UUID(old["id"]): copies.digest(old["content"])}
        await comparing.note_looks(tx, UUID(hub.id), "merge", datetime.now(UTC), seen)
    plan = await plan_merges(world, hub, only)
    assert [set(found.memories) for found in plan.proposals] == [{UUID(old["id"]), UUID(copy["id"])}]


async def test_many_copies_of_one_are_put_away_at_once_and_come_back_in_any_order(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for ending in (".", "!", ";", "…"):
        await push(ada, WATER.removesuffix(".") + ending, hub)
    before = await digest(world, hub)
    run = await dream(world, hub)
    done = await actions(ada, run, "merge")
    assert (len(done), len({action["result_memory_id"] for action in done})) == (3, 1)
    for action in done:
        url = f"/v1/dreams/{run}/actions/{action['id']}/undo"
        assert (await ada.post(url)).data()["undone"] == [action["id"]]
    assert await digest(world, hub) == before


async def test_what_somebody_else_wrote_is_put_away_only_where_it_is_the_very_same(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    same = [await push(ada, WATER, hub), await push(bo, WATER.replace("early", "Early"), hub)]
    await push(ada, f"{WATER} Mulch keeps the roots cool.\nStake them.".replace("tomatoes", "roses"), hub)
    await push(bo, f"{WATER} Mulch keeps the roots cool.".replace("tomatoes", "roses"), hub)
    for content in ("All right, see you there", "All right, see you there!"):
        await push(ada, content, hub, thread_id=content)
    await push(ada, "Figs like the south wall of the house.", hub, tags=["fig"])
    await push(ada, "Figs like the south wall of the house!", hub, tags=["house"])
    (action,) = await actions(ada, await dream(world, hub), "merge")
    assert set(action["source_memory_ids"]) == {memory["id"] for memory in same}


@pytest.mark.parametrize(
    ("answer", "resolution", "left"),
    [
        ("keep_a", "kept_a", 1),
        ("keep_b", "kept_b", 1),
        ("keep_both", "kept_both", 2),
        ("dismiss", "dismissed", 2),
    ],
)
async def test_a_contradiction_is_for_people_to_decide(
    world: World, answer: str, resolution: str, left: int
) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada, contributors=[bo], viewers=[eve])
    first = await push(ada, "The greenhouse door closes at 18:00 on weekdays in summer.", hub)
    second = await push(bo, "The greenhouse door closes at 20:00 on weekdays in summer.", hub)
    before = await digest(world, hub)
    run = await dream(world, hub)
    assert await digest(world, hub) == before
    (action,) = await actions(ada, run, "contradiction")
    assert action["status"] == "waiting"

    async def inbox(who: Person) -> list[dict[str, Any]]:
        query = f"?hub={hub.id}&kind=review_contradiction"
        return (await who.get("/v1/notifications" + query)).data()["notifications"]

    assert await inbox(eve) == []
    (row,) = await inbox(ada)
    assert row["dream_run_id"] == run
    payload = row["payload"]
    assert payload["memory_a"] == {"id": first["id"], "title": first["title"]}
    assert payload["reason"] == "One says 18:00, the other 20:00."
    assert (await ada.get(f"{hub.url}/summary")).data()["stats"]["pending_review"] == 1
    report = (await ada.get("/v1/dreams/report", headers=at(hub))).data()
    assert report["intelligence"]["pending_review"]["contradictions"] == 1
    # Again it is not asked again.
    await dream(world, hub)
    assert len(await inbox(ada)) == len(await inbox(bo)) == 1
    # Bo may put away only what is his.
    (own,) = await inbox(bo)
    if answer == "keep_b":
        refused = await bo.post(f"/v1/notifications/{own['id']}/resolve", {"action": answer})
        assert refused.error == "forbidden"
    decided = await ada.post(f"/v1/notifications/{row['id']}/resolve", {"action": answer})
    assert decided.data(200)["resolution"] == resolution
    assert await inbox(ada) == await inbox(bo) == []
    again = await bo.post(f"/v1/notifications/{own['id']}/resolve", {"action": answer})
    assert (again.status, again.error) == (409, "notification_not_pending")
    active = (await ada.get("/v1/memories", headers=at(hub))).data()["memories"]
    assert len(active) == left
    if left == 1:
        assert active[0]["id"] == (first if answer == "keep_a" else second)["id"]
        url = f"/v1/dreams/{run}/actions/{action['id']}/undo"
        assert (await ada.post(url)).data(200)["undone"] == [action["id"]]
        assert await digest(world, hub) == before
        assert (await ada.post(url)).data()["skipped"] == [{"id": action["id"], "reason": "not_applied"}]


async def review(person: Person, hub: Hub) -> list[dict[str, Any]]:
    """What waits for this person's decision about the hub."""
    kinds = "".join(f"&kind=review_{kind}" for kind in ("contradiction", "topic_merge", "topic_restructure"))
    return (await person.get(f"/v1/notifications?hub={hub.id}{kinds}")).data()["notifications"]


@pytest.mark.parametrize(
    "how", ["deleted", "deleted with others", "moved", "shared", "deleted with all of one's own"]
)
async def test_a_decision_about_what_is_not_there_any_more_waits_for_nobody(world: World, how: str) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, admins=[bo]), await world.hub(ada)
    for hour in (18, 20):
        memory = await push(ada, f"The greenhouse door closes at {hour}:00 on weekdays in summer.", hub)
    run = await dream(world, hub)
    (row,), (own,) = await review(ada, hub), await review(bo, hub)
    ids = {"ids": [memory["id"]]}
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    listening = await asyncpg.connect(world.owner_url)
    try:
        await listening.add_listener(CHANNEL, lambda *told: heard.put_nowait(msgspec.json.decode(told[3])))
        match how:
            case "deleted":
                (await ada.delete(f"/v1/memories/{memory['id']}")).data()
            case "deleted with others":
                (await ada.post("/v1/memories/batch-delete", ids)).data()
            case "moved":
                (await ada.post("/v1/memories/batch-move", {**ids, "hub_id": other.id})).data()
            case "shared":
                (await ada.post(f"/v1/memories/{memory['id']}/share", {"target_hub_id": other.id})).data()
            case _:
                (await ada.delete("/v1/account/data")).data()
        async with asyncio.timeout(15):
            while (told := (await heard.get())["event"]).get("entity_id") != own["id"]:
                pass
    finally:
        await listening.close()
    assert (told["type"], told["resolution"]) == ("notification.resolved", "dismissed")
    assert await review(ada, hub) == await review(bo, hub) == []
    assert [action["status"] for action in await actions(ada, run, "contradiction")] == ["dropped"]
    assert (await ada.get(f"{hub.url}/summary")).data()["stats"]["pending_review"] == 0
    again = await ada.post(f"/v1/notifications/{row['id']}/resolve", {"action": "keep_both"})
    assert again.error == "notification_not_pending"


async def test_a_decision_about_a_topic_goes_with_it(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    first, second = await make(ada, "Garden", hub), await make(ada, "Garden beans", hub)
    await dream(world, hub)
    assert len(await review(ada, hub)) == 1
    (await ada.delete(f"/v1/topics/{second['id']}")).ok(204)
    assert await review(ada, hub) == []
    await make(ada, "Gardens", hub)
    await dream(world, hub)
    assert len(await review(ada, hub)) == 1
    (await ada.delete(f"/v1/topics/{first['id']}")).ok(204)
    assert await review(ada, hub) == []


@pytest.mark.parametrize("answer", ["keep_a", "keep_b"])
async def test_nothing_is_put_away_for_what_it_said_before(world: World, answer: str) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    text = "The greenhouse door closes at {} on weekdays in summer."
    memories = [await push(ada, text.format(hour), hub) for hour in ("18:00", "20:00")]
    run = await dream(world, hub)
    (row,) = await review(ada, hub)
    changed = memories[answer == "keep_a"]
    (await ada.patch(f"/v1/memories/{changed['id']}", {"content": "The door has a new lock."})).data()
    decided = await ada.post(f"/v1/notifications/{row['id']}/resolve", {"action": answer})
    assert decided.data(200)["resolution"] == "dismissed"
    assert (await counts(ada, hub))[0] == 2
    assert await review(ada, hub) == []
    assert [action["status"] for action in await actions(ada, run, "contradiction")] == ["dropped"]
    # What they say now is another matter.
    (await ada.patch(f"/v1/memories/{changed['id']}", {"content": text.format("21:00")})).data()
    await dream(world, hub)
    assert len(await review(ada, hub)) == 1


async def test_notes_by_number_contradict_nobody(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for n in ("one", "two", "three", "four", "five"):
        await push(ada, f"Notes of the kubernetes rollout in the second cluster, part {n}.", hub)
    for port in (8080, 9090, 7070):
        await push(ada, f"The proxy of the second cluster listens on port {port} by default.", hub)
    run = await dream(world, hub)
    found = [action["reason"] for action in await actions(ada, run, "contradiction")]
    assert sorted(found) == [
        "One says 8080, the other 7070.",
        "One says 8080, the other 9090.",
        "One says 9090, the other 7070.",
    ]


async def test_what_nobody_needs_fades_unless_it_is_meant_to_stay(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    faded = await push(ada, "The bus was late again.", hub, stability="volatile")
    lasting = await push(ada, "The gate of the yard squeaks.", hub)
    kept = [
        await push(ada, "Roses are pruned in March.", hub, stability="stable"),
        await push(ada, "The shed key hangs behind the door.", hub),
        await push(ada, "Frost comes in October.", hub),
    ]
    (await ada.patch(f"/v1/memories/{kept[1]['id']}", {"pinned": True})).data()
    (await ada.post(f"/v1/memories/{kept[2]['id']}/access")).ok(204)
    assert await actions(ada, await dream(world, hub), "archive") == []
    await age(world, hub, 61)
    (await ada.patch("/v1/settings", {"dreams_staleness_days": 90})).data()
    assert await actions(ada, await dream(world, hub), "archive") == []
    (await ada.patch("/v1/settings", {"dreams_staleness_days": 60})).data()
    run = await dream(world, hub)
    (action,) = await actions(ada, run, "archive")
    assert action["source_memory_ids"] == [faded["id"]]
    url = f"/v1/dreams/{run}/undo"
    assert (await ada.post(url, {"action_ids": [action["id"]]})).data()["undone"] == [action["id"]]
    assert await actions(ada, await dream(world, hub), "archive") == []
    # What is neither volatile nor stable lasts for most of a year.
    await age(world, hub, 200)
    assert await actions(ada, await dream(world, hub), "archive") == []
    await age(world, hub, 20)
    (action,) = await actions(ada, await dream(world, hub), "archive")
    assert action["source_memory_ids"] == [lasting["id"]]


async def test_unsorted_memories_find_a_topic_and_keep_what_people_decided(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    mine = await make(ada, "Orchard", hub)
    decided = await push(ada, "Compost feeds trees.", hub)
    await ada.post(f"/v1/topics/{mine['id']}/memories", {"memory_id": decided["id"]})
    for n in range(4):
        await push(ada, f"Compost pile number {n} wants {['turning', 'water', 'shade', 'air'][n]}.", hub)
    apple = await push(ada, "The orchard has apples.", hub)
    before = await digest(world, hub)
    run = await dream(world, hub)
    found = {topic["name"]: topic for topic in await tree(ada, hub)}
    assert {name: topic["memory_count"] for name, topic in found.items()} == {
        "Orchard": 2,
        "Compost · Number": 4,
    }
    made = found["Compost · Number"]
    assert (made["user_modified"], made["owner_id"]) == (False, ada.id)
    assert (await ada.get(f"/v1/memories/{apple['id']}")).data()["topic_id"] == mine["id"]
    async with world.db.reading() as read:
        surest = await read.value(
            "SELECT max(topic_confidence) FROM memories WHERE topic_id = $1::uuid", made["id"]
        )
    assert surest <= 0.7 + 1e-6
    # A person who takes one along keeps it.
    moved = (await ada.get(f"/v1/topics/{made['id']}/memories")).data()["memories"][0]["id"]
    await ada.post(f"/v1/topics/{mine['id']}/memories", {"memory_id": moved})
    undone = (await ada.post(f"/v1/dreams/{run}/undo")).data()
    assert undone["skipped"] == []
    assert shape(await tree(ada, hub)) == {"Orchard": (2, 2, {})}
    await ada.delete(f"/v1/topics/{mine['id']}/memories/{moved}")
    assert await digest(world, hub) == before
    assert await actions(ada, await dream(world, hub), "organize") == []


async def test_what_was_taken_out_is_not_put_into_another_topic_like_it(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    await make(ada, "Kubernetes", hub)
    await make(ada, "Kubernetes rollout", hub)
    for n in range(5):
        await push(
            ada, f"The kubernetes rollout number {n} is done by {['ada', 'bo', 'eve', 'kim', 'li'][n]}.", hub
        )
    (await ada.patch(hub.url, {"settings": {"dreams_restructure_enabled": False}})).data()
    before = await digest(world, hub)
    run = await dream(world, hub)
    assert sum(len(action["source_memory_ids"]) for action in await actions(ada, run, "organize")) == 5
    (await ada.post(f"/v1/dreams/{run}/undo", {})).data()
    for _ in range(2):
        assert await actions(ada, await dream(world, hub), "organize") == []
    assert await digest(world, hub) == before


async def test_a_topic_that_was_taken_out_of_another_is_left_where_it_is(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for name in ("Compost", "Compost heap", "Compost heap corner"):
        await make(ada, name, hub)
    async with world.db.single() as tx:
        await tx.run("UPDATE topics SET user_modified = false WHERE space_id = $1::uuid", hub.id)
    before = await digest(world, hub)
    runs = [await dream(world, hub)]
    for _ in range(3):
        (await ada.post(f"/v1/dreams/{runs[-1]}/undo", {})).data()
        runs.append(await dream(world, hub))
    assert [len(await actions(ada, run)) > 0 for run in runs[:: len(runs) - 1]] == [True, False]
    assert await digest(world, hub) == before


async def test_a_topic_of_a_person_s_is_only_ever_proposed_to_be_moved(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    around, inside = await make(ada, "Garden", hub), await make(ada, "Garden beans", hub)
    twin = await make(ada, "Gardens", hub)
    (await ada.patch(hub.url, {"allow_contributor_topics": False})).data()
    before = await digest(world, hub)
    run = await dream(world, hub)
    assert await digest(world, hub) == before
    assert {action["status"] for action in await actions(ada, run)} == {"waiting"}
    query = f"?hub={hub.id}&kind=review_topic_restructure&kind=review_topic_merge"
    assert (await bo.get("/v1/notifications" + query)).data()["notifications"] == []
    rows = (await ada.get("/v1/notifications" + query)).data()["notifications"]
    by_kind = {row["kind"]: row for row in rows}
    # One topic is moved once in a run.
    assert by_kind.keys() <= {"review_topic_restructure", "review_topic_merge"} and by_kind
    for kind, row in by_kind.items():
        answer = "apply" if kind == "review_topic_restructure" else "merge"
        (await ada.post(f"/v1/notifications/{row['id']}/resolve", {"action": answer})).data(200)
    assert await digest(world, hub) != before
    assert len((await ada.post(f"/v1/dreams/{run}/undo")).data()["undone"]) == len(by_kind)
    assert await digest(world, hub) == before
    assert {around["id"], inside["id"], twin["id"]} == {topic["id"] for topic in await tree(ada, hub)}


async def test_topics_of_dreams_are_put_into_one_another(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    await make(ada, "Compost", hub)
    await make(ada, "Compost heap", hub)
    async with world.db.single() as tx:
        await tx.run("UPDATE topics SET user_modified = false WHERE space_id = $1::uuid", hub.id)
    before = await digest(world, hub)
    run = await dream(world, hub)
    assert shape(await tree(ada, hub)) == {"Compost": (0, 0, {"Compost heap": (0, 0, {})})}
    stats = (await ada.get(f"{hub.url}/summary")).data()["stats"]
    assert stats["dream_topics"] == 1
    (await ada.post(f"/v1/dreams/{run}/undo")).data()
    assert await digest(world, hub) == before


async def test_one_run_goes_on_at_a_time_and_is_told_at_its_end(world: World) -> None:
    ada, bo, eve, mallory = await world.people("ada", "bo", "eve", "mallory")
    hub = await garden(world, ada)
    await world.join(hub.id, bo, "contributor")
    await world.join(hub.id, eve, "viewer")
    run, other = new_id(), new_id()
    space = UUID(hub.id)
    begun = await jobs.begin(world.house.work, DreamAsked(run_id=run, space_id=space))
    assert begun is not None
    # Nobody takes it back while it goes on.
    assert (await ada.post(f"/v1/dreams/{run}/undo")).error == "dream_running"
    await jobs.dream(world.house.work, DreamAsked(run_id=other, space_id=space))
    assert (await detail(ada, str(other)))["run"]["status"] == "skipped"
    async with world.db.single() as tx:
        await tx.run("UPDATE dream_runs SET heartbeat_at = now() - interval '31 minutes' WHERE id = $1", run)
    later = await dream(world, hub)
    assert [(await detail(eve, str(one)))["run"]["status"] for one in (run, later)] == ["failed", "completed"]
    assert (await mallory.get(f"/v1/dreams/{later}")).error == "not_found"
    assert (await mallory.post(f"/v1/dreams/{later}/undo")).error == "not_found"
    assert (await eve.post(f"/v1/dreams/{later}/undo")).error == "forbidden"

    (told,) = (await ada.get(f"/v1/notifications?hub={hub.id}&kind=dream_run_completed")).data()[
        "notifications"
    ]
    assert (told["source_id"], told["payload"]["status"]) == (later, "completed")
    assert told["payload"]["counts"] == {
        "merged": 1,
        "archived": 0,
        "organized": 3,
        "contradictions": 1,
        "restructures": 0,
    }
    assert (await bo.get("/v1/notifications?kind=dream_run_completed")).data()["notifications"] == []
    report = (await eve.get("/v1/dreams/report", headers=at(hub))).data()
    assert report["run"]["id"] == later
    told = [line.removeprefix("- ") for line in report["run"]["report"].splitlines() if "**" in line]
    assert told == [
        "**1** copy put away for what it repeats",
        "**3** memories put into topics",
        "**1** decision waiting in the inbox",
        "**1** contradiction found",
    ]
    assert report["intelligence"]["latest_run"]["organized"] == 3
    runs = (await eve.get(f"/v1/dreams?hub_id={hub.id}&limit=2")).data()
    rest = (await eve.get(f"/v1/dreams?hub_id={hub.id}&limit=2&cursor={runs['next_cursor']}")).data()
    assert [one["id"] for one in runs["runs"] + rest["runs"]] == [later, str(other), str(run)]
    assert (await mallory.get(f"/v1/dreams?hub_id={hub.id}")).error == "forbidden"
    assert (await eve.get("/v1/dreams?limit=x")).error == "invalid_limit"
    usage = (await eve.get(f"/v1/usage/dreams?hub_id={hub.id}")).data()
    assert (usage["used"], usage["limit"], usage["allowed"], usage["scope"]) == (2, -1, True, "hub")
    assert (await mallory.get(f"/v1/usage/dreams?hub_id={hub.id}")).error == "forbidden"


async def test_a_hub_says_who_has_it_tidied_up_and_what_is_done(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await garden(world, ada)
    await world.join(hub.id, bo, "contributor")
    await world.join(hub.id, eve, "viewer")
    trigger = "/v1/dreams/trigger"
    assert (await eve.post(trigger, {}, headers=at(hub))).error == "forbidden"
    assert (await bo.post(trigger, {}, headers=at(hub))).data(200) == {"status": "queued"}
    await world.drain()
    assert (await ada.get("/v1/dreams/report", headers=at(hub))).data()["has_run"] is True
    (await ada.patch(hub.url, {"allow_contributor_dreams": False})).data()
    assert (await bo.post(trigger, {}, headers=at(hub))).error == "forbidden"
    off = {"dreams_merge_enabled": False, "dreams_organize_enabled": False}
    other = await garden(world, ada)
    (await ada.patch(other.url, {"settings": off})).data()
    found = {action["action_type"] for action in await actions(ada, await dream(world, other))}
    assert found == {"contradiction"}
    (await ada.patch(other.url, {"settings": {"dreams_enabled": False}})).data()
    assert (await ada.post(trigger, {}, headers=at(other))).error == "dreams_disabled"
    assert (await detail(ada, await dream(world, other)))["run"]["status"] == "skipped"
    async with world.db.single() as tx:
        await tx.run("UPDATE spaces SET frozen_at = now() WHERE id = $1::uuid", hub.id)
    frozen = await ada.post(trigger, {}, headers=at(hub))
    assert (frozen.status, frozen.error) == (409, "hub_frozen")
    stranger = await world.hub(await world.person("mallory"))
    assert (await ada.post(trigger, {}, headers=at(stranger))).error == "not_member"
    assert (await ada.post(f"{trigger}?hub_id={stranger.id}")).error == "hub_not_found"
    assert (await bo.get("/v1/dreams/report")).data()["has_run"] is False


async def test_a_run_that_is_broken_off_goes_on_where_it_was(world: World) -> None:
    ada = await world.person("ada")
    hub = await garden(world, ada)
    before = await digest(world, hub)
    asked = DreamAsked(run_id=new_id(), space_id=UUID(hub.id))
    whole = await garden(world, ada)
    expected = await actions(ada, await dream(world, whole))
    # Broken off after ever more steps, at whatever it is doing then.
    for delay_ms in range(0, 400, 13):
        task = asyncio.create_task(jobs.dream(world.house.work, asked))
        await asyncio.wait({task}, timeout=delay_ms / 1000)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await jobs.dream(world.house.work, asked)
    done = await actions(ada, str(asked.run_id))
    assert [(a["action_type"], a["status"]) for a in done] == [
        (a["action_type"], a["status"]) for a in expected
    ]
    assert (await detail(ada, str(asked.run_id)))["run"]["status"] == "completed"
    (await ada.post(f"/v1/dreams/{asked.run_id}/undo")).data()
    assert await digest(world, hub) == before


async def test_a_topic_that_dreams_made_of_one_s_memories_goes_with_them(world: World) -> None:
    ada = await world.person("ada")
    own = next(row["hub"]["id"] for row in (await ada.get("/v1/hubs")).data())
    for n in range(3):
        await push(ada, f"Compost wants turning, lesson {n}.")
    run = await dream(world, own)
    (topic,) = await tree(ada)
    visited = (await ada.post(f"/v1/topics/{topic['id']}/visit")).data(200)
    assert visited["status"] == "ok"
    assert (await ada.get(f"/v1/topics/{topic['id']}")).data()["lifecycle"]["delta_since_visit"]["added"] == 0
    ids = [memory["id"] for memory in (await ada.get("/v1/memories")).data()["memories"]]
    (await ada.post("/v1/memories/batch-delete", {"ids": ids})).data()
    assert await tree(ada) == []
    (action,) = await actions(ada, run, "organize")
    assert (action["source_memory_ids"], action["reason"], action["evidence"]) == ([], "", {})
    (await ada.delete("/v1/account/data")).data()
    assert (await ada.get("/v1/dreams")).data()["runs"] == []


async def test_a_topic_is_not_called_after_what_is_not_there_any_more(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    mine = await make(ada, "Mine", hub)
    names: list[str] = []
    for word in ("frobcanary", "grumblefish", "snorkwhale"):
        ids = [(await push(ada, f"The {word} sings {how}.", hub))["id"] for how in ("low", "high", "well")]
        await dream(world, hub)
        (made,) = [topic for topic in await tree(ada, hub) if word in topic["name"].lower()]
        names.append(word)
        for memory in ids:
            await ada.post(f"/v1/topics/{mine['id']}/memories", {"memory_id": memory})
        if word == "grumblefish":
            stays = await push(ada, "Something else.", hub)
            await ada.post(f"/v1/topics/{made['id']}/memories", {"memory_id": stays["id"]})
        if word == "snorkwhale":
            (await ada.post("/v1/memories/batch-move", {"ids": ids, "hub_id": other.id})).data()
        else:
            (await ada.post("/v1/memories/batch-delete", {"ids": ids})).data()
    left = {topic["name"]: topic["memory_count"] for topic in await tree(ada, hub)}
    assert not any(word in name.lower() for name in left for word in names)
    assert sorted(left.values()) == [0, 1]
    assert left["Mine"] == 0


def test_what_is_alike_and_differs_in_what_counts_is_no_copy() -> None:
    for one, other, differs in (
        ("Meet at 5 on Monday.", "Meet at 6 on Monday.", True),
        ("The pump is on at night.", "The pump is off at night.", True),
        ("Version 1.2.3 works well here.", "Version 1.2.4 works well here.", True),
        ("Cats may enter the greenhouse.", "Cats may not enter the greenhouse.", True),
        ("It doesn't freeze.", "It does freeze.", True),
        ("Beans climb.", "Beans climb!", False),
        ("Beans climb 2 metres.", "Beans climb.", False),
    ):
        assert (rules.contradiction(one, other) is not None) is differs, one
    assert rules.similarity("Bo owes Ada five pounds", "Ada owes Bo five pounds") < 0.85
    assert rules.similarity("", "x") == 0
    assert rules.similarity("番茄早上浇水", "番茄早上浇水。") == 1


@pytest.mark.parametrize("separator", [" ", "\n", ". "])
def test_no_text_takes_more_than_a_moment_to_compare(separator: str) -> None:
    """By the time of a text without repetitions: what is quadratic takes hundreds of times as long."""
    most = rules.LONGEST // (1 + len(separator))
    words = [f"{n}" for n in range(most // 5)]
    plain = separator.join(words)
    hostile = [
        (
            separator.join("ab"[n % 2] for n in range(most)),
            separator.join("ab"[n // 2 % 2] for n in range(most)),
        ),
        (separator.join("a" * most), separator.join("a" * (most - most // 10)) + separator + "b"),
        (separator.join("a" * most) + separator + "b", separator.join("a" * (most * 9 // 10))),
    ]

    def cost(one: str, other: str) -> float:
        began = time.process_time()
        rules.similarity(one, other)
        copies.repetition(one, other)
        copies.repetition(other, one)
        rules.contradiction(one, other)
        return time.process_time() - began

    usual = max(cost(plain, plain + separator + "x"), 0.005)
    for one, other in hostile:
        assert cost(one, other) < 60 * usual


@pytest.mark.parametrize(
    ("kept", "copy", "likeness"),
    [
        ("Beans climb.", "beans climb", 1),
        ("«Beans» climb, they say!", '"Beans" climb; they say.', 1),
        ("番茄早上浇水。", "番茄早上浇水", 1),
        ("Beans climb. Peas do too.", "Beans climb", 2 * 2 / 7),
        ("Beans climb.\nPeas do too.\nSee below.", "Beans climb!", 2 * 2 / 9),
        ("Deprecated:\nBeans climb.", "Beans climb.", 0),
        # No word in between, nor another place.
        ("Beans never climb.", "Beans climb.", 0),
        ("Beans climb in June.", "Beans climb.", 0),
        ("Alpha:\nBeans climb.\nBeta:\nPort 80.", "Alpha:\nPort 80.", 0),
        ("Beans climb. Peas creep.", "Peas creep. Beans climb.", 0),
        # Signs and case that may mean something.
        ("Keep it at -5 degrees.", "Keep it at 5 degrees.", 0),
        ("It is written in C++.", "It is written in C.", 0),
        ("It is $5.", "It is €5.", 0),
        ("Copy it to .env", "Copy it to env", 0),
        ("The gate is open?", "The gate is open.", 0),
        ("a != b", "a == b", 0),
        ("The pump: 🟢", "The pump: 🔴", 0),
        ("The code is aB3x.", "The code is Ab3X.", 0),
        ("", " ", 0),
    ],
)
def test_a_copy_says_nothing_that_is_not_said_word_for_word(kept: str, copy: str, likeness: float) -> None:
    assert copies.repetition(kept, copy) == pytest.approx(likeness)
    assert likeness in (0, 1) or copies.repetition(copy, kept) == 0
