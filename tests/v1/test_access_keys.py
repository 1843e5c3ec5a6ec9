"""API keys: what they open, what they can give on, and how they end."""

import pytest

from guildhall.access_keys.ring import Ring
from tests.world import Browser, Person, World

KEYS = "/v1/auth/api-keys"
MISSING = "018f0000-0000-7000-8000-000000000000"


async def make_key(maker: Browser, **fields) -> tuple[dict, Browser]:
    """A key that `maker` makes, and a browser that uses it."""
    made = (await maker.post(KEYS, {"name": "laptop", **fields})).ok(201)["data"]
    return made, Browser(maker.world, made["key"])


async def hub_of(world: World, owner: Person, *members: Person) -> str:
    """A hub that is there, made past the API."""
    async with world.db.writing() as tx:
        hub = await tx.value(
            "WITH made AS (INSERT INTO spaces (id, kind, owner_id, name, slug)"
            " VALUES (uuid7(), 'hub', $1, 'Team', gen_random_uuid()::text) RETURNING id),"
            " joined AS (INSERT INTO members (space_id, kind, user_id, role)"
            " SELECT made.id, 'hub', p.id, CASE WHEN p.id = $1 THEN 'owner' ELSE 'contributor' END"
            " FROM made, unnest($2::text[]) AS p (id))"
            " SELECT id FROM made",
            owner.id,
            [owner.id, *(member.id for member in members)],
        )
    return str(hub)


async def test_a_key_is_shown_once_and_kept_as_a_hash(world: World) -> None:
    ada = await world.person("ada")

    made, agent = await make_key(ada, agent_name="Claude-Code")
    assert made["key"].startswith("mxk_") and len(made["key"]) == 68
    assert made["prefix"] == made["key"][:8]
    assert (made["scope"], made["hub_scope_mode"], made["hub_id"]) == ("all hubs", "all_accessible", None)
    assert (made["trust_level"], made["agent_name"], made["expires_at"]) == ("elevated", "claude-code", None)
    assert made["default_permissions"] == [
        "dream:read",
        "hub:members:read",
        "hub:read",
        "memory:read",
        "memory:write",
        "topic:read",
    ]
    listed = (await ada.get(KEYS)).ok()["data"]
    assert [(key["id"], key["scopes"], "key" in key) for key in listed] == [
        (made["id"], ["read", "write"], False)
    ]
    assert (await agent.get(KEYS)).ok()["data"] == listed
    async with world.db.reading() as read:
        kept = await read.value("SELECT k::text FROM api_keys k WHERE id = $1::text::uuid", made["id"])
    assert made["key"] not in kept


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": " "}, "invalid_request"),
        ({"name": 5}, "invalid_json"),
        ({"name": "x", "scopes": ["everything"]}, "invalid_permissions"),
        ({"name": "x", "permissions": ["hub:own"]}, "invalid_permissions"),
        ({"name": "x", "trust_level": "root"}, "invalid_trust_level"),
        ({"name": "x", "expires_in_days": -1}, "invalid_request"),
        ({"name": "x", "expires_in_days": 0}, "invalid_request"),
        ({"name": "x", "agent_name": "two words"}, "invalid_request"),
        ({"name": "x", "agent_name": "a", "standalone": True}, "invalid_request"),
        ({"name": "x", "hub_ids": []}, "invalid_request"),
        ({"name": "x", "hub_id": MISSING}, "forbidden"),
        ({"name": "x", "hub_ids": ["mine"]}, "forbidden"),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(world: World, fields: dict, code: str) -> None:
    ada = await world.person("ada")
    assert (await ada.post(KEYS, fields)).error == code
    assert (await ada.get(KEYS)).ok()["data"] == []


async def test_only_one_who_is_in_a_hub_makes_a_key_for_it(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    team = await hub_of(world, ada)

    assert (await eve.post(KEYS, {"name": "x", "hub_ids": [team]})).error == "forbidden"
    made, _ = await make_key(ada, hub_id=team, scopes=["read", "settings:write", "agent-sync"])
    assert (made["scope"], made["hub_id"], made["hub_ids"]) == (team, team, [team])
    assert (made["hub_scope_mode"], made["trust_level"]) == ("hub_allowlist", "standard")
    assert not [atom for atom in made["default_permissions"] if atom.startswith(("settings", "config"))]


async def test_a_key_makes_only_weaker_keys(world: World) -> None:
    ada = await world.person("ada")
    team, other = await hub_of(world, ada), await hub_of(world, ada)
    _, maker = await make_key(
        ada, scopes=["hub:read", "memory:write"], hub_ids=[team, other], expires_in_days=7, agent_name="bot"
    )

    for fields in (
        {"scopes": ["hub:manage"]},
        {"scopes": ["read"]},
        {"trust_level": "elevated"},
        {"hub_ids": [team, MISSING]},
        {"hub_id": str(await hub_of(world, ada))},
        {"agent_name": "other"},
        {"standalone": True},
    ):
        assert (await maker.post(KEYS, {"name": "x", **fields})).error == "forbidden", fields
    made, narrower = await make_key(maker, hub_id=team, expires_in_days=30)
    assert (made["default_permissions"], made["hub_ids"]) == (["hub:read", "memory:write"], [team])
    assert (made["agent_name"], made["trust_level"]) == ("bot", "standard")
    listed = {key["id"]: key for key in (await ada.get(KEYS)).ok()["data"]}
    assert len({key["expires_at"] for key in listed.values()}) == 1
    assert [key["id"] for key in (await narrower.get(KEYS)).ok()["data"]] == [made["id"]]


async def test_what_a_key_makes_says_of_itself_what_it_may(world: World) -> None:
    ada = await world.person("ada")
    team = await hub_of(world, ada)
    _, reader = await make_key(ada, scopes=["read"], hub_id=team, trust_level="admin")

    made, _ = await make_key(reader)
    (listed,) = [key for key in (await ada.get(KEYS)).ok()["data"] if key["id"] == made["id"]]
    assert (listed["scopes"], listed["hub_ids"], listed["trust_level"]) == (["read"], [team], "standard")
    mixed, _ = await make_key(ada, hub_id=team, scopes=["write", "settings:read"])
    listed = (await ada.get(KEYS)).ok()["data"][0]
    assert (listed["id"], listed["scopes"]) == (mixed["id"], ["write"])


async def test_leaving_a_hub_and_coming_back_gives_no_key_its_right_back(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    left = await world.hub(ada, contributors=[bo])
    kept = await world.hub(ada, contributors=[bo])
    _, key = await make_key(bo, hub_ids=[left.id, kept.id])
    # The process has met the key while it was for both.
    assert {row["hub"]["id"] for row in (await key.get("/v1/hubs")).data()} == {left.id, kept.id}
    (await bo.post(f"{left.url}/leave")).data(200)
    (await ada.post(f"{left.url}/members", {"user_id": bo.id, "role": "contributor"})).data(200)

    assert (await key.get(left.url)).error == "not_member"
    assert (await key.post(KEYS, {"name": "x", "hub_id": left.id})).error == "forbidden"
    made, _ = await make_key(key)
    assert made["hub_ids"] == [kept.id]


async def test_a_key_ends_itself_and_what_was_made_with_it_but_nothing_else(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    parent, maker = await make_key(ada)
    child, made = await make_key(maker)
    other, bystander = await make_key(ada)

    assert (await made.delete(f"{KEYS}/{other['id']}")).error == "forbidden"
    assert (await made.delete(f"{KEYS}/{MISSING}")).error == "forbidden"
    gone = {"revoked": False, "skipped": [{"id": parent["id"], "reason": "not_found"}]}
    assert (await eve.delete(f"{KEYS}/{parent['id']}")).ok(200)["data"] == gone
    assert (await maker.delete(f"{KEYS}/{parent['id']}")).ok(200)["data"] == {"revoked": True, "skipped": []}
    assert {(await browser.get(KEYS)).error for browser in (maker, made)} == {"unauthorized"}
    assert (await ada.delete(f"{KEYS}/{parent['id']}")).ok(200)["data"] == gone
    assert (await ada.delete(f"{KEYS}/{child['id']}")).ok(200)["data"]["revoked"] is False
    assert [key["id"] for key in (await bystander.get(KEYS)).ok()["data"]] == [other["id"]]


async def test_what_is_no_live_key_sounds_like_every_failed_sign_in(world: World) -> None:
    ada = await world.person("ada")
    made, key = await make_key(ada)
    wrong = [made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1"), "mxk_", "mxk_" + "0" * 64]

    answers = [await Browser(world, text).get(KEYS) for text in wrong]
    async with world.db.single() as tx:
        await tx.run("UPDATE api_keys SET expires_at = now() WHERE id = $1::text::uuid", made["id"])
    answers.append(await key.get(KEYS))
    assert {(answer.status, answer.json["error"]["code"]) for answer in answers} == {(401, "unauthorized")}
    cookie = await world.nobody.get(KEYS, headers={"Cookie": f"__Host-session={made['key']}"})
    assert cookie.status == 401


async def test_keys_are_refused_where_a_session_is_asked_for(world: World) -> None:
    ada = await world.person("ada")
    made, key = await make_key(ada, permissions=["hub:manage"])

    for method, path in (
        ("GET", "/api/communities"),
        ("POST", "/api/communities"),
        ("DELETE", "/api/users/me"),
        ("PATCH", f"{KEYS}/{made['id']}"),
        ("DELETE", "/v1/agents/bot"),
    ):
        assert (await key.call(method, path)).error == "forbidden", path


async def test_a_key_of_a_hub_ends_with_the_membership(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    team, other = await hub_of(world, ada, bo), await hub_of(world, ada, bo)
    _, narrow = await make_key(bo, hub_id=team)
    _, wide = await make_key(bo, hub_ids=[team, other])

    async with world.db.single() as tx:
        await tx.run("DELETE FROM members WHERE space_id = $1::text::uuid AND user_id = $2", team, bo.id)
    assert (await narrow.get(KEYS)).error == "unauthorized"
    assert [key["hub_ids"] for key in (await wide.get(KEYS)).ok()["data"]] == [[other]]
    async with world.db.single() as tx:
        await tx.run("DELETE FROM spaces WHERE id = $1::text::uuid", other)
    assert (await wide.get(KEYS)).error == "unauthorized"


async def test_an_agent_is_shown_with_what_it_wrote_where_its_person_still_is(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    team = await hub_of(world, ada, bo)
    _, scout = await make_key(bo, agent_name="scout", scopes=["read", "write"])
    _, narrow = await make_key(bo, scopes=["read"], hub_id=team)

    async def counts(who: Browser) -> dict[str, int]:
        return {row["agent_name"]: row["memory_count"] for row in (await who.get("/v1/agents")).data(200)}

    (await bo.post("/v1/memories", {"content": "By hand."})).data(201)
    for content, where in (("Here.", {}), ("There.", {"X-Hub-ID": team}), ("Again.", {})):
        (await scout.post("/v1/memories", {"content": content}, headers=where)).data(201)
    assert (await counts(bo), await counts(narrow)) == ({"scout": 3}, {"scout": 1})
    (await bo.post(f"/v1/hubs/{team}/leave", {})).data(200)
    assert await counts(bo) == {"scout": 2}


async def test_a_closed_account_has_no_keys_when_it_opens_again(world: World) -> None:
    from guildhall.users.accounts import set_status

    ada = await world.person("ada")
    _, key = await make_key(ada)
    for status in ("disabled", "active"):
        async with world.db.writing() as tx:
            await set_status(tx, ada.id, status)
        assert (await key.get(KEYS)).error == "unauthorized"


async def test_when_a_key_was_used_is_written_now_and_then(world: World) -> None:
    ada = await world.person("ada")
    made, _ = await make_key(ada)
    ring = Ring(world.db)

    trips = world.db.trips
    assert ring.known(made["key"]) is None and await ring.find(made["key"])
    for _ in range(50):
        assert ring.known(made["key"])
    assert world.db.trips - trips == 1
    assert (await ada.get(KEYS)).ok()["data"][0]["last_used"] is None
    for _ in range(2):
        await ring.flush()
        assert (await ada.get(KEYS)).ok()["data"][0]["last_used"]
    assert world.db.trips - trips == 1 + 3


async def test_the_audit_names_the_agent_beside_its_person(world: World) -> None:
    ada = await world.person("ada")
    made, agent = await make_key(ada, agent_name="claude-code")
    child, _ = await make_key(agent)
    await agent.delete(f"{KEYS}/{made['id']}")

    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action, acting_as, key_id::text, target FROM audit WHERE actor = $1 ORDER BY id", ada.id
        )
    by_agent = ("agent claude-code", made["id"])
    assert [tuple(row) for row in rows][:2] == [
        ("key.create", None, None, made["id"]),
        ("key.create", *by_agent, child["id"]),
    ]
    assert {tuple(row) for row in rows[2:]} == {
        ("key.revoke", *by_agent, made["id"]),
        ("key.revoke", *by_agent, child["id"]),
    }


async def test_a_repeat_is_answered_to_the_credential_that_asked_first(world: World) -> None:
    ada = await world.person("ada")
    _, reader = await make_key(ada, scopes=["hub:read"])
    once = {"headers": {"Idempotency-Key": "one key"}}

    first = (await ada.post(KEYS, {"name": "powerful", "permissions": ["hub:manage"]}, **once)).ok(201)
    assert (await ada.post(KEYS, {"name": "powerful", "permissions": ["hub:manage"]}, **once)).json == first
    assert (
        await reader.post(KEYS, {"name": "powerful", "permissions": ["hub:manage"]}, **once)
    ).error == "forbidden"


async def test_nothing_is_repeated_to_who_was_signed_out(world: World) -> None:
    ada = await world.person("ada")
    once = {"headers": {"Idempotency-Key": "one key"}}

    made = (await ada.post(KEYS, {"name": "x"}, **once)).ok(201)["data"]
    key = Browser(world, made["key"])
    (await key.post(KEYS, {"name": "y"}, **once)).ok(201)
    await ada.delete(f"{KEYS}/{made['id']}")
    assert (await key.post(KEYS, {"name": "y"}, **once)).error == "unauthorized"


async def test_agents_are_known_by_their_keys(world: World) -> None:
    ada, eve = await world.people("ada", "eve")
    made, key = await make_key(ada)
    _, bot = await make_key(ada, agent_name="claude-code")

    agents = (await bot.get("/v1/agents")).ok()["data"]
    assert [(a["agent_name"], a["display_name"], a["status"], a["key_count"]) for a in agents] == [
        ("claude-code", "Claude Code", "active", 1)
    ]
    changed = await ada.patch(f"{KEYS}/{made['id']}", {"agent_name": "claude-code"})
    assert changed.ok()["data"] == {"id": made["id"], "agent_name": "claude-code", "standalone": False}
    assert (await ada.patch(f"{KEYS}/{made['id']}", {})).error == "invalid_request"
    # What is not sent stays.
    unchanged = (await ada.patch(f"{KEYS}/{made['id']}", {"standalone": False})).ok()["data"]
    assert unchanged["agent_name"] == "claude-code"
    assert (await eve.patch(f"{KEYS}/{made['id']}", {"standalone": True})).error == "not_found"
    shown = (await ada.patch("/v1/agents/claude-code", {"display_name": "Clo", "icon": "🤖"})).ok()["data"]
    assert (shown["display_name"], shown["icon"], shown["key_count"]) == ("Clo", "🤖", 2)
    assert (await eve.patch("/v1/agents/claude-code", {"icon": "x"})).error == "not_found"
    gone = (await eve.delete("/v1/agents/claude-code")).ok(200)["data"]
    assert (gone["disconnected"], gone["skipped"][0]["reason"]) == (False, "not_found")
    assert (await ada.delete("/v1/agents/claude-code")).ok(200)["data"] == {
        "disconnected": True,
        "keys_revoked": 2,
        "configs_tombstoned": 0,
        "skipped": [],
    }
    assert {(await browser.get("/v1/agents")).error for browser in (key, bot)} == {"unauthorized"}
    assert (await ada.get("/v1/agents")).ok()["data"] == []
