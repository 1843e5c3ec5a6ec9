"""Examples for the documentation: values a reader could have met, made from schemas and field names.

A field's own example (`Meta(examples=[…])`) goes first. Names mean the same in every shape of both APIs,
so that a name alone says what a value may look like.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MOMENT = "2026-03-01T09:30:00.000Z"
LATER = "2026-03-08T09:30:00.000Z"

# By the camelCase name of a field or parameter.
BY_NAME: Mapping[str, Any] = {
    "id": "0195e3a0-7c1e-7a42-9d3b-5f0c8e1a2b34",
    "userId": "user_2abc9Kq",
    "ownerId": "user_2abc9Kq",
    "createdBy": "user_2abc9Kq",
    "invitedBy": "user_2abc9Kq",
    "initiatedBy": "user_2abc9Kq",
    "targetUserId": "user_7xyz4Lm",
    "communityId": "0195e3a0-7c1e-7a42-9d3b-5f0c8e1a2b34",
    "hubId": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
    "groupId": "0195e3a2-4f6d-7b58-b0c1-2d3e4f5a6b7c",
    "postId": "0195e3a3-9a7b-7c69-a1d2-3e4f5a6b7c8d",
    "inviteId": "0195e3a4-b8c9-7d7a-92e3-4f5a6b7c8d9e",
    "transferId": "0195e3a5-cdea-7e8b-83f4-5a6b7c8d9eaf",
    "memoryId": "0195e3a6-d0fb-7f9c-b405-6b7c8d9eafb0",
    "topicId": "0195e3a7-e11c-70ad-a516-7c8d9eafb0c1",
    "requestId": "0195e3a81f2d71be9627d8eafb0c1d2e",
    "name": "Rust Gardeners",
    "displayName": "Ada Lovelace",
    "communityName": "Rust Gardeners",
    "inviterName": "Ada Lovelace",
    "slug": "rust-gardeners",
    "email": "bo@example.org",
    "phoneNumber": "+49 30 1234567",
    "bio": "Grows tomatoes, writes compilers.",
    "description": "People who grow things and write Rust.",
    "title": "Seeds to share",
    "content": "I have **tomato seeds** to share. Who wants some?",
    "filename": "tomatoes.jpg",
    "contentType": "image/jpeg",
    "sizeBytes": 245_760,
    "memberCount": 12,
    "page": 1,
    "limit": 20,
    "total": 1,
    "hasMore": False,
    "nextCursor": None,
    "cursor": "WyIyMDI2LTAzLTAxVDA5OjMwOjAwWiIsIjAxOTVlM2EzIl0",
    "q": "tomato",
    "token": "inv_4kTq1xWm8ZrB7cVd2nYh5sLp0gJf3uEa9oQi6tXw",
    "code": "123456",
    "streamChannelId": "0195e3a0-7c1e-7a42-9d3b-5f0c8e1a2b34",
    "streamChannelType": "guildhall-space",
    "url": "https://guildhall.example.org/blobs/0195e3a9.jpg",
    "version": "0.1.0",
    "timestamp": MOMENT,
    "hubType": "team",
    "inviteUrl": "https://guildhall.example.org/join/inv_4kTq1xWm8ZrB7cVd2nYh5sLp0gJf3uEa9oQi6tXw",
    "icon": "🌱",
    "state": "active",
    "role": "contributor",
    "roles": "contributor",
    "n": "3",
    "periodStart": "2026-03-01T00:00:00.000Z",
    "periodEnd": "2026-04-01T00:00:00.000Z",
    "lastUsed": MOMENT,
    "expiresIn": 3_600,
    "query": "Who has tomato seeds?",
    "tag": "garden",
    "plan": "hub_free_team",
    "language": "english",
    "userName": "Ada Lovelace",
    "authorName": "Ada Lovelace",
    "savedByName": "Ada Lovelace",
    "createdByDisplayName": "Ada Lovelace",
    "targetUserName": "Bo Bellman",
    "providerName": "Ada Lovelace",
    "userEmail": "ada@example.org",
    "targetUserEmail": "bo@example.org",
    "inviteeEmail": "bo@example.org",
    "agentName": "claude-code",
    "createdBySlug": "claude-code",
    "savedBy": "user_2abc9Kq",
    "decidedBy": "user_2abc9Kq",
    "hubName": "Rust Gardeners",
    "topicName": "Tomatoes",
    "headingChain": "Garden > Seeds",
    "answer": "Bo has tomato seeds to share.",
    "quote": "Bo has tomato seeds to share.",
    "snippet": "Bo has tomato seeds to share.",
    "chunkContent": "Bo has tomato seeds to share.",
    "summary": "Bo has tomato seeds to share.",
    "report": "Two memories were put into topics.",
    "reason": "Both are about tomatoes.",
    "term": "tomato",
    "source": "cli",
    "createdVia": "cli",
    "contentHash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "greetingKey": "morningCleanA",
    "hub": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
    "X-Hub-ID": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
    "X-Timezone": "Europe/Berlin",
    "since": MOMENT,
    "createdAfter": MOMENT,
    "types": "hub.memories.changed",
    "targetHubId": "0195e3a1-02b4-7d10-8a6e-1c2d3e4f5a6b",
    "expiresAt": LATER,
}

# What has not happened in most lives of a thing is null in its example.
_NOT_YET = frozenset(
    {"acceptedAt", "cancelledAt", "canceledAt", "revokedAt", "editedAt", "deletedAt", "archivedAt", "groupId"}
)


def camel(name: str) -> str:
    """`target_user_id` as `targetUserId`."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def is_moment(name: str) -> bool:
    """Whether a field of this name holds a time: such names end in `_at`."""
    return camel(name).endswith("At") or name == "timestamp"


def sample(schema: Schema, name: str, components: Mapping[str, Schema]) -> Any:
    """A value of `schema`, as a field called `name` would have it."""
    schema = _resolve(schema, components)
    if examples := schema.get("examples"):
        return examples[0]
    if "const" in schema:
        return schema["const"]
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return _sample_choice(choices, name, components)
    if "enum" in schema:
        known = BY_NAME.get(camel(name))
        return known if known in schema["enum"] else schema.get("default", schema["enum"][0])
    match schema.get("type"):
        case "object":
            return _sample_object(schema, components)
        case "array":
            return [sample(schema.get("items", {}), _singular(name), components)]
        case "string":
            return _sample_text(schema, name)
        case "integer" | "number":
            return _sample_number(schema, name)
        case "boolean":
            return BY_NAME.get(camel(name), schema.get("default", False))
        case _:
            return None


def _resolve(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    while (ref := schema.get("$ref")) is not None:
        schema = components[ref.rpartition("/")[2]]
    return schema


def _sample_choice(choices: list[Schema], name: str, components: Mapping[str, Schema]) -> Any:
    nullable = any(choice.get("type") == "null" for choice in choices)
    key = camel(name)
    if nullable and (key in _NOT_YET or BY_NAME.get(key, "") is None):
        return None
    return sample(next(choice for choice in choices if choice.get("type") != "null"), name, components)


def _sample_object(schema: Schema, components: Mapping[str, Schema]) -> Any:
    made: dict[str, Any] = {}
    for name, inner in schema.get("properties", {}).items():
        if camel(name) in _NOT_YET and name not in schema.get("required", ()):
            # What has not happened is absent.
            continue
        if _circular(inner.get("items", {}), schema, components):
            # A list of its own kind ends it.
            made[name] = []
        elif not _circular(inner, schema, components) or name in schema.get("required", ()):
            # A shape that holds its own kind ends where the field may be left out.
            made[name] = sample(inner, name, components)
    return made


def _circular(inner: Schema, outer: Schema, components: Mapping[str, Schema]) -> bool:
    items = [inner, *inner.get("anyOf", ())]
    return any("$ref" in item and _resolve(item, components) is outer for item in items)


def _sample_text(schema: Schema, name: str) -> str:
    key = camel(name)
    known = BY_NAME.get(key)
    if schema.get("format") == "uuid":
        return known if isinstance(known, str) and len(known) == 36 else BY_NAME["id"]
    if known is None and key == "nextCursor":
        return BY_NAME["cursor"]
    if isinstance(known, str | int):
        return str(known)
    if is_moment(name):
        return MOMENT
    if key.lower().endswith("url") or schema.get("format") == "uri":
        return BY_NAME["url"]
    if key.endswith("Id"):
        return BY_NAME["id"]
    return "text"[: schema.get("maxLength", 4)]


def _sample_number(schema: Schema, name: str) -> Any:
    known = BY_NAME.get(camel(name))
    if isinstance(known, int) and not isinstance(known, bool):
        return known
    return max(schema.get("minimum", 1), min(3, schema.get("maximum", 3)))


def _singular(name: str) -> str:
    return {"attachments": "url", "tags": "tag"}.get(name, name.removesuffix("s"))
