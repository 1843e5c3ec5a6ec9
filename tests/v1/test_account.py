"""What `/v1` knows of whoever asks: their account, settings, usage, plans and first steps."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from guildhall import usage
from guildhall.me.settings import DEFAULTS
from guildhall.usage import QuotaExceeded
from guildhall.web.caller import Caller
from guildhall.web.tally import Operation
from tests.api.test_erasure import caller_of
from tests.v1.client import listening as served
from tests.v1.listening import listening as events_of
from tests.world import Browser, Person, World, open_world

SETTINGS = "/v1/settings"


async def key_of(person: Person, *scopes: str, **more: Any) -> Browser:
    wanted = {"name": "Key", "scopes": list(scopes), **more}
    made = (await person.post("/v1/auth/api-keys", wanted)).data(201)
    return Browser(person.world, made["key"])


async def test_me_is_the_account_with_its_hubs_and_usage(world: World) -> None:
    ada = await world.person("Ada Lovelace")
    hub = await world.hub(ada)
    me = (await ada.get("/v1/auth/me")).data(200)
    assert me["user"] | {"created_at": "", "updated_at": ""} == {
        "id": ada.id,
        "email": ada.email,
        "name": "Ada Lovelace",
        "display_name": "Ada Lovelace",
        "avatar_url": "",
        "plan": "personal_free",
        "personal_plan_id": "personal_free",
        "can_create_hub": True,
        "created_at": "",
        "updated_at": "",
    }
    assert me["hubs"] == (await ada.get("/v1/hubs")).data()
    assert me["hubs"][1]["hub"]["id"] == hub.id
    assert me["connected_providers"] == ["email"]
    assert (me["usage"]["push_count"], me["usage"]["user_id"]) == (0, ada.id)
    assert me["usage"]["period_start"][8:20] == "01T00:00:00."
    assert me["dev_access"] is False and "admin_role" not in me


async def test_a_key_is_told_whose_it_is_and_of_its_hubs_alone(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    whole = await key_of(ada, "read")
    limited = await key_of(ada, "read", hub_id=hub.id)
    for key, ids in ((whole, {hub.id, other.id}), (limited, {hub.id})):
        me = (await key.get("/v1/auth/me")).data(200)
        teams = {row["hub"]["id"] for row in me["hubs"] if row["hub"]["hub_type"] == "team"}
        assert (me["user"]["id"], teams) == (ada.id, ids)
    # Neither may speak for its person, nor read what they have set.
    for key in (whole, limited):
        for method, path, body in (
            ("PATCH", "/v1/auth/me", {"display_name": "Eve"}),
            ("GET", SETTINGS, None),
            ("PATCH", SETTINGS, {"theme": "dark"}),
        ):
            assert (await key.call(method, path, body)).error == "permission_denied"
        assert (await key.get("/v1/auth/identities")).error == "forbidden"
    named = await key_of(ada, "settings:read", "settings:write")
    assert (await named.patch("/v1/auth/me", {"display_name": "Ada B."})).data(200) == {
        "status": "updated",
        "display_name": "Ada B.",
    }
    assert (await named.patch(SETTINGS, {"theme": "dark"})).data(200)["theme"] == "dark"


async def test_operators_and_the_cap_on_hubs_show_in_ones_account(world: World) -> None:
    ada = await world.person("ada")
    settings = msgspec.structs.replace(
        world.house.settings, operators=frozenset({ada.email}), most_owned_hubs=1
    )
    async with open_world(settings) as strict:
        boss = Browser(strict, ada.token)
        me = (await boss.get("/v1/auth/me")).data(200)
        assert (me["dev_access"], me["admin_role"], me["user"]["can_create_hub"]) == (True, "operator", True)
        (await boss.post("/v1/hubs", {"name": f"One of {ada.id}"})).data(201)
        assert (await boss.get("/v1/auth/me")).data(200)["user"]["can_create_hub"] is False


async def test_a_name_is_changed_everywhere(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for bad in ("", "x", "a" * 81, "a\u202eb", " \t "):
        assert (await ada.patch("/v1/auth/me", {"display_name": bad})).error == "invalid_request", bad
    assert (await ada.patch("/v1/auth/me")).error == "invalid_json"
    assert (await ada.patch("/v1/auth/me", {"display_name": 5})).error == "invalid_json"
    (await ada.patch("/v1/auth/me", {"display_name": "  Ada Lovelace "})).data(200)
    members = (await ada.get(hub.url)).data(200)["members"]
    assert [member["user_name"] for member in members] == ["Ada Lovelace"]


async def test_the_only_way_to_sign_in_is_listed_and_kept(world: World) -> None:
    ada = await world.person("ada")
    (identity,) = (await ada.get("/v1/auth/identities")).data(200)
    assert (identity["provider"], identity["provider_email"], identity["user_id"]) == (
        "email",
        ada.email,
        ada.id,
    )
    assert (await ada.delete("/v1/auth/link/email")).error == "last_identity"
    assert (await ada.delete("/v1/auth/link/github")).error == "not_found"
    assert (await ada.get("/v1/auth/me")).status == 200


async def test_settings_are_defaults_until_they_are_set(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    assert (await ada.get(SETTINGS)).data(200) == DEFAULTS
    hub = await world.hub(ada)
    changes: dict[str, Any] = {
        "dreams_excluded_kinds": ["episodic"],
        "dreams_similarity_threshold": 0.9,
        "dreams_staleness_days": 30,
        "hub_header_aurora_mode": "none",
        "notifications_enabled": False,
        "theme": "dark",
        "locale": "zh",
        "chat_default_persona_id": "sage",
    }
    changed = (await ada.patch(SETTINGS, changes | {"pulse_hidden_hub_ids": [hub.id, hub.id]})).data(200)
    expected = {**DEFAULTS, **changes, "pulse_hidden_hub_ids": [hub.id]}
    assert changed == expected == (await ada.get(SETTINGS)).data(200)
    assert (await bo.get(SETTINGS)).data(200) == DEFAULTS
    # Also flags change one by one.
    (await ada.patch(SETTINGS, {"dev_flags": {"mockDreams": True}})).data(200)
    flags = (await ada.patch(SETTINGS, {"dev_flags": {"skipRerank": True}})).data(200)["dev_flags"]
    assert flags == DEFAULTS["dev_flags"] | {"mockDreams": True, "skipRerank": True}
    assert (await ada.patch(SETTINGS, {})).data(200)["theme"] == "dark"


async def test_settings_that_do_not_fit_change_nothing(world: World) -> None:
    ada = await world.person("ada")
    for changes, code in (
        ({"theme": "dark", "dreams_enabled": False}, "moved_to_hub_settings"),
        ({"theme": "dark", "dreams_restructure_enabled": True}, "moved_to_hub_settings"),
        ({"theme": "dark", "dreams_use_agent_runtime": True}, "unknown_setting"),
        ({"theme": "dark", "user_id": "user_other"}, "unknown_setting"),
        ({"theme": "dark", "locale": "fr"}, "invalid_setting"),
        ({"theme": "black"}, "invalid_setting"),
        ({"theme": None}, "invalid_setting"),
        ({"theme": ["dark"]}, "invalid_setting"),
        ({"dreams_similarity_threshold": 1.1}, "invalid_setting"),
        ({"dreams_similarity_threshold": True}, "invalid_setting"),
        ({"dreams_similarity_threshold": "0.9"}, "invalid_setting"),
        ({"dreams_staleness_days": 0}, "invalid_setting"),
        ({"dreams_staleness_days": 2.5}, "invalid_setting"),
        ({"dreams_excluded_kinds": ["no-such-kind"]}, "invalid_setting"),
        ({"dreams_excluded_kinds": "episodic"}, "invalid_setting"),
        ({"notifications_enabled": 1}, "invalid_setting"),
        ({"dev_flags": {"theme": True}}, "invalid_setting"),
        ({"dev_flags": {"mockDreams": "yes"}}, "invalid_setting"),
        ({"dev_flags": []}, "invalid_setting"),
        ({"chat_default_persona_id": "x" * 65}, "invalid_setting"),
        ({"pulse_hidden_hub_ids": ["not-an-id"]}, "invalid_setting"),
        (
            {"pulse_hidden_hub_ids": [f"0195e3a1-02b4-7d10-8a6e-{n:012x}" for n in range(201)]},
            "invalid_setting",
        ),
    ):
        assert (await ada.patch(SETTINGS, changes)).error == code, changes
    assert (await ada.patch(SETTINGS)).error == "invalid_json"
    assert (await ada.call("PATCH", SETTINGS, ["theme"])).error == "invalid_json"
    assert (await ada.get(SETTINGS)).data(200) == DEFAULTS


async def test_settings_changed_at_once_all_survive(world: World) -> None:
    ada = await world.person("ada")
    changes: list[dict[str, Any]] = [
        {"theme": "dark"},
        {"locale": "en"},
        {"dreams_staleness_days": 9},
        {"dev_flags": {"mockDreams": True}},
        {"dev_flags": {"mockProUser": True}},
    ]
    replies = await asyncio.gather(*(ada.patch(SETTINGS, change) for change in changes))
    assert {reply.status for reply in replies} == {200}
    now = (await ada.get(SETTINGS)).data(200)
    assert (now["theme"], now["locale"], now["dreams_staleness_days"]) == ("dark", "en", 9)
    assert now["dev_flags"]["mockDreams"] and now["dev_flags"]["mockProUser"]


async def test_plans_are_public_and_tell_the_limits_that_hold(world: World) -> None:
    personal, team = (await world.nobody.get("/v1/plans")).data(200)
    assert [personal["id"], team["id"]] == ["personal_free", "hub_free_team"]
    assert [personal["scope"], team["scope"]] == ["personal", "hub"]
    assert team["max_hub_members"] is None
    assert {personal[f"{what}_limit"] for what in ("memory", "push", "recall", "ask")} == {-1}
    changed = msgspec.structs.replace(
        world.house.settings, monthly_pushes=3, most_hub_members=7, rate_limit_scale=0.5
    )
    async with open_world(changed) as strict:
        personal, team = (await strict.nobody.get("/v1/plans")).data(200)
        assert (personal["push_limit"], team["max_hub_members"]) == (3, 7)
        assert (personal["rate_limit_rpm"], personal["rate_limit_heavy_rpm"]) == (600, 30)


async def test_usage_counts_by_month_and_what_failed_is_not_counted(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    who = caller_of(world, ada)
    async with world.db.writing() as tx:
        await usage.take(tx, who, "push")
    with pytest.raises(ZeroDivisionError):
        async with world.db.writing() as tx:
            await usage.take(tx, who, "push")
            _ = 1 / 0
    # What only reads is gathered, and written by and by.
    for _ in range(3):
        await usage.take_read(who, "recall")
    await world.house.service.tally.flush()
    used = (await ada.get("/v1/usage")).data(200)
    assert (used["push_count"], used["recall_count"], used["ask_count"]) == (1, 3, 0)
    assert used["plan"] == used["limits"]["plan_id"] == "personal_free"
    assert used["limits"]["recall_limit"] == -1
    async with world.db.writing() as tx:
        await tx.run("UPDATE usage_months SET month = month - interval '1 month' WHERE user_id = $1", ada.id)
    assert (await ada.get("/v1/usage")).data(200)["push_count"] == 0
    assert (await bo.get("/v1/usage")).data(200)["push_count"] == 0


@pytest.mark.parametrize("operation", ["push", "recall", "ask"])
async def test_a_quota_lets_through_exactly_as_many(world: World, operation: Operation) -> None:
    ada = await world.person("ada")
    settings = msgspec.structs.replace(
        world.house.settings, monthly_pushes=3, monthly_recalls=3, monthly_asks=3
    )
    async with open_world(settings) as strict:
        who: Caller = caller_of(strict, ada)
        tries = await asyncio.gather(
            *(usage.take_read(who, operation) for _ in range(10)), return_exceptions=True
        )
        refused = [error for error in tries if error is not None]
        assert len(refused) == 7
        error = refused[0]
        assert isinstance(error, QuotaExceeded) and error.details is not None
        assert (error.status, error.code) == (402, "quota_exceeded")
        assert error.details.keys() == {
            "operation",
            "current",
            "limit",
            "plan",
            "plan_name",
            "reset_at",
            "upgrade_plan",
        }
        assert (error.details["operation"], error.details["current"], error.details["limit"]) == (
            operation,
            3,
            3,
        )
        used = (await Browser(strict, ada.token).get("/v1/usage")).data(200)
        assert (used[f"{operation}_count"], used["limits"][f"{operation}_limit"]) == (3, 3)


async def test_every_answer_tells_how_the_limits_stand(world: World) -> None:
    ada = await world.person("ada")
    assert "x-ratelimit-limit" not in (await ada.get("/v1/hubs")).headers
    async with open_world(msgspec.structs.replace(world.house.settings, rate_limit_scale=1.0)) as strict:
        me, nobody = Browser(strict, ada.token), strict.nobody
        first, second = await me.get("/v1/hubs"), await me.get("/v1/auth/me")
        assert first.headers["x-ratelimit-limit"] == "200"
        assert int(second.headers["x-ratelimit-remaining"]) <= int(first.headers["x-ratelimit-remaining"])
        assert int(second.headers["x-ratelimit-reset"]) > 1_700_000_000
        # The scarcest of those that a call takes from, also where the call is refused for something else.
        assert (await me.get("/v1/hubs/check-slug?slug=x")).headers["x-ratelimit-limit"] == "30"
        assert (await me.get("/v1/hubs/nonsense")).headers["x-ratelimit-limit"] == "200"
        assert (await nobody.get("/v1/plans")).headers["x-ratelimit-limit"] == "120"
        assert "x-ratelimit-limit" not in (await me.get("/api/users/me")).headers
        asked = [await me.get("/v1/hubs/check-slug?slug=x") for _ in range(29)]
        assert asked[-1].headers["x-ratelimit-remaining"] == "0"
        refused = await me.get("/v1/hubs/check-slug?slug=x")
        assert (refused.error, refused.headers["x-ratelimit-remaining"]) == ("rate_limited", "0")
        assert refused.details["limit"] == 30


async def test_a_limit_over_all_processes_says_how_it_stands_when_it_is_reached(world: World) -> None:
    ada = await world.person("ada")
    async with open_world(msgspec.structs.replace(world.house.settings, rate_limit_scale=1.0)) as strict:
        me = Browser(strict, ada.token)
        replies = [await me.post("/v1/onboarding/restart") for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        refused, now = replies[-1], time.time()
        assert (refused.details["limit"], refused.details["current"]) == (3, 3)
        assert refused.headers["retry-after"] == str(refused.details["retry_after"])
        assert refused.headers["x-ratelimit-limit"] == "3"
        assert refused.headers["x-ratelimit-remaining"] == "0"
        # One comes back every eight hours, and all of them in a day.
        assert 7.9 * 3600 < refused.details["reset_at"] - now < 8.1 * 3600
        assert 23.9 * 3600 < int(refused.headers["x-ratelimit-reset"]) - now < 24.1 * 3600
        hub = (await me.get("/v1/hubs")).data()[0]["hub"]["id"]
        keys = [await me.post("/v1/auth/api-keys", {"name": "k", "hub_id": hub}) for _ in range(31)]
        assert (keys[-1].status, keys[-1].details["limit"], keys[-1].headers["x-ratelimit-limit"]) == (
            429,
            30,
            "30",
        )


async def test_first_steps_are_a_checklist_that_resolves_itself(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    assert (await ada.get("/v1/onboarding/state")).data(200) == {"has_prior": False, "current_version": 1}
    steps = (await ada.post("/v1/onboarding/restart")).data(200)
    assert (steps["kind"], steps["source_kind"], steps["status"]) == ("checklist", "onboarding", "pending")
    state = (await ada.get("/v1/onboarding/state")).data(200)
    assert state == {"has_prior": True, "current_version": 1, "current_status": "pending"}
    items = f"/v1/notifications/{steps['id']}/items"

    assert (await bo.post(f"{items}/hub/view")).error == "not_found"
    assert (await ada.post(f"{items}/nothing/view")).error == "item_not_found"
    assert (await ada.post(f"{items}/invite/complete")).error == "item_locked"
    viewed = (await ada.post(f"{items}/invite/view")).data(200)
    assert viewed.keys() == {"item_id", "viewed_at", "progress"} and viewed["progress"] == 0
    assert (await ada.post(f"{items}/invite/view")).data(200) == viewed
    done = [
        (await ada.post(f"{items}/{item}/complete")).data(200) for item in ("profile", "hub", "invite", "key")
    ]
    assert [answer["progress"] for answer in done] == [0.25, 0.5, 0.75, 1]
    assert [answer.get("auto_resolved_as") for answer in done] == [None, None, None, "applied_auto"]
    assert (await ada.post(f"{items}/hub/complete")).error == "notification_not_pending"
    assert (await ada.get("/v1/onboarding/state")).data(200)["current_status"] == "resolved"

    again = (await ada.post("/v1/onboarding/restart")).data(200)
    assert again["id"] == steps["id"]
    assert all("completed_at" not in item for item in again["payload"]["items"])
    dismissed = (await ada.post(f"/v1/notifications/{steps['id']}/resolve", {"action": "dismiss"})).data(200)
    assert dismissed["resolution"] == "dismissed"


async def test_items_are_of_checklists_and_change_in_any_order_at_once(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    (await ada.post(f"{hub.url}/invites", {"invitee": {"user_id": bo.id}})).data(201)
    (invite,) = (await bo.get("/v1/notifications")).data(200)["notifications"]
    assert (await bo.post(f"/v1/notifications/{invite['id']}/items/x/view")).error == "kind_not_supported"
    steps = (await ada.post("/v1/onboarding/restart")).data(200)
    items = f"/v1/notifications/{steps['id']}/items"
    replies = await asyncio.gather(
        *(ada.post(f"{items}/{item}/complete") for item in ("profile", "hub", "key"))
    )
    assert sorted(reply.data(200)["progress"] for reply in replies) == [0.25, 0.5, 0.75]


async def test_a_list_of_another_form_is_refused(world: World) -> None:
    ada = await world.person("ada")
    steps = (await ada.post("/v1/onboarding/restart")).data(200)["id"]
    async with world.db.writing() as tx:
        await tx.run(
            """UPDATE notifications SET payload = '{"items": [1]}' WHERE id = $1::text::uuid""", steps
        )
    refused = await ada.post(f"/v1/notifications/{steps}/items/hub/view")
    assert (refused.status, refused.error) == (400, "invalid_checklist_payload")


async def test_first_steps_begin_again_three_times_a_day(world: World) -> None:
    ada = await world.person("ada")
    async with open_world(msgspec.structs.replace(world.house.settings, rate_limit_scale=1.0)) as strict:
        me = Browser(strict, ada.token)
        statuses = [(await me.post("/v1/onboarding/restart")).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_changes_of_items_are_told_to_their_person(world: World) -> None:
    ada = await world.person("ada")
    async with served(world) as http:
        me = Browser(World(world.house, http, world.owner_url), ada.token)
        async with events_of(me) as stream:
            assert (await stream.next())[0] == "ready"
            steps = (await me.post("/v1/onboarding/restart")).data(200)
            name, event = await stream.next()
            assert (name, event["entity_id"], event["kind"]) == (
                "notification.created",
                steps["id"],
                "checklist",
            )
            (await me.post(f"/v1/notifications/{steps['id']}/items/hub/complete")).data(200)
            name, event = await stream.next()
            assert (name, event["change"], event["item_id"]) == (
                "notification.updated",
                "item_updated",
                "hub",
            )
            assert event["item_progress"] == 0.25 and event["item_completed_at"]
