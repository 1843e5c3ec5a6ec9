"""Channels come to match what is wanted, whatever the service and the network do meanwhile."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from guildhall.providers.chat import (
    GROUP,
    MEMBER,
    MODERATOR,
    SPACE,
    ChannelWanted,
    Chat,
    ChatRejected,
    ChatUnavailable,
    ChatUser,
    open_chat,
)
from tests.servers.stream_server import (
    ActThenDie,
    ActTwice,
    Die,
    Fail,
    Fault,
    Garble,
    Slow,
    StreamServer,
    rate_limited,
    stream_server,
)

T = TypeVar("T")
EVERYONE = [f"user_{i:03}" for i in range(260)]


@asynccontextmanager
async def a_service(people: list[str] = EVERYONE) -> AsyncIterator[tuple[Chat, StreamServer]]:
    async with stream_server() as server:
        chat = open_chat(server.settings)
        await chat.ensure_channel_types()
        await chat.upsert_users([ChatUser(id=i, name=i, image=None) for i in people])
        server.calls.clear()
        try:
            yield chat, server
        finally:
            await chat.aclose()


def wanted(members: dict[str, str], name: str = "A name", image: str | None = None) -> ChannelWanted:
    return ChannelWanted(SPACE, "c1", name, image, "user_000", members)


def as_wanted(server: StreamServer, channel: ChannelWanted) -> bool:
    found = server.channels.get((channel.type, channel.id))
    data = {"name": channel.name} | ({} if channel.image is None else {"image": channel.image})
    return found is not None and found.members == dict(channel.members) and found.data == data


def writes(server: StreamServer) -> list[str]:
    """What was asked to change, in order; opening an existing channel changes nothing."""
    return [
        call.method if call.method != "POST" else next(iter(call.body))
        for call in server.calls
        if call.method != "GET" and not call.path.endswith("/query")
    ]


async def test_a_channel_is_made_and_then_changed_by_exactly_what_differs() -> None:
    async with a_service() as (chat, server):
        first = {user: MODERATOR if i < 3 else MEMBER for i, user in enumerate(EVERYONE[:250])}
        await chat.converge_channel(wanted(first, image="https://img.test/1"))
        assert as_wanted(server, wanted(first, image="https://img.test/1"))
        assert writes(server) == ["add_members"] * 3

        server.calls.clear()
        await chat.converge_channel(wanted(first, image="https://img.test/1"))
        assert writes(server) == []
        assert len(server.calls_to("GET", "/members")) == 3

        server.calls.clear()
        second = {user: role for user, role in first.items() if user != "user_100"} | {
            "user_001": MEMBER,
            "user_200": MODERATOR,
            "user_259": MEMBER,
        }
        await chat.converge_channel(wanted(second, name="Another"))
        assert as_wanted(server, wanted(second, name="Another"))
        assert writes(server) == ["remove_members", "assign_roles", "add_members", "PATCH"]
        changed = [call.body for call in server.calls if call.path == f"/channels/{SPACE}/c1"]
        assert changed == [
            {"remove_members": ["user_100"]},
            {
                "assign_roles": [
                    {"user_id": "user_001", "channel_role": MEMBER},
                    {"user_id": "user_200", "channel_role": MODERATOR},
                ]
            },
            {"add_members": [{"user_id": "user_259", "channel_role": MEMBER}]},
            {"unset": ["image"], "set": {"name": "Another"}},
        ]
        assert sorted(await chat.list_member_ids(SPACE, "c1")) == sorted(second)

        server.calls.clear()
        await chat.converge_channel(wanted({}, name="Another"))
        assert as_wanted(server, wanted({}, name="Another"))
        assert writes(server) == ["remove_members"] * 3


async def test_those_who_left_are_out_even_when_the_rest_of_the_work_fails() -> None:
    async with a_service() as (chat, server):
        await chat.converge_channel(wanted(dict.fromkeys(EVERYONE[:5], MODERATOR)))
        # The removal passes; all that comes after it fails.
        server.faults.on("POST", f"/channels/{SPACE}/c1", Slow(0))
        server.faults.on("POST", f"/channels/{SPACE}/c1", Fail(500), times=None)
        with pytest.raises(ChatUnavailable):
            await chat.converge_channel(wanted({"user_001": MEMBER, "user_009": MEMBER}))
        assert server.members(SPACE, "c1") == {"user_001": MODERATOR}


async def test_lost_ranks_are_taken_before_new_ones_are_given() -> None:
    async with a_service() as (chat, server):
        before = dict.fromkeys(EVERYONE[:120], MEMBER) | dict.fromkeys(EVERYONE[120:240], MODERATOR)
        after = dict.fromkeys(EVERYONE[:120], MODERATOR) | dict.fromkeys(EVERYONE[120:240], MEMBER)
        await chat.converge_channel(wanted(before))
        server.calls.clear()
        await chat.converge_channel(wanted(after))
        assert as_wanted(server, wanted(after))
        given = [
            one["channel_role"] for call in server.calls for one in (call.body or {}).get("assign_roles", ())
        ]
        assert given == [MEMBER] * 120 + [MODERATOR] * 120


async def test_a_member_list_that_does_not_advance_is_refused_instead_of_read_for_ever() -> None:
    async with a_service() as (chat, server):
        page = json.dumps({"members": [{"user_id": user} for user in EVERYONE[:100]]}).encode()
        server.faults.on("GET", "/members", Garble(page, "application/json"), times=None)
        with pytest.raises(ChatRejected):
            await chat.list_member_ids(SPACE, "c1")
        assert len(server.calls) == 2


async def test_one_unknown_person_keeps_nobody_else_out_and_is_named() -> None:
    async with a_service() as (chat, server):
        members = dict.fromkeys(EVERYONE[:150], MEMBER)
        asked = members | {"ghost_1": MEMBER, "ghost_2": MODERATOR}
        for _ in range(2):
            with pytest.raises(ChatRejected) as caught:
                await chat.converge_channel(wanted(asked, name="Named all the same"))
            assert set(caught.value.user_ids) == {"ghost_1", "ghost_2"}
            assert as_wanted(server, wanted(members, name="Named all the same"))
        await chat.upsert_users([ChatUser(i, i, None) for i in ("ghost_1", "ghost_2")])
        await chat.converge_channel(wanted(asked, name="Named all the same"))
        assert server.members(SPACE, "c1") == asked


async def test_when_nobody_is_known_it_gives_up_after_a_few_calls() -> None:
    async with a_service(["user_000"]) as (chat, server):
        with pytest.raises(ChatRejected) as caught:
            await chat.converge_channel(wanted({f"ghost_{i}": MEMBER for i in range(1000)}))
        assert 0 < len(caught.value.user_ids) <= 10
        assert len(server.calls) < 50


async def test_placing_a_few_people_reads_nothing_and_touches_nobody_else() -> None:
    async with a_service() as (chat, server):
        await chat.converge_channel(wanted(dict.fromkeys(EVERYONE[:150], MEMBER)))
        server.calls.clear()
        changes = {"user_001": None, "user_002": MODERATOR, "user_200": MEMBER, "user_201": None}
        for _ in range(2):
            await chat.place_members(SPACE, "c1", changes)
        assert writes(server) == ["remove_members", "add_members", "assign_roles"] * 2
        assert server.calls_to("GET", "*") == []
        after = dict.fromkeys(EVERYONE[:150], MEMBER) | {"user_002": MODERATOR, "user_200": MEMBER}
        del after["user_001"]
        assert server.members(SPACE, "c1") == after
        with pytest.raises(ChatRejected) as caught:
            await chat.place_members(SPACE, "c1", {"ghost": MEMBER, "user_202": MODERATOR})
        assert caught.value.user_ids == ("ghost",)
        assert server.members(SPACE, "c1") == after | {"user_202": MODERATOR}
        with pytest.raises(ChatRejected) as caught:
            await chat.place_members(SPACE, "none-such", changes)
        assert caught.value.code == 16


async def test_deleting_a_channel_twice_or_one_that_never_was_succeeds() -> None:
    async with a_service() as (chat, server):
        await chat.converge_channel(wanted(dict.fromkeys(EVERYONE[:5], MEMBER)))
        server.faults.on("DELETE", "*", ActThenDie())
        with pytest.raises(ChatUnavailable):
            await chat.delete_channel(SPACE, "c1")
        await chat.delete_channel(SPACE, "c1")
        await chat.delete_channel(SPACE, "never-was")
        assert server.channels == {}
        assert await chat.list_member_ids(SPACE, "c1") == []


async def test_a_channel_deleted_while_it_is_being_matched_asks_for_a_fresh_look() -> None:
    async with a_service() as (chat, server):
        server.faults.on("GET", "/members", Fail(404, 16))
        with pytest.raises(ChatUnavailable) as caught:
            await chat.converge_channel(wanted({"user_001": MEMBER}))
        assert caught.value.retry_after_s == 0


async def test_an_answer_lost_after_the_effect_doubles_nothing() -> None:
    steps = [
        ("POST", "*/query"),
        ("GET", "/members"),
        ("POST", f"/channels/{SPACE}/c1"),
        ("PATCH", f"/channels/{SPACE}/c1"),
    ]
    async with a_service() as (chat, server):
        target = wanted(dict.fromkeys(EVERYONE[:120], MEMBER) | {"user_000": MODERATOR})
        for fault in (ActThenDie(), ActTwice(), Garble()):
            server.created.clear()
            await chat.delete_channel(SPACE, "c1")
            for method, path in steps:
                server.faults.on(method, path, fault)
                await settle(chat, target)
            server.channels[SPACE, "c1"].data["name"] = "Changed by somebody"
            server.faults.on("PATCH", "*", fault)
            await settle(chat, target)
            server.faults.clear()
            assert as_wanted(server, target)
            assert server.created == [(SPACE, "c1")]
            assert len(await chat.list_member_ids(SPACE, "c1")) == 120


async def settle(chat: Chat, target: ChannelWanted) -> None:
    """Try as a worker does, until it works."""
    for _ in range(100):
        with suppress(ChatUnavailable):
            return await chat.converge_channel(target)
    raise AssertionError("never settled")


async def test_many_at_once_for_one_channel_agree_on_what_is_wanted() -> None:
    async with a_service() as (chat, server):
        server.latency_s = 0.002
        old = wanted(dict.fromkeys(EVERYONE[100:], MODERATOR))
        new = wanted(dict.fromkeys(EVERYONE[:150], MEMBER), image="https://img.test/2")
        await asyncio.gather(*(settle(chat, channel) for channel in [old, new] * 4))
        await asyncio.gather(*(settle(chat, new) for _ in range(4)))
        assert as_wanted(server, new)
        assert server.created == [(SPACE, "c1")]


@pytest.mark.skipif(not os.environ.get("GUILDHALL_LONG"), reason="reads and writes 100,000 members")
@pytest.mark.long
async def test_a_hundred_thousand_members_settle() -> None:
    async with a_service([f"user_{i:06}" for i in range(100_000)]) as (chat, server):
        server.record = False
        target = wanted({f"user_{i:06}": MEMBER for i in range(1, 100_000)})
        target = ChannelWanted(SPACE, "c1", "Large", None, "user_000000", target.members)
        await chat.converge_channel(target)
        await chat.converge_channel(target)
        assert as_wanted(server, target)


FAULTS: list[Fault] = [
    ActThenDie(),
    ActTwice(),
    Die(),
    Fail(500),
    Fail(503, 0, (("retry-after", "1"),)),
    Fail(400, 23),
    rate_limited(1),
    Garble(),
]
PLACES = [
    ("POST", "/channels/*/query"),
    ("GET", "/members"),
    ("POST", "/channels/*/c?"),
    ("PATCH", "/channels/*"),
    ("DELETE", "/channels/*"),
    ("*", "*"),
]
CHANNELS = [(SPACE, "c1"), (SPACE, "c2"), (GROUP, "c1")]

channels = st.sampled_from(CHANNELS)
memberships = st.builds(
    lambda start, count, step, every: {
        user: MODERATOR if i % every == 0 else MEMBER
        for i, user in enumerate(EVERYONE[start : start + count * step : step])
    },
    st.integers(0, 40),
    st.sampled_from([0, 1, 2, 5, 99, 100, 101, 150, 220]),
    st.integers(1, 2),
    st.integers(1, 7),
)
names = st.sampled_from(["One", "Two", "Drei · 三 · \U0001f600", ""])
images = st.sampled_from([None, "https://img.test/1", "https://img.test/2"])


class Convergence(RuleBasedStateMachine):
    """Wanted states, faults, repeats and meddling in any order; each success is right, and so is the end."""

    def __init__(self) -> None:
        super().__init__()
        # The factory keeps the runner from replacing the thread's current loop, which other tests use.
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.stack = AsyncExitStack()
        self.wanted: dict[tuple[str, str], ChannelWanted | None] = {}
        self.earlier: dict[tuple[str, str], ChannelWanted] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def start(self) -> None:
        self.chat, self.server = self.run(self.stack.enter_async_context(a_service()))

    async def match(self, channel: tuple[str, str]) -> bool:
        """One try at the channel. False when the service was unavailable."""
        target = self.wanted.get(channel)
        try:
            if target is None:
                await self.chat.delete_channel(*channel)
            else:
                await self.chat.converge_channel(target)
        except ChatUnavailable:
            return False
        return True

    def check(self, channel: tuple[str, str]) -> None:
        target = self.wanted.get(channel)
        if target is None:
            assert channel not in self.server.channels
        else:
            assert as_wanted(self.server, target)

    @rule(channel=channels, members=memberships, name=names, image=images)
    def want(self, channel: tuple[str, str], members: dict[str, str], name: str, image: str | None) -> None:
        if (before := self.wanted.get(channel)) is not None:
            self.earlier[channel] = before
        self.wanted[channel] = ChannelWanted(*channel, name, image, "user_000", members)
        if self.run(self.match(channel)):
            self.check(channel)

    @rule(channel=channels)
    def want_it_gone(self, channel: tuple[str, str]) -> None:
        self.wanted[channel] = None
        if self.run(self.match(channel)):
            self.check(channel)

    @rule(channel=channels)
    def repeat(self, channel: tuple[str, str]) -> None:
        if self.run(self.match(channel)):
            self.check(channel)

    @precondition(lambda self: self.earlier)
    @rule(data=st.data())
    def repeat_an_older_one_at_the_same_time(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from(sorted(self.earlier)))

        async def both() -> None:
            older = self.chat.converge_channel(self.earlier[channel])
            done = await asyncio.gather(older, self.match(channel), return_exceptions=True)
            assert done[0] is None or isinstance(done[0], ChatUnavailable)
            assert isinstance(done[1], bool)

        self.run(both())

    @rule(place=st.sampled_from(PLACES), fault=st.sampled_from(FAULTS), times=st.integers(1, 2))
    def something_breaks(self, place: tuple[str, str], fault: Fault, times: int) -> None:
        self.server.faults.on(*place, fault, times)

    @precondition(lambda self: self.server.channels)
    @rule(data=st.data(), people=st.lists(st.sampled_from(EVERYONE[:60]), min_size=1, max_size=5))
    def somebody_meddles(self, data: st.DataObject, people: list[str]) -> None:
        channel = self.server.channels[data.draw(st.sampled_from(sorted(self.server.channels)))]
        for user in people:
            if channel.members.pop(user, None) is None:
                channel.members[user] = MODERATOR
        channel.data["name"] = "Meddled with"

    def teardown(self) -> None:
        try:
            if hasattr(self, "server"):
                self.server.faults.clear()
                for channel in CHANNELS:
                    assert self.run(self.match(channel))
                self.server.calls.clear()
                for channel in CHANNELS:
                    self.check(channel)
                    assert self.run(self.match(channel))
                    self.check(channel)
                assert set(writes(self.server)) <= {"DELETE"}
        finally:
            self.run(self.stack.aclose())
            self.runner.close()


TestAnySequenceConvergesToTheLastWantedState = Convergence.TestCase
TestAnySequenceConvergesToTheLastWantedState.settings = settings(
    max_examples=400 if os.environ.get("GUILDHALL_LONG") else 25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
