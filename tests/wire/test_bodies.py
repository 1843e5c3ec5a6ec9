"""JSON as nobody should send it: refused with 400, every bad field named, nothing coerced, nothing stored."""

import time
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from guildhall.web.openapi import Operation
from tests.wire.furnished import DOCUMENTS, OPERATIONS, described, furnish
from tests.world import Reply, World

NOT_JSON = {
    "cut off": b'{"name": "Garden',
    "open arrays": b"[" * 200_000,
    "open objects": b'{"a":' * 40_000,
    "33 deep": b'{"name": "Gardeners", "x": ' + b"[" * 32 + b"]" * 32 + b"}",
    "201 keys": b"{" + b",".join(b'"k%d": 1' % n for n in range(201)) + b"}",
    "1001 items": b'{"name": "Gardeners", "x": [' + b"1," * 1000 + b"1]}",
    "21 digits": b'{"name": "Gardeners", "x": ' + b"1" * 21 + b"}",
    "a long fraction": b'{"name": "Gardeners", "x": 0.' + b"1" * 20 + b"}",
    "NaN": b'{"name": "Gardeners", "x": NaN}',
    "Infinity": b'{"name": "Gardeners", "x": -Infinity}',
    "infinite by size": b'{"name": "Gardeners", "x": 1e999}',
    "a key twice": b'{"name": "Gardeners", "name": "Others"}',
    "a key twice, deep": b'{"name": "Gardeners", "x": [{"y": 1, "y": 1}]}',
    "a key twice, escaped": b'{"name": "Gardeners", "n\\u0061me": "Others"}',
    "half a surrogate": b'{"name": "Garden\\ud800ers"}',
    "surrogates the wrong way round": b'{"name": "Garden\\udc00\\ud800ers"}',
    "half a surrogate in a key": b'{"name": "Gardeners", "\\ud800": 1}',
    "U+0000": b'{"name": "Garden\\u0000ers"}',
    "U+0000 in a key": b'{"name": "Gardeners", "x": {"\\u0000": 1}}',
    "a control character": b'{"name": "Garden\ners"}',
    "a byte order mark": b'\xef\xbb\xbf{"name": "Gardeners"}',
    "UTF-16": '{"name": "Gardeners"}'.encode("utf-16"),
    "Latin-1": '{"name": "Gärtner"}'.encode("latin-1"),
    "overlong UTF-8": b'{"name": "Garden\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"name": "Garden\xed\xa0\x80"}',
    "beyond Unicode": b'{"name": "Garden\xf4\x90\x80\x80"}',
    "something after it": b'{"name": "Gardeners"} {}',
    "a comma at the end": b'{"name": "Gardeners",}',
    "a comment": b'{"name": "Gardeners" /* ! */}',
    "single quotes": b"{'name': 'Gardeners'}",
    "no quotes": b"{name: 1}",
    "a number with a leading zero": b'{"name": "Gardeners", "x": 01}',
    "a bare word": b'{"name": True}',
    "an array": b'[{"name": "Gardeners"}]',
    "a text": b'"Gardeners"',
    "null": b"null",
    "white space": b"   ",
    "a pile of marks out of order": '{{"name": "a{}{}"}}'.format(
        "\u0301" * 42_000, "\u0323" * 42_000
    ).encode(),
    "a pile of marks in another field": '{{"x": ["{}"]}}'.format("\u0f73\u0f71" * 40_000).encode(),
    "31 marks on a letter": '{{"name": "a{}"}}'.format("\u0301" * 31).encode(),
    "gzip": bytes.fromhex(
        "1f8b080000000000000003ab56ca4bcc4d55b252724f2c4a49cd4b2d2a56aa050049ec1f2714000000"
    ),
}


async def send(world: World, operation: Operation, path: str, raw: bytes, token: str | None) -> Reply:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    return Reply(await world.client.request(operation.method, path, content=raw, headers=headers))


@pytest.mark.parametrize("raw", NOT_JSON.values(), ids=list(NOT_JSON))
async def test_what_is_not_one_plain_json_object_is_refused(world: World, raw: bytes) -> None:
    ada = await world.person("ada")
    for path in ("/api/communities", "/api/backlog", f"/api/members/{ada.id}/profile"):
        method = "PATCH" if path.endswith("profile") else "POST"
        began = time.process_time()
        answer = await ada.call(method, path, content=raw, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.fields) == (400, {"": "invalid_json"}), answer
        # None holds up the others, who wait for the same process.
        assert time.process_time() - began < 2
    assert (await ada.get("/api/communities")).ok()["items"] == []


async def test_the_deepest_widest_and_longest_that_is_allowed_is_read(world: World) -> None:
    ada = await world.person("ada")
    for extra in (
        b"[" * 31 + b"]" * 31,
        b"{" + b",".join(b'"k%d": 1' % n for n in range(200)) + b"}",
        b"[" + b"1," * 999 + b"1]",
        b"1" * 20,
        b'"\\ud83c\\udf45"',
        '"{}"'.format(("a" + "\u0301" * 30) * 3_000).encode(),
    ):
        raw = b'{"name": "Gardeners", "x": ' + extra + b"}"
        (await ada.call("POST", "/api/communities", content=raw, headers=JSON)).ok(201)


JSON = {"Content-Type": "application/json"}
WITH_BODY = [operation for operation in OPERATIONS if operation.body is not None]


@pytest.mark.parametrize("operation", WITH_BODY, ids=lambda operation: operation.name)
async def test_every_field_refuses_every_type_but_its_own_by_name(world: World, operation: Operation) -> None:
    home = await furnish(world)
    path, good = home.path(operation), home.body(operation)
    written = described(operation)
    assert written is not None
    prefix = "/" + path.split("/")[1]
    schema = written["requestBody"]["content"]["application/json"]["schema"]
    component = DOCUMENTS[prefix]["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    tried = 0
    for name, field in component["properties"].items():
        whole = {**field, "components": DOCUMENTS[prefix]["components"]}
        right = jsonschema_rs.Draft202012Validator(whole)
        for wrong in WRONG:
            if right.is_valid(wrong):
                continue
            tried += 1
            answer = await home.ada.call(operation.method, path, {**good, name: wrong})
            assert answer.status == 400, (name, wrong, answer)
            assert list(fields(answer)) == [f"/{name}"], (name, wrong, answer)
    assert tried >= len(component["properties"])

    # All of them at once, and nothing of it kept. An object is right where objects go.
    plain = [name for name, field in component["properties"].items() if not _holds_objects(field)]
    answer = await home.ada.call(operation.method, path, {name: {"x": []} for name in plain})
    assert fields(answer).keys() == {f"/{name}" for name in plain}
    # What must be there is missed by name as well.
    answer = await home.ada.call(operation.method, path, content=b"{}", headers=JSON)
    if component.get("required"):
        assert fields(answer) == {f"/{name}": "required" for name in component["required"]}


async def test_what_only_the_service_can_judge_is_named_with_the_rest(world: World) -> None:
    home = await furnish(world)
    community, post = f"/api/communities/{home.named['community_id']}", f"/api/posts/{home.named['post_id']}"
    elsewhere = "https://elsewhere.example/x.png"
    for method, path, body, wrong in (
        ("POST", "/api/communities", {"name": "A", "slug": "xn--abc"}, {"/name", "/slug"}),
        ("POST", "/api/communities", {"name": "A", "slug": "018f0000-0000-abc"}, {"/name", "/slug"}),
        (
            "PATCH",
            community,
            {"name": "A", "logoUrl": elsewhere, "coverImageUrl": elsewhere, "slug": "xn--abc"},
            {"/name", "/logoUrl", "/coverImageUrl", "/slug"},
        ),
        (
            "POST",
            "/api/posts",
            {"communityId": home.named["community_id"], "content": "", "attachments": [elsewhere] * 2},
            {"/content", "/attachments/0", "/attachments/1"},
        ),
        ("PATCH", post, {"content": "", "attachments": [elsewhere]}, {"/content", "/attachments/0"}),
        (
            "PATCH",
            f"/api/members/{home.ada.id}/profile",
            {"displayName": "A", "avatarUrl": elsewhere},
            {"/displayName", "/avatarUrl"},
        ),
        (
            "POST",
            f"{community}/ownership-transfer",
            {"targetUserId": home.ada.id},
            {"/targetUserId"},
        ),
    ):
        answer = await home.ada.call(method, path, body)
        assert (answer.status, answer.fields.keys()) == (400, wrong), answer


def _holds_objects(field: dict[str, Any]) -> bool:
    return field.get("type") == "object" or "$ref" in field


WRONG: list[Any] = [
    "",
    "\u202e",
    "false",
    "1",
    "x" * 20_000,
    -1,
    0,
    1,
    1.5,
    2**63,
    True,
    False,
    None,
    [],
    [None],
    {},
]


def fields(answer: Reply) -> dict[str, str]:
    """The bad fields of a refusal, on either surface."""
    body = answer.json
    errors = body["error"].get("details", {}).get("errors", []) if "error" in body else body.get("errors", [])
    return {item["pointer"]: item["code"] for item in errors}


async def test_ids_owners_and_times_in_a_body_are_nobodys_to_set(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    forged = {
        "id": "01234567-89ab-7cde-8f01-23456789abcd",
        "ownerId": bo.id,
        "createdBy": bo.id,
        "author": {"id": bo.id},
        "authorId": bo.id,
        "createdAt": "1970-01-01T00:00:00Z",
        "memberCount": 10_000,
        "streamChannelId": "other",
        "emailVerified": True,
        "email": bo.email,
        "status": "suspended",
        "__proto__": {"isPinned": True},
        "constructor": {},
    }
    community = (await ada.post("/api/communities", {"name": "Gardeners", **forged})).ok(201)
    here = {"communityId": community["id"]}
    group = (await ada.post("/api/groups", {"name": "Growers", **forged, **here})).ok(201)
    post = (await ada.post("/api/posts", {"content": "Seeds", **forged, **here})).ok(201)
    profile = (await ada.patch(f"/api/members/{ada.id}/profile", {"bio": "Grows", **forged})).ok()
    for made in (community, group, post):
        assert made["id"] != forged["id"]
        assert made["createdAt"] > "2000"
    assert (community["ownerId"], community["memberCount"]) == (ada.id, 1)
    assert (group["createdBy"], post["author"]["id"], post["isPinned"]) == (ada.id, ada.id, False)
    assert (profile["id"], profile["email"]) == (ada.id, ada.email)
    # Nor does a change set them.
    for path, made in (
        (f"/api/communities/{community['id']}", community),
        (f"/api/groups/{group['id']}", group),
        (f"/api/posts/{post['id']}", post),
    ):
        changed = (await ada.patch(path, forged)).ok()
        assert {**changed, "updatedAt": None} == {**made, "updatedAt": None}


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/vnd.api+json",
        "application/json, text/plain",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/json; charset=utf-8; charset=utf-16",
        "application/xml",
        "*/*",
        "",
    ],
)
async def test_a_body_is_application_json_in_utf_8_and_nothing_else(world: World, kind: str) -> None:
    ada = await world.person("ada")
    body = msgspec.json.encode({"name": "Gardeners"})
    for operation in WITH_BODY:
        path = operation.path.replace("{", "").replace("}", "").replace(":str", "")
        answer = await ada.call(operation.method, path, content=body, headers={"Content-Type": kind})
        assert (answer.status, answer.error) == (415, "unsupported_media_type"), operation.path
    if kind.startswith(("text/plain", "application/x-www", "multipart")):
        # A page elsewhere can send these without being asked whether it may, also with nothing in them.
        answer = await ada.call("POST", "/api/users/sync", headers={"Content-Type": kind})
        assert answer.error == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
async def test_json_may_be_called_by_all_its_names(world: World, kind: str) -> None:
    ada = await world.person("ada")
    body = msgspec.json.encode({"name": "Gärtner 🍅"})
    made = await ada.call("POST", "/api/communities", content=body, headers={"Content-Type": kind})
    assert made.ok(201)["name"] == "Gärtner 🍅"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("q=%FF", {"?q": "encoding"}),
        ("q=%ED%A0%80&status=%C0%AF", {"?q": "encoding", "?status": "encoding"}),
        ("%FF=1", {"?\ufffd": "encoding"}),
        ("page=1&page=2", {"?page": "repeated"}),
        ("status=open&st%61tus=done", {"?status": "repeated"}),
        (
            "page=0&limit=0&status=closed&type=x",
            {f"?{name}": "invalid" for name in ("page", "limit", "status", "type")},
        ),
        ("page=1.5", {"?page": "invalid"}),
        ("page=1e1&limit=1.0", {"?page": "invalid", "?limit": "invalid"}),
        ("page=null&status=null&type=NULL", {"?page": "invalid", "?status": "invalid", "?type": "invalid"}),
        ("limit=101", {"?limit": "invalid"}),
        ("limit=%D9%A3", {"?limit": "invalid"}),
        ("page=99999999999999999999999999", {"?page": "invalid"}),
        ("page=", {"?page": "invalid"}),
        ("page=1001&limit=100", {"?page": "too_deep"}),
        ("q=%E2%80%AE", {"?q": "character"}),
        ("cursor=x", {"?cursor": "invalid_cursor"}),
    ],
)
async def test_every_bad_parameter_is_named(world: World, query: str, fields: dict[str, str]) -> None:
    answer = await world.nobody.get(f"/api/backlog?{query}")
    assert (answer.status, answer.fields) == (400, fields), answer


async def test_what_a_query_may_hold_is_taken_as_it_is_meant(world: World) -> None:
    for query in (
        "q=%zz",
        "q=%25_%5C",
        "q=a+b%2Bc",
        "q=%F0%9F%8D%85",
        "unknown=1",
        "&&=&",
        "q",
        "q=';DROP TABLE users--",
    ):
        (await world.nobody.get(f"/api/backlog?{query}")).ok(200)
    assert (await world.nobody.get("/api/backlog?q=%00")).error == "invalid"
