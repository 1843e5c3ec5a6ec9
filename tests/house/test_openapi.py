"""The published description says what is served, and every example in it could have been sent."""

import inspect
import json
import secrets
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from litestar.params import ParameterKwarg

from guildhall.web.app import build_app
from guildhall.web.openapi import SURFACES, Surface, describe, handlers_of, operations, refusals
from guildhall.web.samples import BY_NAME
from guildhall.wiring import ROUTES
from tests.house.refresh import path_of, text_of
from tests.world import Person, World, open_world

on_both_surfaces = pytest.mark.parametrize("surface", SURFACES, ids=lambda s: s.prefix)


def each_operation(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


@on_both_surfaces
def test_the_kept_document_is_the_one_the_code_makes(surface: Surface) -> None:
    assert path_of(surface).read_text("utf-8") == text_of(surface), "Run `make openapi` and look at the diff."


@on_both_surfaces
def test_the_document_is_openapi(surface: Surface) -> None:
    schemathesis.openapi.from_dict(describe(ROUTES, surface)).validate()


@on_both_surfaces
def test_what_is_described_is_what_is_served(surface: Surface) -> None:
    assert describe(handlers_of(build_app(ROUTES)), surface) == describe(ROUTES, surface)


def test_every_route_under_the_two_prefixes_is_described() -> None:
    described = sum(len(operations(ROUTES, s.prefix + "/")) for s in SURFACES)
    elsewhere = [o.path for o in operations(ROUTES) if not o.path.startswith(("/api/", "/v1/"))]
    assert described + len(elsewhere) == len(operations(ROUTES))


@on_both_surfaces
def test_every_operation_is_described_in_full(surface: Surface) -> None:
    document = describe(ROUTES, surface)
    names = [operation["operationId"] for _, operation in each_operation(document)]
    assert len(names) == len(set(names))
    for where, operation in each_operation(document):
        assert operation["summary"] and not operation["summary"].endswith("."), where
        for parameter in operation.get("parameters", []):
            assert parameter["description"] and "example" in parameter, (where, parameter["name"])
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["example"], where
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                assert content["schema"], f"{where} {status}: say its shape with facts(answers=…)"
        assert any(int(status) < 400 for status in operation["responses"]), where
        assert {"429", "503"} <= operation["responses"].keys() or where.endswith("/health"), where


@on_both_surfaces
def test_every_example_is_valid(surface: Surface) -> None:
    document = describe(ROUTES, surface)
    problems: list[str] = []

    def check(where: str, schema: dict[str, Any], value: Any) -> None:
        whole = {**schema, "components": document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
        problems.extend(f"{where}: {error.message} in {value!r}" for error in validator.iter_errors(value))

    for where, operation in each_operation(document):
        for parameter in operation.get("parameters", []):
            check(f"{where} ?{parameter['name']}", parameter["schema"], parameter["example"])
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]
            check(f"{where} body", body["schema"], body["example"])
        for status, answer in operation["responses"].items():
            for content in answer.get("content", {}).values():
                examples = content.get("examples", {}).values()
                shown = [content["example"]] if "example" in content else []
                for example in examples:
                    if "$ref" in example:
                        example = document["components"]["examples"][example["$ref"].rpartition("/")[2]]
                    shown.append(example["value"])
                for value in shown:
                    check(f"{where} {status}", content["schema"], value)
    for name, component in document["components"]["schemas"].items():
        for field, schema in component.get("properties", {}).items():
            for value in schema.get("examples", []):
                check(f"{name}.{field}", schema, value)
    assert not problems, "\n".join(problems)


@on_both_surfaces
def test_an_example_of_a_refusal_carries_its_own_code(surface: Surface) -> None:
    document = describe(ROUTES, surface)
    for code, example in document["components"]["examples"].items():
        body = example["value"]
        assert (body["error"]["code"] if "error" in body else body["code"]) == code


def test_no_two_refusals_of_an_operation_share_a_code_but_not_a_status() -> None:
    for operation in operations(ROUTES):
        codes = {kind.code: kind.status for kind in refusals(operation)}
        assert all(codes[kind.code] == kind.status for kind in operation.refusals), operation.name


def test_handlers_that_hear_if_none_match_say_so() -> None:
    for handler in ROUTES:
        uses = "not_modified(" in inspect.getsource(inspect.unwrap(handler.fn))
        assert not uses or handler.opt["etag"], handler.fn


async def test_the_document_is_served_with_an_etag(world: World) -> None:
    for surface in SURFACES:
        answer = await world.nobody.get(f"{surface.prefix}/openapi.json")
        assert answer.ok() == describe(ROUTES, surface)
        again = await world.nobody.get(
            f"{surface.prefix}/openapi.json", headers={"If-None-Match": answer.headers["etag"]}
        )
        assert (again.status, again.response.content) == (304, b"")


async def test_the_document_is_hidden_where_the_operator_says_so(world: World) -> None:
    hidden = msgspec.structs.replace(world.house.settings, docs=False)
    async with open_world(hidden) as closed:
        for surface in SURFACES:
            assert (await closed.nobody.get(f"{surface.prefix}/openapi.json")).error == "not_found"


def test_starting_does_not_wait_for_the_document() -> None:
    """Building the application makes no document; making one takes a moment that nobody notices."""
    code = (
        "import guildhall.web.openapi as o\n"
        "def refuse(*_): raise AssertionError\n"
        "o.describe = refuse\n"
        "from guildhall import wiring\n"
        "from guildhall.web.app import build_app\n"
        "build_app(wiring.ROUTES)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    fastest = min(_time_to_describe() for _ in range(5))
    assert fastest < 0.5


def _time_to_describe() -> float:
    started = time.process_time()
    for surface in SURFACES:
        describe(ROUTES, surface)
    return time.process_time() - started


def test_no_limit_of_a_parameter_is_lost_in_a_union() -> None:
    """The framework checks `Annotated[int | None, …]` and overlooks `Annotated[int, …] | None`."""
    for handler in ROUTES:
        for name, hint in get_type_hints(inspect.unwrap(handler.fn), include_extras=True).items():
            if get_origin(hint) in (Union, types.UnionType):
                lost = [item for part in get_args(hint) for item in getattr(part, "__metadata__", ())]
                assert not any(isinstance(item, ParameterKwarg) for item in lost), (handler.fn, name)


# What an example names is there, by these names; each call has a world of its own.
HUB, MEMORY, TOPIC = (BY_NAME[name] for name in ("hubId", "memoryId", "topicId"))
BO, CY = BY_NAME["userId"], BY_NAME["targetUserId"]
# Where the example is of a secret that the service has not given out, it says so, and does not miss anything.
UNKNOWN = {
    "exchange_code": (401, "invalid_code"),
    "refresh_tokens": (401, "invalid_token"),
    "verify_code": (400, "code_expired"),
}


async def furnished(world: World) -> tuple[Person, dict[str, str], dict[str, str]]:
    """Somebody with one of everything, what examples call each of these, and what paths do."""
    ada, bo, cy = await world.people("ada", "bo", "cy")
    hub = await world.hub(ada, contributors=[cy])
    at = {"X-Hub-ID": hub.id}
    topic = (await ada.post("/v1/topics", {"name": f"Soil {hub.id}"}, headers=at)).data(201)["id"]
    memory = (await ada.post("/v1/memories", {"content": "Seeds need warmth."}, headers=at)).data(201)["id"]
    key = await ada.post("/v1/auth/api-keys", {"name": "k", "agent_name": "claude-code"})
    (await cy.post("/v1/hubs", {"name": "x", "slug": f"x-{secrets.token_hex(6)}"})).data(201)
    mine = await world.hub(cy)
    (await cy.post(f"{mine.url}/invites", {"invitee": {"user_id": ada.id}})).data(201)
    (row,) = (await ada.get("/v1/notifications?kind=hub_invite")).data()["notifications"]
    named = {HUB: hub.id, MEMORY: memory, TOPIC: topic, BO: bo.id, CY: cy.id}
    named |= {"rust-gardeners": f"rust-{secrets.token_hex(6)}", "bo@example.org": bo.email}
    paths = {"hub_id": hub.id, "memory_id": memory, "topic_id": topic, "user_id": cy.id}
    paths |= {"agent_name": "claude-code", "key_id": key.data(201)["id"]}
    return ada, named, paths | {"notification_id": row["id"]}


V1 = next(surface for surface in SURFACES if surface.prefix == "/v1")
SENT = [
    (where, operation)
    for where, operation in each_operation(describe(ROUTES, V1))
    if "requestBody" in operation
]


@pytest.mark.parametrize(("where", "operation"), SENT, ids=[where for where, _ in SENT])
async def test_an_example_of_a_request_is_taken_by_the_service(
    world: World, where: str, operation: dict[str, Any]
) -> None:
    ada, named, paths = await furnished(world)
    if "{run_id}" in where:
        at = {"X-Hub-ID": paths["hub_id"]}
        assert (await ada.post("/v1/dreams/trigger", {}, headers=at)).status < 300
        await world.drain()
        paths["run_id"] = (await ada.get("/v1/dreams", headers=at)).data()["runs"][0]["id"]
    body = json.dumps(operation["requestBody"]["content"]["application/json"]["example"])
    for example, real in named.items():
        body = body.replace(f'"{example}"', f'"{real}"')
    method, path = where.split()
    who = world.nobody if operation["security"] == [] else ada
    reply = await who.call(method, path.format(**paths), json.loads(body))
    if operation["operationId"] in UNKNOWN:
        assert (reply.status, reply.error) == UNKNOWN[operation["operationId"]]
    else:
        assert reply.status < 300, (body, reply)


def test_examples_of_requests_say_what_a_word_may_be() -> None:
    schemas = describe(ROUTES, V1)["components"]["schemas"]

    def words(shape: str, field: str) -> set[str]:
        schema = schemas[shape]["properties"][field]
        schema = next((s for s in schema.get("anyOf", ()) if s.get("type") != "null"), schema)
        return set(schema.get("items", schema)["enum"])

    assert {"admin", "contributor", "viewer"} < words("AddMember", "role")
    assert words("CreateInvite", "role") == words("AddMember", "role") and "owner" not in words(
        "AddMember", "role"
    )
    assert {"violet", "slate", ""} < words("UpdateHub", "accent")
    assert words("UpdateHub", "contributor_delete_policy") == {"none", "own", "any"}
    assert "german" in words("UpdateHub", "language")
    assert words("CreateKey", "trust_level") == {"public", "standard", "elevated", "admin"}
    assert {"read", "organize", "hub:manage"} < words("CreateKey", "scopes")


def test_what_every_answer_of_hubs_has_and_only_some_requests_is_said_there() -> None:
    document = describe(ROUTES, V1)
    rates = {f"X-RateLimit-{name}" for name in ("Limit", "Remaining", "Reset")}
    for where, operation in each_operation(document):
        for status, answer in operation["responses"].items():
            told = status == "429" or int(status) < 400
            assert (rates <= answer["headers"].keys()) is told, (where, status)
        keyed = any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", []))
        heard = where.startswith("POST") and operation["operationId"] not in UNKNOWN
        assert keyed == heard and ("422" in operation["responses"]) == heard, where
        if "requestBody" in operation:
            optional = operation["operationId"] in {
                "create_hub_invite",
                "see_all",
                "dismiss_all",
                "undo_dream",
            }
            assert operation["requestBody"]["required"] is not optional, where
    (told,) = document["paths"]["/v1/events/stream"]["get"]["responses"]["200"]["content"].values()
    event = document["components"]["schemas"][told["schema"]["contentSchema"]["$ref"].rpartition("/")[2]]
    assert "hub.members.changed" in event["properties"]["type"]["enum"]
    name, data = told["example"].rstrip().split("\n")
    assert name == "event: " + json.loads(data.removeprefix("data: "))["type"]
