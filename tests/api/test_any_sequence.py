"""Whatever five people do to a space and each other, in any order: the rules hold, the records tell all."""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from guildhall.spaces.invariants import find_broken
from tests import cluster as clusters
from tests.world import Person, Reply, World, open_world, settings_for

T = TypeVar("T")
LONG = bool(os.environ.get("GUILDHALL_LONG"))

# Everything about a space that a change of who may what would touch, and the records there are of it.
STATE = """
    SELECT json_build_object(
        'owner', owner_id, 'private', is_private, 'deleted', deleted_at IS NOT NULL,
        'members', (SELECT json_object_agg(user_id, role) FROM members WHERE space_id = s.id),
        'groups', (SELECT coalesce(json_object_agg(g.id, (
                       SELECT coalesce(json_object_agg(user_id, role), '{}') FROM group_members gm
                        WHERE gm.space_id = s.id AND gm.group_id = g.id)), '{}')
                     FROM groups g WHERE space_id = s.id),
        'invites', (SELECT coalesce(json_object_agg(
                        i.id, ARRAY[accepted_by, revoked_at::text, resends::text]), '{}')
                      FROM invites i WHERE space_id = s.id),
        'transfers', (SELECT coalesce(json_object_agg(t.id, ARRAY[accepted_at, cancelled_at]), '{}')
                        FROM transfers t WHERE space_id = s.id),
        'counted', member_count = (SELECT count(*) FROM members m WHERE m.space_id = s.id)
            AND group_count = (SELECT count(*) FROM groups g WHERE g.space_id = s.id)
            AND post_count = (SELECT count(*) FROM posts p WHERE p.space_id = s.id AND group_id IS NULL)
            AND NOT EXISTS (SELECT FROM groups g WHERE g.space_id = s.id AND (
                g.member_count <> (SELECT count(*) FROM group_members gm WHERE gm.group_id = g.id)
                OR g.post_count <> (SELECT count(*) FROM posts p WHERE p.group_id = g.id))),
        'records', (SELECT json_agg(json_build_array(action, actor, coalesce(target, ''), before, after)
                                    ORDER BY id)
                      FROM audit WHERE space_id = s.id))::text
      FROM spaces s WHERE id = $1::uuid
"""


class State(msgspec.Struct):
    owner: str
    private: bool
    deleted: bool
    members: dict[str, str]
    groups: dict[str, dict[str, str]]
    invites: dict[str, list[str | None]]
    transfers: dict[str, list[str | None]]
    counted: bool
    records: list[tuple[str, str | None, str, dict[str, Any] | None, dict[str, Any] | None]]

    @property
    def told(self) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        """The members and groups that the records tell of, from the first to the last."""
        members: dict[str, str] = {}
        groups: dict[str, dict[str, str]] = {}
        for action, actor, target, before, after in self.records:
            match action.split("."):
                case ["community" | "hub", "create"]:
                    members[actor or ""] = "owner"
                case ["member", "join"]:
                    members[target] = "member"
                case ["member", "add" | "role"] | ["invite", "accept"]:
                    assert after is not None and members.get(target) == (before or {}).get("role")
                    members[target] = after["role"]
                case ["member", "leave" | "remove"]:
                    assert before is not None and members.pop(target) == before["role"]
                    assert (actor == target) == (action == "member.leave")
                    for group in groups.values():
                        group.pop(target, None)
                case ["transfer", "accept"]:
                    assert before is not None and after is not None and actor == target == after["owner"]
                    members |= {before["owner"]: "admin", after["owner"]: "owner"}
                case ["group", "create"]:
                    groups[target] = {actor or "": "admin"}
                case ["group", "delete"]:
                    del groups[target]
                case ["group", "member", "add" | "join"]:
                    assert after is not None and target not in groups[after["groupId"]]
                    groups[after["groupId"]][target] = after["role"]
                case ["group", "member", "leave" | "remove"]:
                    assert before is not None and groups[before["groupId"]].pop(target) == before["role"]
                case _:
                    pass
        return members, groups


class Stage:
    """A world with a loop of its own, since a machine's rules are not coroutines."""

    def __init__(self, runner: asyncio.Runner, world: World) -> None:
        self._runner = runner
        self.world = world

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(doing)

    def state(self, space: str) -> State | None:
        """None when the space is no more."""

        async def read() -> str | None:
            async with self.world.db.reading() as read:
                return await read.value(STATE, space)

        found = self.run(read())
        return None if found is None else msgspec.json.decode(found, type=State)

    def broken(self) -> list[str]:
        async def look() -> list[str]:
            connection = await asyncpg.connect(self.world.owner_url)
            try:
                return await find_broken(connection)
            finally:
                await connection.close()

        return self.run(look())


@pytest.fixture(scope="module")
def stage(
    cluster: clusters.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("stage")
    with asyncio.Runner() as runner:
        url = runner.run(clusters.clone_database(cluster, template))
        opening = open_world(settings_for(folder, clusters.app_url(cluster, url), url))
        yield Stage(runner, runner.run(opening.__aenter__()))
        runner.run(opening.__aexit__(None, None, None))
        runner.run(clusters.drop_database(cluster, url))


# The first two have the rank for most things, the last is nobody at first.
PERSON = st.sampled_from([0, 0, 1, 1, 2, 3, 4])
PICK = st.sampled_from([0, 0, 0, 1, 2])
MANAGERS = {"owner", "admin"}


class Memberships(RuleBasedStateMachine):
    """A space of either kind: what both share. A rule says whether what it tries is lawful at all."""

    stage: ClassVar[Stage]
    url: str
    space: str
    state: State

    def __init__(self) -> None:
        super().__init__()
        self.people: list[Person] = self.stage.run(self.stage.world.people("ada", "bo", "cy", "dan", "eve"))
        # Invites by id and token, and offers by id, each with whom it is for.
        self.tokens: list[tuple[str, str, int]] = []
        self.offers: list[tuple[str, int]] = []

    def found(self, space: str, url: str) -> None:
        self.space, self.url = space, url
        state = self.stage.state(space)
        assert state is not None and state.members == {self.people[0].id: "owner"}
        self.state = state

    def role(self, who: int) -> str | None:
        """The rank before what is being tried."""
        return self.state.members.get(self.people[who].id)

    def do(self, reply: Coroutine[Any, Any, Reply], *, lawful: bool = True) -> Any:
        """What a request answered, None for a refusal, after looking at what came of it."""
        answer = self.stage.run(reply)
        assert answer.status < 500, answer
        assert lawful or answer.status >= 400, answer
        now = self.stage.state(self.space)
        if now is None:
            # A space that was deleted goes with its last owner, and nothing changes in what is no more.
            assert self.state.deleted or answer.status >= 400
            return None
        before, self.state = self.state, now
        new = now.records[len(before.records) :]
        same = msgspec.structs.replace(before, records=now.records) == now
        assert same or answer.status < 300, (answer, new)
        # Erasing takes back invites to the person; its own record, which is of no space, stands for that.
        erased = answer.response.request.url.path == "/api/users/me" and before.members == now.members
        assert len(new) == (0 if same or erased else 1), (answer, new)
        self.check(now)
        if answer.status >= 300:
            return None
        body = answer.json if answer.response.content else {}
        return body.get("data", body)

    def check(self, now: State) -> None:
        assert now.counted
        assert now.told == (now.members, now.groups)
        assert now.members[now.owner] == "owner"
        assert all(group.keys() <= now.members.keys() for group in now.groups.values())
        assert list(now.transfers.values()).count([None, None]) <= 1

    def teardown(self) -> None:
        assert self.stage.broken() == []

    def invite(self, who: int, whom: int, path: str, body: dict[str, Any]) -> None:

        lawful = self.role(who) in MANAGERS and body["role"] != "owner"
        made = self.do(self.people[who].post(self.url + path, body), lawful=lawful)
        if made is not None:
            self.tokens.append((made["id"], made["token"], whom))

    @rule(who=st.one_of(st.none(), PERSON), pick=PICK)
    def accept_invite(self, who: int | None, pick: int) -> None:
        if self.tokens:
            _, token, whom = self.tokens[-1 - pick % len(self.tokens)]
            who = whom if who is None else who
            surface = self.url[: self.url.index("/", 1)]
            call = self.people[who].post(f"{surface}/invites/{token}/accept", {})
            self.do(call, lawful=self.role(who) is None and not self.state.deleted)

    @rule(who=PERSON, pick=PICK, how=st.sampled_from(["revoke", "regenerate", "resend"]))
    def change_invite(self, who: int, pick: int, how: str) -> None:
        if self.tokens:
            person = self.people[who]
            invite, _, whom = self.tokens[-1 - pick % len(self.tokens)]
            url = f"{self.url}/invites/{invite}"
            call = person.delete(url) if how == "revoke" else person.post(f"{url}/{how}", {})
            made = self.do(call, lawful=self.role(who) in MANAGERS)
            if made is not None and how == "regenerate":
                self.tokens.append((made["id"], made["token"], whom))

    def offer_to(self, who: int, whom: int, body: dict[str, str]) -> None:
        lawful = self.role(who) == "owner" and self.role(whom) not in (None, "owner")
        made = self.do(self.people[who].post(f"{self.url}/ownership-transfer", body), lawful=lawful)
        if made is not None:
            self.offers.append((made["id"], whom))

    @rule(who=st.one_of(st.none(), PERSON), pick=PICK, accept=st.booleans())
    def end_offer(self, who: int | None, pick: int, accept: bool) -> None:
        if self.offers:
            offer, whom = self.offers[-1 - pick % len(self.offers)]
            who = whom if who is None else who
            url = f"{self.url}/ownership-transfer/{offer}"
            call = self.people[who].post(f"{url}/{'accept' if accept else 'cancel'}", {})
            # Either of the two may end it; only one may take it.
            self.do(call, lawful=self.role(who) is not None and (who == whom or not accept))

    @rule(who=PERSON, meant=st.integers(0, 4))
    def erase(self, who: int, meant: int) -> None:
        # Only now and then, since whoever is gone does nothing any more.
        if meant == 0:
            self.do(self.people[who].delete("/api/users/me"))


class CommunityMemberships(Memberships):
    # Several owners make for more that can go wrong.
    ranks = st.sampled_from(["owner", "owner", "admin", "moderator", "member"])

    @initialize(private=st.booleans(), ranks=st.lists(ranks, min_size=3, max_size=3))
    def begin(self, private: bool, ranks: list[str]) -> None:
        made = self.stage.run(self.stage.world.community(self.people[0]))
        self.found(made.id, made.url)
        for who, role in enumerate(["admin", *ranks[:2]], start=1):
            self.join(who)
            self.give_role(0, who, role)
        self.make_group(0, private)
        self.put_into_group(0, 2, 0, "admin")
        self.invite_somebody(1, 4, ranks[2])
        self.offer(0, 1)
        self.show_or_hide(1, private)

    @rule(who=PERSON)
    def join(self, who: int) -> None:
        lawful = not self.state.private or self.role(who) is not None
        self.do(self.people[who].post(f"{self.url}/join"), lawful=lawful)

    @rule(who=PERSON, whom=PERSON, role=ranks)
    def invite_somebody(self, who: int, whom: int, role: str) -> None:
        self.invite(who, whom, "/invite", {"email": self.people[whom].email, "role": role})

    @rule(who=PERSON, whom=PERSON, role=ranks)
    def give_role(self, who: int, whom: int, role: str) -> None:
        lawful = self.role(who) == "owner"
        lawful |= self.role(who) == "admin" and "owner" not in (role, self.role(whom))
        body = {"targetUserId": self.people[whom].id, "role": role}
        self.do(self.people[who].patch(f"{self.url}/members", body), lawful=lawful)

    @rule(who=PERSON, whom=PERSON)
    def remove(self, who: int, whom: int) -> None:
        lawful = self.role(who) == "owner" or who == whom
        lawful |= self.role(who) == "admin" and self.role(whom) != "owner"
        body = {"targetUserId": self.people[whom].id}
        self.do(self.people[who].delete(f"{self.url}/members", body), lawful=lawful)

    @rule(who=PERSON, whom=PERSON)
    def offer(self, who: int, whom: int) -> None:
        self.offer_to(who, whom, {"targetUserId": self.people[whom].id})

    @rule(who=PERSON, private=st.booleans())
    def show_or_hide(self, who: int, private: bool) -> None:
        lawful = self.role(who) in MANAGERS
        self.do(self.people[who].patch(self.url, {"isPrivate": private}), lawful=lawful)

    @rule(who=PERSON, private=st.booleans())
    def make_group(self, who: int, private: bool) -> None:
        body = {"communityId": self.space, "name": "Seeds", "isPrivate": private}
        self.do(self.people[who].post("/api/groups", body), lawful=self.role(who) in MANAGERS)

    def in_group(self, group: str, who: int) -> str | None:
        return self.state.groups[group].get(self.people[who].id)

    @rule(who=PERSON, whom=PERSON, pick=PICK, role=st.sampled_from(["admin", "member"]))
    def put_into_group(self, who: int, whom: int, pick: int, role: str) -> None:
        for group in sorted(self.state.groups)[pick : pick + 1]:
            lawful = self.role(who) in MANAGERS or self.in_group(group, who) == "admin"
            body = {"targetUserId": self.people[whom].id, "role": role}
            call = self.people[who].post(f"/api/groups/{group}", body)
            self.do(call, lawful=lawful and self.role(whom) is not None)

    @rule(who=PERSON, pick=PICK)
    def join_group(self, who: int, pick: int) -> None:
        for group in sorted(self.state.groups)[pick : pick + 1]:
            call = self.people[who].post(f"/api/groups/{group}/join")
            self.do(call, lawful=self.role(who) is not None)

    @rule(who=PERSON, whom=PERSON, pick=PICK)
    def take_from_group(self, who: int, whom: int, pick: int) -> None:
        for group in sorted(self.state.groups)[pick : pick + 1]:
            lawful = self.role(who) in MANAGERS or self.in_group(group, who) == "admin" or who == whom
            body = {"targetUserId": self.people[whom].id}
            self.do(self.people[who].delete(f"/api/groups/{group}/members", body), lawful=lawful)

    @rule(who=PERSON, pick=PICK)
    def delete_group(self, who: int, pick: int) -> None:
        for group in sorted(self.state.groups)[pick : pick + 1]:
            lawful = self.role(who) in MANAGERS or self.in_group(group, who) == "admin"
            self.do(self.people[who].delete(f"/api/groups/{group}"), lawful=lawful)

    @rule(who=PERSON, pick=PICK)
    def post(self, who: int, pick: int) -> None:
        body: dict[str, Any] = {"communityId": self.space, "content": "Hello"}
        lawful = self.role(who) is not None
        for group in sorted(self.state.groups)[pick : pick + 1]:
            body["groupId"] = group
            lawful = self.in_group(group, who) is not None
        self.do(self.people[who].post("/api/posts", body), lawful=lawful)

    @rule(who=PERSON, meant=st.integers(0, 9))
    def delete(self, who: int, meant: int) -> None:
        if meant == 0:
            self.do(self.people[who].delete(self.url), lawful=self.role(who) == "owner")


class HubMemberships(Memberships):
    ranks = st.sampled_from(["owner", "admin", "contributor", "viewer"])

    @initialize(ranks=st.lists(ranks, min_size=3, max_size=3))
    def begin(self, ranks: list[str]) -> None:
        hub = self.stage.run(self.stage.world.hub(self.people[0]))
        self.found(hub.id, hub.url)
        for who, role in enumerate(["admin", *ranks[:2]], start=1):
            self.add(0, who, role)
        self.invite_somebody(1, 4, ranks[2])
        self.offer(0, 1)

    def check(self, now: State) -> None:
        super().check(now)
        assert list(now.members.values()).count("owner") == 1

    @rule(who=PERSON, whom=st.one_of(st.none(), PERSON), role=ranks)
    def invite_somebody(self, who: int, whom: int | None, role: str) -> None:
        invitee = {} if whom is None else {"invitee": {"user_id": self.people[whom].id}}
        self.invite(who, 4 if whom is None else whom, "/invites", {**invitee, "role": role})

    @rule(who=PERSON, whom=PERSON, role=ranks)
    def add(self, who: int, whom: int, role: str) -> None:
        lawful = self.role(who) in MANAGERS and role != "owner" and self.role(whom) is None
        body = {"user_id": self.people[whom].id, "role": role}
        self.do(self.people[who].post(f"{self.url}/members", body), lawful=lawful)

    @rule(who=PERSON, whom=PERSON, role=ranks)
    def give_role(self, who: int, whom: int, role: str) -> None:
        lawful = self.role(who) in MANAGERS and "owner" not in (role, self.role(whom))
        call = self.people[who].patch(f"{self.url}/members/{self.people[whom].id}", {"role": role})
        self.do(call, lawful=lawful)

    @rule(who=PERSON, whom=PERSON)
    def remove(self, who: int, whom: int) -> None:
        lawful = self.role(who) in MANAGERS and self.role(whom) not in (None, "owner")
        self.do(self.people[who].delete(f"{self.url}/members/{self.people[whom].id}"), lawful=lawful)

    @rule(who=PERSON)
    def leave(self, who: int) -> None:
        lawful = self.role(who) not in (None, "owner")
        self.do(self.people[who].post(f"{self.url}/leave", {}), lawful=lawful)

    @rule(who=PERSON, whom=PERSON)
    def offer(self, who: int, whom: int) -> None:
        self.offer_to(who, whom, {"target_user_id": self.people[whom].id})


@pytest.mark.parametrize("kind", [CommunityMemberships, HubMemberships], ids=["community", "hub"])
def test_whatever_members_do_the_rules_hold_and_the_records_tell_all_of_it(
    stage: Stage, kind: type[Memberships]
) -> None:
    kind.stage = stage
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=1_000 if LONG else 40,
            stateful_step_count=50 if LONG else 30,
            deadline=None,
            database=None,
            derandomize=not LONG,
            # To find the shortest way to a failure takes minutes.
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
