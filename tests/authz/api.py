"""Who may do what on `/api`, one call a line.

A line reads: the answer to nobody (or an erased person); to an outsider of a private, and of a public
community; to a member, the admin of a group, a moderator, an admin and the owner. 2xx means that they may.
"""

from typing import Any

from tests.authz.rows import UNTRIED, Columns, Table

COLUMNS = Columns(
    (
        "nobody",
        "outsider",
        "outsider, public",
        "member",
        "group admin",
        "moderator",
        "admin",
        "owner",
    )
)
rank, signed_in, everybody = COLUMNS.rank, COLUMNS.signed_in, COLUMNS.everybody

HERE = "/api/communities/{community}"
# A community with an offer of ownership to its moderator.
HANDED = "/api/communities/{handed}/ownership-transfer/{transfer}"
WRONG_INVITEE = {403: "wrong_invitee", 410: "revoked"}
LAST_OWNER = {409: "last_owner"}
# An admin may change ranks, and not this one: whom and how is looked at before.
BEYOND = {"child": UNTRIED, "bad_body": UNTRIED}
ITEM = {"title": "Pins", "type": "feature", "priority": "low", "session": "web"}
FILE = {"filename": "a.png", "contentType": "image/png", "sizeBytes": 64, "purpose": "avatar"}
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 48

SYSTEM = [
    everybody(200, "GET /api/health", may_fail=True),
    everybody(200, "GET /api/openapi.json"),
    everybody(200, "GET /health", may_fail=True),
    everybody(200, "GET /.well-known/jwks.json"),
    everybody(404, "GET /metrics", note="open where the operator says so"),
    everybody(
        404, "POST /api/webhooks/clerk", note="from Clerk alone, by its signature, where it signs people in"
    ),
]

SIGNING_IN = [
    everybody(202, "POST /api/auth/code", {"email": "somebody@example.org"}),
    everybody(
        201,
        "POST /api/auth/session",
        {"email": "{address}", "code": "{code}"},
        unknown=403,
        codes={403: "invalid_code"},
    ),
    everybody(
        200,
        "POST /api/auth/session/refresh",
        {"refreshToken": "{refresh}"},
        unknown=403,
        codes={403: "invalid_refresh_token"},
    ),
    signed_in(200, "GET /api/auth/sessions"),
    signed_in(204, "DELETE /api/auth/session"),
    signed_in(204, "DELETE /api/auth/sessions/{my_session}", other=404, unknown=404),
]

PEOPLE = [
    signed_in(200, "POST /api/users/sync"),
    signed_in(200, "GET /api/members/{me}/profile"),
    rank("401 | 404 404 | 200 200 200 200 200", "GET /api/members/{person}/profile"),
    signed_in(200, "PATCH /api/members/{me}/profile", {"displayName": "Somebody else"}),
    rank("401 | 404 404 | 403 403 403 403 403", "PATCH /api/members/{person}/profile", {"bio": "Mine"}),
    signed_in(202, "GET /api/users/me/export", changes=True),
    everybody(200, "GET /api/exports/{archive}", unknown=404, deleted=404, note="whoever holds the link"),
    signed_in(204, "DELETE /api/users/me", but={"owner": 409, "other_owner": 409}, codes={409: "sole_owner"}),
]

COMMUNITIES = [
    signed_in(200, "GET /api/communities"),
    signed_in(200, "GET /api/communities?limit=2"),
    signed_in(201, "POST /api/communities", {"name": "Mine"}),
    rank("401 | 404 200 | 200 200 200 200 200", f"GET {HERE}"),
    rank("401 | 404 200 | 200 200 200 200 200", "GET /api/communities/{slug}"),
    rank("401 | 404 403 | 403 403 403 200 200", f"PATCH {HERE}", {"name": "Changed"}),
    rank(
        "401 | 404 403 | 403 403 403 200 200", f"PATCH {HERE}", {"isPrivate": False, "slug": "no-other-has"}
    ),
    rank("401 | 404 403 | 403 403 403 200 200", "PATCH /api/communities/{slug}", {"description": "Changed"}),
    rank("401 | 404 403 | 403 403 403 403 204", f"DELETE {HERE}"),
    rank("401 | 404 201 | 200 200 200 200 200", f"POST {HERE}/join"),
    rank("401 | 404 201 | 200 200 200 200 200", "POST /api/communities/{slug}/join"),
    rank("401 | 404 403 | 204 204 204 204 204", f"POST {HERE}/visit"),
    rank("401 | 404 403 | 200 200 200 200 200", f"GET {HERE}/summary"),
    rank(
        "401 | 404 403 | 403 403 403 403 201",
        f"POST {HERE}/ownership-transfer",
        {"targetUserId": "{person}"},
        child=400,
        codes={400: "invalid_target"},
    ),
    rank("401 | 404 403 | 404 404 200 404 404", f"POST {HANDED}/accept"),
    rank("401 | 404 403 | 403 403 200 403 200", f"POST {HANDED}/cancel", child=404),
]

MEMBERS = [
    rank("401 | 404 403 | 200 200 200 200 200", f"GET {HERE}/members"),
    rank("401 | 404 403 | 200 200 200 200 200", f"GET {HERE}/members?limit=2&q=a"),
    *(
        rank(
            f"401 | 404 403 | {statuses}",
            f"PATCH {HERE}/members",
            {"targetUserId": who, "role": role},
            **more,
        )
        for statuses, who, role, more in (
            ("403 403 403 200 200", "{person}", "moderator", {}),
            ("403 403 403 200 200", "{person}", "admin", {}),
            ("403 403 403 403 200", "{person}", "owner", BEYOND),
            ("403 403 403 200 200", "{an_admin}", "member", {}),
            ("403 403 403 403 409", "{the_owner}", "admin", BEYOND | {"codes": LAST_OWNER}),
            ("403 403 403 200 409", "{me}", "admin", {"codes": LAST_OWNER}),
            ("403 403 403 403 200", "{me}", "owner", {}),
        )
    ),
    # Anybody may leave, so who is meant must be known before the right to remove them is asked for.
    *(
        rank(
            f"401 | 404 403 | {statuses}",
            f"DELETE {HERE}/members{query}",
            body,
            child=404,
            bad_body=400,
            codes=LAST_OWNER,
        )
        for statuses, query, body in (
            ("403 403 403 204 204", "", {"targetUserId": "{person}"}),
            ("403 403 403 204 204", "?targetUserId={person}", None),
            ("403 403 403 204 204", "", {"targetUserId": "{an_admin}"}),
            ("403 403 403 403 409", "", {"targetUserId": "{the_owner}"}),
            ("204 204 204 204 409", "", {"targetUserId": "{me}"}),
        )
    ),
]

INVITES = [
    rank("401 | 404 403 | 403 403 403 201 201", f"POST {HERE}/invite", {"email": "new@example.org"}),
    rank(
        "401 | 404 403 | 403 403 403 201 201",
        f"POST {HERE}/invite",
        {"email": "new@example.org", "role": "admin"},
    ),
    rank(
        "401 | 404 403 | 403 403 403 400 400",
        f"POST {HERE}/invite",
        {"email": "new@example.org", "role": "owner"},
    ),
    rank(
        "401 | 404 403 | 403 403 403 409 409",
        f"POST {HERE}/invite",
        {"email": "{member_email}", "role": "moderator"},
        codes={409: "already_member"},
    ),
    rank("401 | 404 403 | 403 403 403 200 200", f"GET {HERE}/invites"),
    rank("401 | 404 403 | 403 403 403 204 204", f"DELETE {HERE}/invites/{{invite}}"),
    rank("401 | 404 403 | 403 403 403 200 200", f"POST {HERE}/invites/{{invite}}/resend"),
    rank("401 | 404 403 | 403 403 403 201 201", f"POST {HERE}/invites/{{invite}}/regenerate"),
    # Of a dead invite its state alone is told.
    rank(
        "200 | 200 200 | 200 200 200 200 200",
        "GET /api/invites/{token}",
        deleted=200,
        note="whoever holds the link",
    ),
    rank(
        "401 | 403 403 | 403 403 403 403 403",
        "POST /api/invites/{token}/accept",
        but={"invitee": 200},
        deleted=410,
        codes=WRONG_INVITEE,
    ),
]

GROUPS = [
    rank("401 | 404 403 | 200 200 200 200 200", "GET /api/groups?communityId={community}"),
    rank(
        "401 | 404 403 | 403 403 403 201 201",
        "POST /api/groups",
        {"communityId": "{community}", "name": "Tomatoes"},
    ),
    rank("401 | 404 404 | 404 200 404 200 200", "GET /api/groups/{group}"),
    rank("401 | 404 404 | 200 200 200 200 200", "GET /api/groups/{open_group}"),
    rank("401 | 404 404 | 404 200 404 200 200", "PATCH /api/groups/{group}", {"isPrivate": False}),
    rank("401 | 404 404 | 403 200 403 200 200", "PATCH /api/groups/{open_group}", {"name": "Changed"}),
    rank("401 | 404 404 | 404 204 404 204 204", "DELETE /api/groups/{group}"),
    rank("401 | 404 404 | 403 204 403 204 204", "DELETE /api/groups/{open_group}"),
    *(
        rank(
            f"401 | 404 404 | {statuses}",
            f"POST /api/groups/{{{group}}}",
            {"targetUserId": who, "role": "admin"},
            child=409,
            codes={409: "not_a_member"},
        )
        for statuses, group, who in (
            ("404 201 404 201 201", "group", "{person}"),
            ("403 201 403 201 201", "open_group", "{person}"),
            ("404 200 404 200 200", "group", "{group_person}"),
            ("403 200 403 201 201", "open_group", "{me}"),
        )
    ),
    # Into a private group one is put; its community's owner and admins see it and may put themselves in.
    rank("401 | 404 404 | 404 200 404 403 403", "POST /api/groups/{group}/join"),
    rank("401 | 404 404 | 200 200 200 200 200", "POST /api/groups/{open_group}/join"),
    rank("401 | 404 404 | 404 200 404 200 200", "GET /api/groups/{group}/members"),
    rank("401 | 404 404 | 200 200 200 200 200", "GET /api/groups/{open_group}/members?limit=2"),
    *(
        rank(
            f"401 | 404 404 | {statuses}",
            f"DELETE /api/groups/{{{group}}}/members",
            {"targetUserId": who},
            bad_body=400,
        )
        for statuses, group, who in (
            ("404 204 404 204 204", "group", "{group_person}"),
            ("403 204 403 204 204", "open_group", "{group_person}"),
            ("404 204 404 404 404", "group", "{me}"),
            ("404 204 404 404 404", "open_group", "{me}"),
        )
    ),
]

FEED = "/api/posts?communityId={community}"
MAY_NOT_PIN = {403: "may_not_pin"}


def _post(group: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"communityId": "{community}"} | ({"groupId": group} if group else {}) | {"content": "Hi"} | fields


POSTS = [
    rank("401 | 404 403 | 200 200 200 200 200", f"GET {FEED}"),
    rank("401 | 404 403 | 404 200 404 200 200", f"GET {FEED}&groupId={{group}}"),
    rank("401 | 404 403 | 200 200 200 200 200", f"GET {FEED}&groupId={{open_group}}"),
    rank("401 | 404 403 | 201 201 201 201 201", "POST /api/posts", _post()),
    rank(
        "401 | 404 403 | 403 403 201 201 201",
        "POST /api/posts",
        _post(isPinned=True),
        codes=MAY_NOT_PIN,
        bad_body=400,
    ),
    # Who sees a group and does not belong to it reads there, and does not write.
    rank("401 | 404 403 | 404 201 404 403 403", "POST /api/posts", _post("{group}"), child=404),
    rank("401 | 404 403 | 403 201 403 403 403", "POST /api/posts", _post("{open_group}"), child=404),
    rank("401 | 404 404 | 200 200 200 200 200", "GET /api/posts/{post}"),
    rank("401 | 404 404 | 200 200 200 200 200", "GET /api/posts/{my_post}"),
    rank("401 | 404 404 | 404 200 404 200 200", "GET /api/posts/{group_post}"),
    rank(
        "401 | 404 404 | 403 403 403 403 403",
        "PATCH /api/posts/{post}",
        {"content": "Changed"},
        bad_body=UNTRIED,
    ),
    rank("401 | 404 404 | 200 200 200 200 200", "PATCH /api/posts/{my_post}", {"content": "Changed"}),
    rank(
        "401 | 404 404 | 404 403 404 403 403",
        "PATCH /api/posts/{group_post}",
        {"title": "Changed"},
        bad_body=UNTRIED,
    ),
    rank("401 | 404 404 | 403 403 200 200 200", "PATCH /api/posts/{post}", {"isPinned": True}),
    rank(
        "401 | 404 404 | 403 403 200 200 200",
        "PATCH /api/posts/{my_post}",
        {"isPinned": True},
        codes=MAY_NOT_PIN,
        bad_body=400,
    ),
    rank("401 | 404 404 | 404 403 404 200 200", "PATCH /api/posts/{group_post}", {"isPinned": True}),
    rank("401 | 404 404 | 403 403 204 204 204", "DELETE /api/posts/{post}"),
    rank("401 | 404 404 | 204 204 204 204 204", "DELETE /api/posts/{my_post}"),
    rank("401 | 404 404 | 404 403 404 204 204", "DELETE /api/posts/{group_post}"),
]

BACKLOG = [
    everybody(200, "GET /api/backlog"),
    everybody(201, "POST /api/backlog", ITEM),
    everybody(200, "PATCH /api/backlog/{item}", {"status": "done"}, unknown=404, deleted=404),
    everybody(204, "DELETE /api/backlog/{item}", unknown=404, deleted=404),
]

FILES = [
    signed_in(201, "POST /api/uploads", FILE),
    everybody(
        204,
        "PUT /api/uploads/{upload}?{signature}",
        PNG,
        unknown=403,
        deleted=404,
        codes={403: "upload_link_invalid"},
        note="whoever was given the address, once",
    ),
    everybody(200, "GET /blobs/{blob}", unknown=404, deleted=404, note="whoever knows the address"),
]

CHAT = [signed_in(200, "POST /api/stream/token")]

API = Table(
    title="Communities: `/api`",
    columns={name: name for name in COLUMNS.names},
    sections={
        "Communities": COMMUNITIES,
        "Members": MEMBERS,
        "Invites": INVITES,
        "Groups": GROUPS,
        "Posts": POSTS,
        "People": PEOPLE,
        "Signing in": SIGNING_IN,
        "Chat": CHAT,
        "Files": FILES,
        "Backlog": BACKLOG,
        "The service itself": SYSTEM,
    },
)
