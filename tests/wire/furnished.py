"""A community and a hub with one of everything in them, so that every route has something to act on."""

from typing import Any
from uuid import UUID

from guildhall.db import new_id
from guildhall.dreams.jobs import DreamAsked, dream
from guildhall.web.openapi import API, V1, Operation, describe, operations
from guildhall.wiring import ROUTES
from tests.world import Person, World

# A stream of events has no end to wait for; tests of its own read it.
NO_FILE = "aa/00000000000000000000000000000000.png"
OPERATIONS = [operation for operation in operations(ROUTES) if operation.media != "text/event-stream"]
DOCUMENTS = {surface.prefix: describe(ROUTES, surface) for surface in (API, V1)}


def described(operation: Operation) -> dict[str, Any] | None:
    """The operation in the published document, if it is in one."""
    for document in DOCUMENTS.values():
        for methods in document["paths"].values():
            for method, written in methods.items():
                if (written["operationId"], method) == (operation.name, operation.method.lower()):
                    return written
    return None


class Furnished:
    """`ada` owns everything; `bo` is a member. `named` are the values of path parameters and body fields of
    the one surface, `of_hubs` those of the other where they differ."""

    def __init__(self, ada: Person, bo: Person, named: dict[str, Any], of_hubs: dict[str, Any]) -> None:
        self.ada = ada
        self.bo = bo
        self.named = named
        self.of_hubs = of_hubs

    def names(self, path: str) -> dict[str, Any]:
        return self.named | self.of_hubs if path.startswith("/v1/") else self.named

    def path(self, operation: Operation) -> str:
        path = operation.path.replace(":str}", "}").replace("{name:path}", NO_FILE)
        return path.format_map(_Named(self.names(path)))

    def body(self, operation: Operation) -> dict[str, Any]:
        """The body of the document's example, about what is here."""
        written = described(operation)
        assert written is not None
        example = written["requestBody"]["content"]["application/json"]["example"]
        known = self.names(operation.path)
        return {name: known.get(name, value) for name, value in example.items()}


class _Named(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "01234567-89ab-7cde-8f01-23456789abcd"


async def furnish(world: World) -> Furnished:
    ada, bo = await world.people("ada", "bo")
    community = await world.community(ada, members=[bo])
    here = {"communityId": community.id}
    item = {"title": "Search", "type": "feature", "priority": "low", "session": "api"}
    group = (await ada.post("/api/groups", {**here, "name": "Growers"})).ok(201)
    (await ada.post(f"/api/groups/{group['id']}", {"targetUserId": bo.id})).ok(201)
    post = (await ada.post("/api/posts", {**here, "content": "Seeds"})).ok(201)
    invite = (await ada.post(f"{community.url}/invite", {"email": "eve@example.org"})).ok(201)
    backlog = (await ada.post("/api/backlog", item)).ok(201)
    hub = await world.hub(ada, contributors=[bo])
    guest = {"email": "fay@example.org", "role": "viewer"}
    hub_invite = (await ada.post(f"/v1/hubs/{hub.id}/invites", guest)).ok(201)["data"]
    memory = (await ada.post("/v1/memories", {"content": "Beans climb."})).ok(201)["data"]
    topic = (await ada.post("/v1/topics", {"name": "Beans"})).ok(201)["data"]
    run = new_id()
    await dream(world.house.work, DreamAsked(run_id=run, space_id=UUID(hub.id)))
    key = (await ada.post("/v1/auth/api-keys", {"name": "notes", "agent_name": "scout"})).ok(201)["data"]
    named = {
        "community_id": community.id,
        "communityId": community.id,
        "group_id": group["id"],
        "groupId": group["id"],
        "post_id": post["id"],
        "item_id": backlog["id"],
        "invite_id": invite["id"],
        "token": invite["token"],
        "user_id": ada.id,
        "targetUserId": bo.id,
        "attachments": [],
        "avatarUrl": None,
        "logoUrl": None,
        "coverImageUrl": None,
    }
    of_hubs = {
        "hub_id": hub.id,
        "user_id": bo.id,
        "target_user_id": bo.id,
        "invite_id": hub_invite["id"],
        "token": hub_invite["token"],
        "key_id": key["id"],
        "memory_id": memory["id"],
        "topic_id": topic["id"],
        "run_id": str(run),
        "target_hub_id": hub.id,
        "agent_name": "scout",
    }
    return Furnished(ada, bo, named, of_hubs)
