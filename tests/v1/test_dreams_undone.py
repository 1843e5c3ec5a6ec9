"""Whatever a hub holds and whatever dreams do to it: taken back, it is what it was."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.v1.test_dreams import age, digest, dream
from tests.v1.test_memories import at
from tests.world import Hub, Person, World

# What comes last counts what the others did in the same process.
pytestmark = pytest.mark.xdist_group("dreams undone")

LONG = os.environ.get("GUILDHALL_LONG") == "1"
CASES = 1_000 if LONG else 12
many = settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

SENTENCES = (
    "Water the tomatoes early in the morning before the sun gets hot, and never at noon",
    "The greenhouse door closes at 18:00 on weekdays in the summer months",
    "Compost wants to be turned every second week with the long fork",
    "Compost heats up when it has enough air, water and green leaves",
    "Beans climb the poles that stand along the southern wall of the garden",
    "Tomatoes are pruned once a week while they are growing fast",
)
# What makes a sentence another one that says the same, more, less, or something else.
TURNS = ("", ".", "!", " indeed.", ".\nUse rain water.", ".\nKeep the soil moist.\nUse rain water.")
CHANGES = (("", ""), ("18:00", "20:00"), ("never", "always"), ("second", "third"), ("the", "The"))
NAMES = (
    "Garden",
    "Gardens",
    "Garden tomatoes",
    "Compost",
    "Compost heap",
    "Beans",
    "Tomatoes",
    "Other things",
)

memories = st.fixed_dictionaries(
    {
        "sentence": st.sampled_from(SENTENCES),
        "turn": st.sampled_from(TURNS),
        "change": st.sampled_from(CHANGES),
        "tags": st.lists(st.sampled_from(("garden", "water")), max_size=2, unique=True),
        "stability": st.sampled_from(("volatile", "evolving", "stable")),
        "pinned": st.booleans(),
        "by": st.sampled_from((0, 0, 1)),
        "topic": st.none() | st.integers(0, 3),
    }
)
topics = st.lists(
    st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=4, unique_by=lambda topic: topic[0].lower()
)
hubs = st.fixed_dictionaries(
    {
        "memories": st.lists(memories, min_size=2, max_size=9),
        "topics": topics,
        "days": st.sampled_from((0, 0, 100)),
        "runs": st.integers(1, 2),
        "answers": st.sampled_from(("yes", "no", "nothing")),
        "order": st.none() | st.randoms(use_true_random=False),
    }
)


async def fill(world: World, hub: Hub, people: list[Person], wanted: dict[str, Any]) -> None:
    made: list[str] = []
    for name, mine in wanted["topics"]:
        topic = (await people[0].post("/v1/topics", {"name": name, "hub_id": hub.id})).data(201)["id"]
        made.append(topic)
        if not mine:
            async with world.db.single() as tx:
                await tx.run("UPDATE topics SET user_modified = false WHERE id = $1::uuid", topic)
    for one in wanted["memories"]:
        content = (one["sentence"] + one["turn"]).replace(*one["change"])
        body = {"content": content, "tags": one["tags"], "stability": one["stability"]}
        memory = (await people[one["by"]].post("/v1/memories", body, headers=at(hub))).data()["id"]
        if one["pinned"] and one["topic"] is not None:
            async with world.db.single() as tx:
                await tx.run("UPDATE memories SET pinned = true WHERE id = $1::uuid", memory)
        if one["topic"] is not None and one["topic"] < len(made):
            await people[0].post(f"/v1/topics/{made[one['topic']]}/memories", {"memory_id": memory})
    if wanted["days"]:
        await age(world, hub, wanted["days"])


YES = {"review_contradiction": "keep_a", "review_topic_merge": "merge", "review_topic_restructure": "apply"}
NO = {"review_contradiction": "keep_both", "review_topic_merge": "keep_separate"}


async def answer(ada: Person, hub: Hub, how: str) -> None:
    kinds = "".join(f"&kind={kind}" for kind in YES)
    rows = (await ada.get(f"/v1/notifications?hub={hub.id}{kinds}")).data()["notifications"]
    for row in rows if how != "nothing" else []:
        action = YES[row["kind"]] if how == "yes" else NO.get(row["kind"], "keep")
        reply = await ada.post(f"/v1/notifications/{row['id']}/resolve", {"action": action})
        # One decision may take the ground from under another.
        assert reply.status in (200, 409), reply


async def undo_all(ada: Person, runs: list[str], shuffled: Any) -> None:
    """Run by run, the last first; or one by one in any order, until nothing more can be taken back."""
    if shuffled is None:
        for run in reversed(runs):
            (await ada.post(f"/v1/dreams/{run}/undo", {})).data(200)
        return
    while True:
        left = [
            (run, action["id"])
            for run in runs
            for action in (await ada.get(f"/v1/dreams/{run}")).data()["actions"]
            if action["status"] == "applied"
        ]
        shuffled.shuffle(left)
        done = [
            (await ada.post(f"/v1/dreams/{run}/actions/{action}/undo")).data(200)["undone"]
            for run, action in left
        ]
        if not any(done):
            return


COUNTED = {"cases": 0, "applied": 0}


@given(wanted=hubs)
@many
async def test_a_hub_is_what_it_was_once_all_is_taken_back(world: World, wanted: dict[str, Any]) -> None:
    people = await world.people("ada", "bo")
    hub = await world.hub(people[0], contributors=[people[1]])
    await fill(world, hub, people, wanted)
    before = await digest(world, hub)
    runs: list[str] = []
    for _ in range(wanted["runs"]):
        runs.append(await dream(world, hub))
        await answer(people[0], hub, wanted["answers"])
    async with world.db.reading() as read:
        applied = await read.value(
            "SELECT count(*) FROM dream_actions WHERE space_id = $1::uuid AND status = 'applied'",
            hub.id,
        )
        failed = await read.value(
            "SELECT count(*) FROM dream_runs WHERE space_id = $1::uuid AND status <> 'completed'",
            hub.id,
        )
    assert failed == 0
    COUNTED["cases"] += 1
    COUNTED["applied"] += applied
    await undo_all(people[0], runs, wanted["order"])
    assert await digest(world, hub) == before


def test_the_hubs_gave_dreams_something_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs last."""
    with capsys.disabled():
        print(f"\ndreams undone: {COUNTED['cases']} hubs, {COUNTED['applied']} actions")
    assert COUNTED["cases"] >= CASES * 0.9
    assert COUNTED["applied"] > COUNTED["cases"]
