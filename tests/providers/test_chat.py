"""The chat client against a service that speaks the documented REST API: people, tokens, types, failures."""

import asyncio
import logging
import socket
import time
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import jwt
import pytest

from guildhall.providers.chat import (
    COMMUNITY_CHANNEL_ROLES,
    GROUP,
    MEMBER,
    MODERATOR,
    SPACE,
    ChannelWanted,
    Chat,
    ChatRejected,
    ChatSettings,
    ChatUnavailable,
    ChatUser,
    open_chat,
)
from guildhall.secret import Secret
from tests.servers.stream_server import (
    ActThenDie,
    Die,
    Drip,
    Fail,
    Garble,
    Oversize,
    Redirect,
    StreamServer,
    rate_limited,
    stream_server,
)

NOW = datetime.now(UTC)


@pytest.fixture
async def service() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


@pytest.fixture
async def chat(service: StreamServer) -> AsyncIterator[Chat]:
    client = open_chat(service.settings)
    yield client
    await client.aclose()


def people(*ids: str) -> list[ChatUser]:
    return [ChatUser(id=i, name=f"Name of {i}", image=None) for i in ids]


async def a_space(chat: Chat, service: StreamServer) -> None:
    """A space's channel `s1`: ada moderates, bo is a member, eve is known but not in it."""
    await chat.ensure_channel_types()
    await chat.upsert_users(people("ada", "bo", "eve"))
    members = {"ada": MODERATOR, "bo": MEMBER}
    for kind in (SPACE, GROUP):
        await chat.converge_channel(ChannelWanted(kind, "s1", "First", None, "ada", members))
    assert service.members(SPACE, "s1") == members


# Tokens.


def test_a_user_token_names_one_person_for_an_hour_at_most_and_claims_nothing_else() -> None:
    chat = open_chat(ChatSettings("http://127.0.0.1:9", "key", Secret("s" * 32)))
    now = datetime(2030, 1, 2, 3, 4, 5, 900_000, tzinfo=UTC)
    token = chat.user_token("user_1", now)
    claims = jwt.decode(
        token.token, "s" * 32, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}
    )

    seconds = int(now.timestamp())
    assert claims == {"user_id": "user_1", "iat": seconds - 5, "exp": seconds + 3600}
    assert token.expires_at == datetime.fromtimestamp(seconds + 3600, UTC)
    assert chat.user_token("user_1", now, ttl_s=60).expires_at == datetime.fromtimestamp(seconds + 60, UTC)
    for ttl_s in (0, -1, 3601):
        with pytest.raises(ValueError):
            chat.user_token("user_1", now, ttl_s=ttl_s)
    with pytest.raises(ValueError):
        chat.user_token("user_1", now.replace(tzinfo=None))
    for hostile in ("", "a b", "a/b", "a\n", "ä", "a" * 256, '","server":true,"x":"'):
        with pytest.raises(ChatRejected):
            chat.user_token(hostile, now)


async def test_a_revoked_person_loses_every_token_they_hold_and_newer_ones_work(
    chat: Chat, service: StreamServer
) -> None:
    await a_space(chat, service)
    held = chat.user_token("bo", NOW - timedelta(seconds=30)).token
    newer = chat.user_token("bo", NOW).token
    assert service.may_read(held, SPACE, "s1") and service.may_read(newer, SPACE, "s1")

    await chat.revoke_tokens("bo", NOW - timedelta(seconds=30))
    assert not service.may_read(held, SPACE, "s1") and service.may_read(newer, SPACE, "s1")
    await chat.revoke_tokens("bo", NOW)
    assert not service.may_read(newer, SPACE, "s1")
    assert service.may_read(chat.user_token("ada", NOW).token, SPACE, "s1")
    await chat.revoke_tokens("nobody-there", NOW)


# People.


async def test_people_are_made_known_by_the_hundred_with_name_image_and_no_stronger_role(
    chat: Chat, service: StreamServer
) -> None:
    users = [ChatUser(f"u{i}", f"Name {i}", f"https://img.test/{i}" if i % 2 else None) for i in range(250)]
    await chat.upsert_users(users)
    await chat.upsert_users([])

    assert [len(call.body["users"]) for call in service.calls_to("POST", "/users")] == [100, 100, 50]
    assert service.users["u1"] == {
        "id": "u1",
        "name": "Name 1",
        "image": "https://img.test/1",
        "role": "user",
    }
    assert service.users["u2"] == {"id": "u2", "name": "Name 2", "role": "user"}

    service.users["u1"]["role"] = "admin"
    await chat.upsert_users(users[:2])
    assert service.users["u1"]["role"] == "user"


async def test_an_erased_person_is_gone_with_all_they_wrote_however_often_it_is_asked(
    chat: Chat, service: StreamServer
) -> None:
    await a_space(chat, service)
    service.channels[SPACE, "s1"].messages.append(("bo", "hello"))
    token = chat.user_token("bo", NOW).token
    service.task_polls = 3

    service.faults.on("POST", "/users/delete", ActThenDie())
    with pytest.raises(ChatUnavailable):
        await chat.delete_user("bo")
    await chat.delete_user("bo")
    await chat.delete_user("bo")
    await chat.delete_user("ada")

    assert len(service.calls_to("GET", "/tasks/*")) == 3
    assert set(service.users) == {"eve"}
    assert service.members(SPACE, "s1") == {}
    assert service.channels[SPACE, "s1"].messages == []
    assert not service.may_read(token, SPACE, "s1")
    with pytest.raises(ChatRejected):
        await chat.upsert_users(people("bo"))


# The closed types.


async def test_our_types_are_made_mended_and_left_alone_when_right(chat: Chat, service: StreamServer) -> None:
    assert await chat.channel_type_differences() == [
        "Channel type guildhall-space is missing.",
        "Channel type guildhall-group is missing.",
    ]
    await chat.ensure_channel_types()
    assert await chat.channel_type_differences() == []

    service.types[SPACE]["grants"]["user"] = ["read-channel"]
    service.types[SPACE]["grants"]["made-up-role"] = ["create-message"]
    service.types[GROUP]["grants"]["channel_member"].remove("create-message")
    service.types[GROUP]["url_enrichment"] = True
    assert await chat.channel_type_differences() == [
        "Channel type guildhall-space grants create-message to made-up-role, which it should not.",
        "Channel type guildhall-space grants read-channel to user, which it should not.",
        "Channel type guildhall-group does not grant create-message to channel_member.",
        "Channel type guildhall-group has url_enrichment True instead of False.",
    ]
    await chat.ensure_channel_types()
    assert await chat.channel_type_differences() == []

    service.calls.clear()
    await chat.ensure_channel_types()
    assert {call.method for call in service.calls} == {"GET"}


async def test_two_processes_that_start_together_both_find_the_types_made(
    chat: Chat, service: StreamServer
) -> None:
    service.latency_s = 0.02
    await asyncio.gather(*(chat.ensure_channel_types() for _ in range(4)))
    assert await chat.channel_type_differences() == []


async def test_a_service_that_does_not_take_our_types_is_refused(chat: Chat, service: StreamServer) -> None:
    await chat.ensure_channel_types()
    service.types[SPACE]["grants"]["user"] = ["read-channel"]
    service.deaf_to_types = True
    with pytest.raises(ChatRejected, match="read-channel to user"):
        await chat.ensure_channel_types()


MAY = """
                               stranger  outsider  member  moderator
space read-channel             -         -         yes     yes
space read-channel-members     -         -         yes     yes
space create-reaction          -         -         yes     yes
space create-message           -         -         -       yes
space create-reply             -         -         -       yes
space upload-attachment        -         -         -       yes
space delete-message           -         -         -       yes
space create-channel           -         -         -       -
space update-channel           -         -         -       -
space delete-channel           -         -         -       -
space update-channel-members   -         -         -       -
space add-own-channel-membership     -   -         -       -
space remove-own-channel-membership  -   -         -       -
group read-channel             -         -         yes     yes
group create-message           -         -         yes     yes
group create-reply             -         -         yes     yes
group delete-message           -         -         -       yes
group create-channel           -         -         -       -
group update-channel           -         -         -       -
group update-channel-members   -         -         -       -
group add-own-channel-membership     -   -         -       -
group remove-own-channel-membership  -   -         -       -
"""


async def test_closed_types_grant_strangers_nothing_and_members_what_the_table_says(
    chat: Chat, service: StreamServer
) -> None:
    await a_space(chat, service)
    # A stranger is unknown to the service; an outsider is known, and created the channel, but left it.
    service.channels[SPACE, "s1"].created_by = service.channels[GROUP, "s1"].created_by = "eve"
    holder = {"stranger": "mallory", "outsider": "eve", "member": "bo", "moderator": "ada"}
    tokens = {who: chat.user_token(user_id, NOW).token for who, user_id in holder.items()}
    head, *rows = [line.split() for line in MAY.strip().splitlines()]
    assert len(rows) == 22
    for kind, grant, *expected in rows:
        got = [service.may(tokens[who], grant, f"guildhall-{kind}", "s1") for who in head]
        assert got == [cell == "yes" for cell in expected], (kind, grant)


async def test_a_stranger_with_a_valid_token_is_refused_by_the_service_itself(
    chat: Chat, service: StreamServer
) -> None:
    await a_space(chat, service)
    headers = {"authorization": chat.user_token("eve", NOW).token, "stream-auth-type": "jwt"}
    ask = {"data": {}, "state": True}
    member = {"add_members": ["eve"]}
    async with httpx.AsyncClient(base_url=service.base_url, params={"api_key": service.api_key}) as http:
        for path, body in (
            (f"/channels/{SPACE}/s1/query", ask),
            (f"/channels/{SPACE}/s1", member),
            (f"/channels/{SPACE}/s1/message", {"message": {"text": "hi"}}),
            (f"/channels/{GROUP}/s1/query", ask),
            (f"/channels/{GROUP}/s1", member),
            (f"/channels/{GROUP}/new/query", ask),
            ("/users", {"users": {}}),
        ):
            answer = await http.post(path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, 17), path
        headers["authorization"] = chat.user_token("bo", NOW).token
        assert (await http.post(f"/channels/{SPACE}/s1/query", json=ask, headers=headers)).status_code == 201
        assert (await http.post(f"/channels/{SPACE}/s1", json=member, headers=headers)).status_code == 403
    assert "eve" not in (service.members(SPACE, "s1") or {})


def test_whoever_may_announce_in_a_community_moderates_its_channel() -> None:
    assert dict(COMMUNITY_CHANNEL_ROLES) == {
        "owner": "channel_moderator",
        "admin": "channel_moderator",
        "moderator": "channel_moderator",
        "member": "channel_member",
    }


# Failures.


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fail(500), ChatUnavailable),
        (Fail(503, 0), ChatUnavailable),
        (Fail(429, 9), ChatUnavailable),
        (Fail(400, 23), ChatUnavailable),
        (Fail(408, 23), ChatUnavailable),
        (Die(), ChatUnavailable),
        (ActThenDie(), ChatUnavailable),
        (Garble(), ChatUnavailable),
        (Garble(b"[]", "application/json"), ChatUnavailable),
        (Garble(b'{"a":', "application/json"), ChatUnavailable),
        (Garble(b"{}", "text/plain"), ChatUnavailable),
        (Garble(b"\xff\xfe", "application/json"), ChatUnavailable),
        (Garble(status=502), ChatUnavailable),
        (Oversize(), ChatUnavailable),
        (Fail(400, 4), ChatRejected),
        (Fail(401, 5), ChatRejected),
        (Fail(401, 43), ChatRejected),
        (Fail(403, 17), ChatRejected),
        (Fail(413, 22), ChatRejected),
        (Garble(status=404), ChatRejected),
    ],
    ids=str,
)
async def test_each_failure_is_final_or_worth_a_retry_and_nothing_else_comes_out(
    chat: Chat, service: StreamServer, fault: object, kind: type[Exception]
) -> None:
    service.faults.on("POST", "/users", fault)  # type: ignore[arg-type]
    with pytest.raises(kind) as caught:
        await chat.upsert_users(people("ada"))
    assert type(caught.value) is kind
    await chat.upsert_users(people("ada"))
    assert set(service.users) == {"ada"}


async def test_no_redirect_is_followed(chat: Chat, service: StreamServer) -> None:
    async with stream_server() as elsewhere:
        service.faults.on("*", "*", Redirect(f"{elsewhere.base_url}/users"))
        with pytest.raises(ChatRejected):
            await chat.upsert_users(people("ada"))
        assert elsewhere.calls == []
        assert len(service.calls) == 1


async def test_an_answer_of_a_mebibyte_is_read_and_a_larger_one_is_not(
    chat: Chat, service: StreamServer
) -> None:
    service.faults.on("POST", "/users", Oversize(1024 * 1024 - 200))
    await chat.upsert_users(people("ada"))
    service.faults.on("POST", "/users", Oversize(1024 * 1024 + 1))
    with pytest.raises(ChatUnavailable):
        await chat.upsert_users(people("ada"))


async def test_a_wait_the_service_asks_for_is_passed_on(chat: Chat, service: StreamServer) -> None:
    async def wait_after(fault: Fail) -> float | None:
        service.faults.on("POST", "/users", fault)
        with pytest.raises(ChatUnavailable) as caught:
            await chat.upsert_users(people("ada"))
        return caught.value.retry_after_s

    limited = await wait_after(rate_limited(40))
    assert limited is not None and 37 <= limited <= 40
    assert await wait_after(Fail(503, 0, (("retry-after", "7"),))) == 7
    assert await wait_after(Fail(503, 0, (("retry-after", "999999"),))) == 900
    assert await wait_after(Fail(503, 0, (("retry-after", "-5"),))) is None
    assert await wait_after(Fail(503, 0, (("retry-after", "soon"),))) is None
    dated = await wait_after(Fail(503, 0, (("retry-after", httpx_date(time.time() + 30)),)))
    assert dated is not None and 27 <= dated <= 30
    # Every answer carries the reset time; it says nothing about a failure that is no rate limit.
    assert await wait_after(Fail(500)) is None


def httpx_date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


async def test_no_call_lasts_longer_than_ten_seconds_nor_a_connection_attempt_than_three(
    chat: Chat, service: StreamServer
) -> None:
    with socket.socket() as full:
        # A listener whose queue is full answers no further attempt, as a dead machine would not.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queued = [socket.socket() for _ in range(4)]
        for one in queued:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        dead = open_chat(
            ChatSettings(f"http://127.0.0.1:{full.getsockname()[1]}", "key", service.settings.secret)
        )

        async def seconds(client: Chat) -> float:
            started = time.monotonic()
            with pytest.raises(ChatUnavailable):
                await client.channel_type_differences()
            return time.monotonic() - started

        service.faults.on("GET", "/channeltypes", Drip())
        dripping, unreachable = await asyncio.gather(seconds(chat), seconds(dead))
        await dead.aclose()
        for one in queued:
            one.close()
    assert 9.5 <= dripping <= 11.5
    assert 2.5 <= unreachable <= 4.5


async def test_names_that_could_reach_another_resource_are_refused_before_any_call(
    chat: Chat, service: StreamServer
) -> None:
    for kind, name in (
        ("a/b", "x"),
        (SPACE, "../x"),
        (SPACE, "x?y"),
        (SPACE, ""),
        (SPACE, "x" * 65),
        ("", "x"),
    ):
        with pytest.raises(ChatRejected):
            await chat.delete_channel(kind, name)
        with pytest.raises(ChatRejected):
            await chat.list_member_ids(kind, name)
        with pytest.raises(ChatRejected):
            await chat.converge_channel(ChannelWanted(kind, name, "n", None, "ada", {}))
    for members in ({"a/b": MEMBER}, {"ada": "admin"}):
        with pytest.raises(ChatRejected):
            await chat.converge_channel(ChannelWanted(SPACE, "s1", "n", None, "ada", members))
        with pytest.raises(ChatRejected):
            await chat.place_members(SPACE, "s1", members)
    with pytest.raises(ChatRejected):
        await chat.delete_user("a b")
    assert service.calls == []


# Settings and secrets.


def test_settings_that_cannot_work_are_refused() -> None:
    good = ChatSettings("https://chat.test", "key", Secret("s" * 32))
    for bad in (
        ChatSettings(good.base_url, good.api_key, Secret("s" * 31)),
        ChatSettings(good.base_url, "", good.secret),
        ChatSettings("chat.test", good.api_key, good.secret),
        ChatSettings("ftp://chat.test", good.api_key, good.secret),
        ChatSettings("https://me:pw@chat.test", good.api_key, good.secret),
        ChatSettings("https://chat.test?x=1", good.api_key, good.secret),
        ChatSettings("https://chat.test:port", good.api_key, good.secret),
    ):
        with pytest.raises(ValueError) as caught:
            open_chat(bad)
        assert "sss" not in str(caught.value) and "pw" not in str(caught.value)


async def test_a_wrong_key_or_secret_is_final(service: StreamServer) -> None:
    for api_key, secret in (("other", service.secret), (service.api_key, "x" * 40)):
        wrong = open_chat(ChatSettings(service.base_url, api_key, Secret(secret)))
        with pytest.raises(ChatRejected) as caught:
            await wrong.upsert_users(people("ada"))
        assert caught.value.status == 401
        await wrong.aclose()
    assert service.users == {}


async def test_no_secret_or_token_is_in_a_repr_an_error_or_a_log(
    service: StreamServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    chat = open_chat(service.settings)
    token = chat.user_token("ada", NOW)
    texts = [repr(service.settings), repr(chat), repr(token), str(token), repr(token.__rich_repr__())]
    for fault in (Fail(500), Fail(401, 43), Die(), Oversize(), Garble(), Redirect("http://127.0.0.1:9/")):
        service.faults.on("POST", "/users", fault)
        try:
            await chat.upsert_users(people("ada"))
        except (ChatRejected, ChatUnavailable) as error:
            texts += [repr(error), "".join(traceback.format_exception(error))]
            assert error.__cause__ is None and error.__context__ is None
    await chat.aclose()
    with pytest.raises(ValueError) as caught:
        open_chat(ChatSettings(service.base_url, "key", Secret("short-secret")))
    texts += [str(caught.value), caplog.text]

    server_token = jwt.encode({"server": True}, service.secret, algorithm="HS256")
    assert len(texts) == 5 + 2 * 6 + 2 and "HTTP Request" in caplog.text
    for text in texts:
        for hidden in (service.secret, server_token, server_token.split(".")[2], token.token, "short-secret"):
            assert hidden not in text
