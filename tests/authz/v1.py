"""Who may do what on `/v1`, one call a line.

A line reads: the answer to nobody (or an erased person); to an outsider; to a viewer, a contributor, an admin
and the owner. Of a hub that is not there outsiders hear the same 403 as of one that is.
"""

from tests.authz.keys import KEYS
from tests.authz.rows import UNTRIED, Columns, Table

# Whoever is a plain member of a community is a viewer of a hub, and its moderator a contributor.
COLUMNS = Columns(("nobody", "outsider", "member", "moderator", "admin", "owner"))
rank, signed_in, everybody = COLUMNS.rank, COLUMNS.signed_in, COLUMNS.everybody

HERE = "/v1/hubs/{hub}"
# A hub that was offered to its contributor.
HANDED = "/v1/hubs/{handed_hub}/ownership-transfer/{hub_transfer}"
# A personal hub has its owner's id for a slug.
MINE = "/v1/hubs/{me}"
INVALID = "invalid_json"
NOT_MEMBER = {"unknown": 403, "deleted": 403, "codes": {403: "not_member"}}
MANAGED = {"unknown": 403, "deleted": 403, "codes": {400: INVALID}}
INVITING = {"unknown": 403, "deleted": 403, "codes": {400: INVALID, 403: "insufficient_role"}}
# What a person is told of no hub at all, a key for certain hubs is not.
NOT_OF_THE_HUB = {"hub_key": 404}
PERSONAL = {"codes": {400: "personal_hub"}}

HUBS = [
    signed_in(200, "GET /v1/hubs"),
    signed_in(200, "GET /v1/hubs/check-slug?slug=orchard"),
    signed_in(201, "POST /v1/hubs", {"name": "Mine"}, codes={400: INVALID}),
    rank("401 | 403 | 200 200 200 200", f"GET {HERE}", **NOT_MEMBER),
    rank("401 | 403 | 200 200 200 200", "GET /v1/hubs/{hub_slug}", **NOT_MEMBER),
    rank("401 | 403 | 200 200 200 200", f"GET {HERE}/summary", **NOT_MEMBER),
    rank("401 | 403 | 200 200 200 200", f"POST {HERE}/visit", **NOT_MEMBER),
    rank("401 | 403 | 403 403 200 200", f"PATCH {HERE}", {"name": "Changed"}, **MANAGED),
    rank("401 | 403 | 403 403 200 200", f"PATCH {HERE}", {"slug": "no-other-has"}, **MANAGED),
    rank("401 | 403 | 403 403 403 200", f"DELETE {HERE}", **MANAGED),
    signed_in(200, f"GET {MINE}"),
    signed_in(200, f"PATCH {MINE}", {"name": "Changed"}, codes={400: INVALID}),
    signed_in(400, f"DELETE {MINE}", **PERSONAL),
    rank(
        "401 | 403 | 403 403 403 201",
        f"POST {HERE}/ownership-transfer",
        {"target_user_id": "{person}"},
        child=400,
        **MANAGED | {"codes": {400: "invalid_target invalid_json"}},
    ),
    rank("401 | 403 | 404 200 404 404", f"POST {HANDED}/accept", **NOT_MEMBER),
    rank("401 | 403 | 403 200 403 200", f"POST {HANDED}/cancel", child=404, **MANAGED),
]

MEMBERS = [
    rank(
        "401 | 403 | 403 403 200 200",
        f"POST {HERE}/members",
        {"user_id": "{newcomer}", "role": "admin"},
        **MANAGED,
    ),
    rank(
        "401 | 403 | 403 403 409 409",
        f"POST {HERE}/members",
        {"user_id": "{person}", "role": "admin"},
        # Somebody of another hub may be added, as anybody may.
        child=UNTRIED,
        **MANAGED | {"codes": {400: INVALID, 409: "already_member"}},
    ),
    rank(
        "401 | 403 | 403 403 404 404",
        f"POST {HERE}/members",
        {"user_id": "user_nobody"},
        bad_body=UNTRIED,
        **MANAGED,
    ),
    rank(
        "401 | 403 | 403 403 400 400",
        f"POST {HERE}/members",
        {"user_id": "{newcomer}", "role": "owner"},
        **MANAGED | {"codes": {400: "invalid_role invalid_json"}},
    ),
    signed_in(400, f"POST {MINE}/members", {"user_id": "{newcomer}"}, bad_body=UNTRIED, **PERSONAL),
    rank(
        "401 | 403 | 403 403 200 200", f"PATCH {HERE}/members/{{person}}", {"role": "contributor"}, **MANAGED
    ),
    rank("401 | 403 | 403 403 200 200", f"PATCH {HERE}/members/{{person}}", {"role": "admin"}, **MANAGED),
    rank("401 | 403 | 403 403 200 200", f"PATCH {HERE}/members/{{an_admin}}", {"role": "viewer"}, **MANAGED),
    rank(
        "401 | 403 | 403 403 400 400",
        f"PATCH {HERE}/members/{{person}}",
        {"role": "owner"},
        **MANAGED | {"codes": {400: "invalid_role invalid_json"}},
    ),
    *(
        rank(
            f"401 | 403 | {statuses}",
            f"PATCH {HERE}/members/{{{who}}}",
            {"role": "admin"},
            bad_body=UNTRIED,
            **MANAGED | {"codes": {400: "cannot_change_owner"}},
        )
        for statuses, who in (("403 403 400 400", "the_owner"), ("403 403 200 400", "me"))
    ),
    rank("401 | 403 | 403 403 200 200", f"DELETE {HERE}/members/{{person}}", **MANAGED),
    rank("401 | 403 | 403 403 200 200", f"DELETE {HERE}/members/{{an_admin}}", **MANAGED),
    *(
        rank(
            f"401 | 403 | {statuses}",
            f"DELETE {HERE}/members/{{{who}}}",
            **MANAGED | {"codes": {400: "cannot_remove_owner"}},
        )
        for statuses, who in (("403 403 400 400", "the_owner"), ("403 403 200 400", "me"))
    ),
    rank(
        "401 | 403 | 200 200 200 400",
        f"POST {HERE}/leave",
        **NOT_MEMBER | {"codes": {400: "ownership_transfer_required", 403: "not_member"}},
    ),
    signed_in(400, f"POST {MINE}/leave", **PERSONAL),
]

INVITES = [
    rank("401 | 403 | 403 403 201 201", f"POST {HERE}/invites", {"role": "admin"}, **INVITING),
    rank(
        "401 | 403 | 403 403 201 201",
        f"POST {HERE}/invites",
        {"role": "viewer", "invitee": {"email": "new@example.org"}},
        **INVITING,
    ),
    rank(
        "401 | 403 | 403 403 400 400",
        f"POST {HERE}/invites",
        {"role": "owner"},
        **INVITING | {"codes": {400: "invalid_role invalid_json", 403: "insufficient_role"}},
    ),
    rank(
        "401 | 403 | 403 403 409 409",
        f"POST {HERE}/invites",
        {"invitee": {"user_id": "{person}"}},
        child=UNTRIED,
        **INVITING | {"codes": {400: INVALID, 403: "insufficient_role", 409: "invitee_already_member"}},
    ),
    signed_in(400, f"POST {MINE}/invites", **PERSONAL),
    rank("401 | 403 | 403 403 200 200", f"GET {HERE}/invites", **INVITING),
    rank("401 | 403 | 403 403 200 200", f"DELETE {HERE}/invites/{{hub_invite}}", **INVITING),
    rank("401 | 403 | 403 403 200 200", f"POST {HERE}/invites/{{hub_invite}}/resend", **INVITING),
    rank("401 | 403 | 403 403 201 201", f"POST {HERE}/invites/{{hub_invite}}/regenerate", **INVITING),
    rank("200 | 200 | 200 200 200 200", "GET /v1/invites/{hub_token}", note="whoever holds the link"),
    rank(
        "401 | 403 | 403 403 403 403",
        "POST /v1/invites/{hub_token}/accept",
        but={"invitee": 200},
        codes={403: "wrong_invitee"},
    ),
    # A link that is for nobody in particular.
    rank("401 | 200 | 409 409 409 409", "POST /v1/invites/{hub_link}/accept", codes={409: "already_member"}),
]

KEYS = [
    signed_in(201, "POST /v1/auth/api-keys", {"name": "Laptop"}, codes={400: INVALID}),
    rank(
        "401 | 403 | 201 201 201 201",
        "POST /v1/auth/api-keys",
        {"name": "Laptop", "hub_ids": ["{hub}"]},
        unknown=403,
        deleted=403,
        bad_body=UNTRIED,
    ),
    signed_in(200, "GET /v1/auth/api-keys"),
    signed_in(
        200,
        "PATCH /v1/auth/api-keys/{my_key}",
        {"standalone": True},
        other=404,
        unknown=404,
        codes={400: INVALID},
    ),
    # A key that is not there counts as revoked before.
    signed_in(
        200, "DELETE /v1/auth/api-keys/{my_key}", other=200, unknown=200, keys=dict.fromkeys(KEYS, 403)
    ),
    signed_in(200, "GET /v1/agents"),
    signed_in(
        200,
        "PATCH /v1/agents/{my_agent}",
        {"display_name": "Mine"},
        other=404,
        unknown=404,
        codes={400: INVALID},
    ),
    signed_in(200, "DELETE /v1/agents/{my_agent}", other=200, unknown=200),
]

INBOX = [
    signed_in(200, "GET /v1/notifications"),
    signed_in(200, "GET /v1/notifications?hub={hub}"),
    signed_in(200, "GET /v1/notifications/summary"),
    signed_in(200, "POST /v1/notifications/seen", codes={400: INVALID}),
    signed_in(200, "POST /v1/notifications/dismiss", codes={400: INVALID}),
    signed_in(200, "POST /v1/notifications/{my_notice}/seen", other=404, unknown=404, keys=NOT_OF_THE_HUB),
    signed_in(200, "POST /v1/notifications/{my_notice}/dismiss", other=404, unknown=404, keys=NOT_OF_THE_HUB),
    # There is nothing to decide about a receipt.
    signed_in(
        400,
        "POST /v1/notifications/{my_notice}/resolve",
        {"action": "accept"},
        keys=NOT_OF_THE_HUB,
        other=404,
        unknown=404,
        codes={400: "resolve_not_applicable_to_receipt invalid_json"},
    ),
]

ACCOUNT = [
    signed_in(200, "GET /v1/auth/me"),
    signed_in(200, "PATCH /v1/auth/me", {"display_name": "Somebody"}, codes={400: INVALID}),
    signed_in(200, "GET /v1/auth/identities"),
    # Without the only way to sign in nobody could.
    signed_in(409, "DELETE /v1/auth/link/{provider}", codes={409: "last_identity"}),
    signed_in(200, "GET /v1/settings"),
    signed_in(200, "PATCH /v1/settings", {"theme": "dark"}, codes={400: "invalid_setting"}),
    signed_in(200, "GET /v1/usage"),
    everybody(200, "GET /v1/plans"),
    signed_in(200, "GET /v1/onboarding/state"),
    signed_in(200, "POST /v1/onboarding/restart"),
    *(
        signed_in(
            200,
            f"POST /v1/notifications/{{my_steps}}/items/{{step}}/{what}",
            other=404,
            unknown=404,
            keys=NOT_OF_THE_HUB,
            codes={404: "not_found"},
        )
        for what in ("view", "complete")
    ),
]

SIGN_IN = [
    everybody(200, "POST /v1/auth/email/request", {"email": "new@example.org"}, codes={400: INVALID}),
    everybody(
        200, "POST /v1/auth/email/verify", {"email": "{address}", "code": "{code}"}, codes={400: INVALID}
    ),
    everybody(200, "POST /v1/auth/refresh", {"refresh_token": "{refresh}"}, codes={400: INVALID}),
    everybody(200, "POST /v1/auth/exchange", {"code": "{exchange}"}, codes={400: INVALID}),
]

IN_HUB = {"headers": {"X-Hub-ID": "{hub}"}}
HIDDEN = {"codes": {400: INVALID}}
MEMORY = "/v1/memories/{memory}"
MY_MEMORY = "/v1/memories/{my_memory}"
RESTORE = "versions/{version}/restore"
WRITING = {"unknown": 403, "deleted": 403, "codes": {400: INVALID, 403: "not_member no_write_access"}}
# A read that names a hub out of reach is of one's own.
FALLING_BACK = {"unknown": 200, "deleted": 200, **IN_HUB}
MISSING_HUB = {"unknown": 400, "deleted": 400, "codes": {400: "missing_hub"}}
MOVING = {
    "child": UNTRIED,
    "codes": {400: INVALID, 403: "no_write_access no_access", 404: "hub_not_found not_found"},
}

MEMORY_FILE = {
    "filename": "a.txt",
    "content_type": "text/plain",
    "size_bytes": 6,
    "purpose": "memory_attachment",
}

MEMORIES = [
    signed_in(201, "POST /v1/memories", {"content": "Beans climb."}, codes={400: INVALID}),
    rank(
        "401 | 403 | 403 201 201 201", "POST /v1/memories", {"content": "Beans climb."}, **WRITING, **IN_HUB
    ),
    signed_in(200, "GET /v1/memories"),
    rank("401 | 200 | 200 200 200 200", "GET /v1/memories", **FALLING_BACK),
    rank("401 | 404 | 200 200 200 200", f"GET {MEMORY}"),
    rank("401 | 404 | 204 204 204 204", f"POST {MEMORY}/access"),
    rank("401 | 404 | 200 200 200 200", f"GET {MEMORY}/versions"),
    # To all but its author, what only the author may change is not there.
    rank("401 | 404 | 404 404 404 404", f"PATCH {MEMORY}", {"title": "Changed"}, **HIDDEN),
    rank("401 | 404 | 200 200 200 200", f"PATCH {MY_MEMORY}", {"title": "Mine"}, **HIDDEN),
    rank("401 | 404 | 404 404 404 404", f"POST {MEMORY}/{RESTORE}", child=UNTRIED),
    rank("401 | 404 | 200 200 200 200", f"POST {MY_MEMORY}/{RESTORE}", child=UNTRIED),
    rank("401 | 404 | 403 403 200 200", f"DELETE {MEMORY}"),
    rank("401 | 404 | 200 200 200 200", f"DELETE {MY_MEMORY}"),
    rank(
        "401 | 200 | 200 200 200 200",
        "POST /v1/memories/batch-delete",
        {"ids": ["{memory}"]},
        unknown=200,
        deleted=200,
        **HIDDEN,
        note="the answer says which were not deleted",
    ),
    rank(
        "401 | 404 | 403 200 200 200",
        "POST /v1/memories/batch-move",
        {"ids": ["{my_memory}"], "hub_id": "{hub}"},
        bad_body=UNTRIED,
        **MOVING,
    ),
    rank(
        "401 | 404 | 403 200 200 200",
        f"POST {MY_MEMORY}/share",
        {"target_hub_id": "{hub}"},
        bad_body=400,
        **MOVING,
    ),
    signed_in(200, "DELETE /v1/account/data"),
    rank("401 | 404 | 200 200 200 200", f"GET {MEMORY}/related"),
    # What is found is of the hubs that one reads.
    signed_in(200, "POST /v1/recall", {"query": "changed"}, changes=True, codes={400: INVALID}),
    rank(
        "401 | 200 | 200 200 200 200",
        "POST /v1/recall",
        {"query": "changed", "hub_ids": ["{hub}"]},
        unknown=200,
        deleted=200,
        **HIDDEN,
    ),
    signed_in(200, "POST /v1/ask", {"query": "changed"}, codes={400: INVALID}),
    signed_in(200, "GET /v1/memories/search?q=chang"),
    signed_in(200, "GET /v1/bar/search?q=chang"),
    signed_in(200, "POST /v1/uploads", MEMORY_FILE, codes={400: INVALID}),
    rank("401 | 404 | 200 200 200 200", "GET /v1/memories/{file_memory}/attachments/{attachment}/download"),
    rank("401 | 404 | 200 200 200 200", "POST /v1/memories/{file_memory}/attachments/{attachment}/view-url"),
    everybody(
        200, "GET /v1/attachments/view?{view}", unknown=403, deleted=404, note="whoever was given the address"
    ),
]

TOPIC = "/v1/topics/{topic}"
# Where the hub is named, the right in it is asked for before the topic is looked for.
BEANS = {"name": "Beans"}

TOPICS = [
    signed_in(200, "GET /v1/topics"),
    rank("401 | 400 | 200 200 200 200", "GET /v1/topics?hub_id={hub}", **MISSING_HUB),
    rank("401 | 200 | 200 200 200 200", "GET /v1/topics", **FALLING_BACK),
    signed_in(200, "GET /v1/topics/archived"),
    rank("401 | 400 | 200 200 200 200", "GET /v1/topics/archived?hub_id={hub}", **MISSING_HUB),
    rank("401 | 404 | 200 200 200 200", f"GET {TOPIC}"),
    rank("401 | 404 | 200 200 200 200", f"GET {TOPIC}/memories"),
    rank("401 | 404 | 200 200 200 200", f"POST {TOPIC}/visit"),
    signed_in(201, "POST /v1/topics", BEANS, codes={400: INVALID}),
    rank("401 | 403 | 403 201 201 201", "POST /v1/topics", BEANS, **WRITING, **IN_HUB),
    rank(
        "401 | 403 | 403 201 201 201",
        "POST /v1/topics",
        BEANS | {"hub_id": "{hub}", "parent_id": "{topic}"},
        child=UNTRIED,
        **WRITING,
    ),
    rank("401 | 404 | 403 200 200 200", f"PATCH {TOPIC}", BEANS, **HIDDEN),
    rank("401 | 404 | 403 204 204 204", f"DELETE {TOPIC}"),
    rank("401 | 404 | 403 200 200 200", f"POST {TOPIC}/archive"),
    rank("401 | 404 | 403 200 200 200", f"POST {TOPIC}/restore"),
    rank(
        "401 | 404 | 403 201 201 201",
        f"POST {TOPIC}/memories",
        {"memory_id": "{memory}", "confidence": 0.9},
        child=UNTRIED,
        **HIDDEN,
    ),
    rank("401 | 404 | 403 204 204 204", f"DELETE {TOPIC}/memories/{{memory}}", child=UNTRIED),
    rank(
        "401 | 403 | 403 200 200 200",
        "POST /v1/topics/reorder",
        {"operations": [{"topic_id": "{topic}", "position": 3}]},
        bad_body=UNTRIED,
        child=UNTRIED,
        **WRITING,
        **IN_HUB,
    ),
]

DREAM = "/v1/dreams/{dream}"

DREAMS = [
    signed_in(200, "POST /v1/dreams/trigger"),
    rank("401 | 403 | 403 200 200 200", "POST /v1/dreams/trigger", **NOT_MEMBER, **IN_HUB),
    rank(
        "401 | 404 | 403 200 200 200",
        "POST /v1/dreams/trigger?hub_id={hub}",
        codes={404: "hub_not_found"},
    ),
    signed_in(200, "GET /v1/dreams"),
    rank("401 | 403 | 200 200 200 200", "GET /v1/dreams?hub_id={hub}", unknown=403, deleted=403),
    signed_in(200, "GET /v1/dreams/report"),
    rank("401 | 200 | 200 200 200 200", "GET /v1/dreams/report", **FALLING_BACK),
    rank("401 | 404 | 200 200 200 200", f"GET {DREAM}"),
    rank("401 | 404 | 403 200 200 200", f"POST {DREAM}/undo"),
    rank("401 | 404 | 403 200 200 200", f"POST {DREAM}/actions/{{dream_action}}/undo"),
    signed_in(200, "GET /v1/usage/dreams"),
    rank("401 | 403 | 200 200 200 200", "GET /v1/usage/dreams?hub_id={hub}", unknown=403, deleted=403),
]

EVENTS = [
    signed_in(200, "GET /v1/events/stream", endless=True),
    rank(
        "401 | 403 | 200 200 200 200",
        "GET /v1/events/stream?hub_id={hub}",
        unknown=403,
        deleted=403,
        endless=True,
    ),
]

MESSAGE = {"jsonrpc": "2.0", "id": 1}


def _tool(name: str, **given: str) -> dict[str, object]:
    return MESSAGE | {"method": "tools/call", "params": {"name": name, "arguments": given}}


# A tool that is refused says so in an answer of its own; tests of those are apart.
AGENTS = [
    signed_in(200, "POST /mcp", MESSAGE | {"method": "tools/list"}),
    signed_in(200, "POST /mcp", _tool("hubs"), bad_body=UNTRIED),
]

V1 = Table(
    title="Hubs: `/v1`",
    columns={
        "nobody": "nobody",
        "outsider": "outsider",
        "member": "viewer",
        "moderator": "contributor",
        "admin": "admin",
        "owner": "owner",
    },
    sections={
        "Hubs": HUBS,
        "Members": MEMBERS,
        "Invites": INVITES,
        "Keys and agents": KEYS,
        "Inbox": INBOX,
        "Signing in": SIGN_IN,
        "One's account": ACCOUNT,
        "Memories": MEMORIES,
        "Agents": AGENTS,
        "Topics": TOPICS,
        "Dreams": DREAMS,
        "Events": EVENTS,
        "The service itself": [everybody(200, "GET /v1/openapi.json")],
    },
)
