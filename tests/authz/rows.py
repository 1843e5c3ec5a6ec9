"""A row of the authorization table, and the rules by which it speaks of every object.

A row gives the answer to each rank in the caller's own community. What anybody is told of somebody else's
community, of a deleted one, of one that never was, or of a child that belongs elsewhere follows by rule; a
row names only what differs.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from tests.authz.keys import KEYS, KEYS_ELSEWHERE, refusal

# Who calls, and the column that speaks of them. All stand to one community as their name says; `other_owner`
# owns another one, `invitee` has an open invite, `ex_member` and `erased` were admins before.
_COLUMN_OF: Mapping[str, str] = {
    "anonymous": "nobody",
    "erased": "nobody",
    "stranger": "outsider",
    "other_owner": "outsider",
    "ex_member": "outsider",
    "invitee": "outsider",
    "member": "member",
    "group_admin": "group admin",
    "moderator": "moderator",
    "admin": "admin",
    "owner": "owner",
}
PRINCIPALS = tuple(_COLUMN_OF)
# A key speaks for the owner, as far as it may.
COLUMN_OF: Mapping[str, str] = {**_COLUMN_OF, **dict.fromkeys(KEYS, "owner")}

# What a call is about; `child` stands for every id after the first. What never was is tried before the rest,
# since nothing else that is hidden may sound otherwise.
OBJECTS: Mapping[str, str] = {
    "unknown": "what never was",
    "no child": "one's own community, and a child that never was",
    "own": "one's own private community, or what is in it",
    "own public": "the same in a public community",
    "other": "somebody else's private community",
    "deleted": "a deleted community in which one had the same rank",
    "foreign child": "one's own community, and a child of somebody else's",
    "foreign parent": "somebody else's community, and a child of one's own",
    "bad body": "one's own community, and a body that is not well formed",
}
# Where two ranks differ in a way that no rule tells, and another row tries the same.
UNTRIED = 0
WITH_CHILDREN = frozenset({"no child", "foreign child", "foreign parent"})
THEIRS = frozenset({"other", "foreign parent"})

# What there is of the hub that a key is for.
_OF_THE_HUB = frozenset(
    {
        "hub",
        "hub_slug",
        "hub_token",
        "hub_link",
        "memory",
        "my_memory",
        "file_memory",
        "topic",
        "dream",
        "dream_action",
    }
)
_NAME = re.compile(r"\{(\w+)\}")
# Names that are not the id of something in a community.
_TEXTS = frozenset({"me", "newcomer", "member_email", "step", "provider"})


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One call with the answers to it.

    `call` names in braces what it is about, as the scene knows it; `in_a_space` says that this belongs to a
    community or hub. `statuses` are by column; where nothing is public there is none for `outsider, public`.
    `but` are principals who are told something else in their own community. `by_object` are answers that
    differ from the rules, where `child` means all three kinds of wrong children. `codes` are those of
    refusals beside the usual ones, in one text for each status. `keys` are keys that are
    answered otherwise than their rights let one think. `changes` marks a GET that changes something,
    `may_fail` a call that answers 503 on a machine that is too busy, `endless` one whose answer is a stream.
    `headers` are sent with it, and may name ids as well.
    `note` is for readers.
    """

    call: str
    body: Any = None
    in_a_space: bool
    statuses: Mapping[str, int]
    but: Mapping[str, int] = MappingProxyType({})
    by_object: Mapping[str, int] = MappingProxyType({})
    codes: Mapping[int, str] = MappingProxyType({})
    keys: Mapping[str, int] = MappingProxyType({})
    changes: bool = False
    may_fail: bool = False
    endless: bool = False
    headers: Mapping[str, str] = MappingProxyType({})
    note: str = ""

    @property
    def method(self) -> str:
        return self.call.split()[0]

    @property
    def path(self) -> str:
        return self.call.split()[1]

    @property
    def route(self) -> str:
        return route(self.method, self.path)

    @property
    def names(self) -> list[str]:
        """The ids in the call, the one that the others belong to first."""
        found: list[str] = [
            *_NAME.findall(self.path),
            *_NAME.findall(_text(dict(self.headers))),
            *_NAME.findall(_text(self.body)),
        ]
        return [name for name in dict.fromkeys(found) if name not in _TEXTS]

    @property
    def objects(self) -> list[str]:
        """What it is tried on."""
        wanted = set(OBJECTS) if self.in_a_space else {"own", "bad body", *self.by_object}
        wanted -= {name for name, status in self.by_object.items() if status == UNTRIED}
        if len(self.names) < 2 or self.by_object.get("child") == UNTRIED:
            wanted -= WITH_CHILDREN
        if bad(self.body) is None:
            wanted -= {"bad body"}
        if "outsider, public" not in self.statuses:
            wanted -= {"own public"}
        return [name for name in OBJECTS if name in wanted]

    @property
    def principals(self) -> tuple[str, ...]:
        return PRINCIPALS + (KEYS if self.for_keys else KEYS_ELSEWHERE)

    @property
    def for_keys(self) -> bool:
        """Whether keys are of use on this surface."""
        return self.path.startswith(("/v1/", "/mcp"))

    @property
    def for_everybody(self) -> bool:
        return self.statuses["nobody"] != 401

    def refused_key(self, principal: str) -> str | None:
        """The code by which a key is refused whatever the call is about."""
        if principal not in KEYS or self.for_everybody:
            return None
        return refusal(self.route, principal)

    def beyond(self, principal: str) -> bool:
        """Whether a key for one hub reaches for what is not in it."""
        if principal != "hub_key" or self.for_everybody:
            return False
        if not self.in_a_space:
            return "{me}" in self.path
        return self.names[0] not in _OF_THE_HUB

    def expected(self, principal: str, about: str) -> int:
        """The status that the principal is answered."""
        if self.refused_key(principal) is not None:
            return 403
        if principal in self.keys and about != "bad body":
            return self.keys[principal]
        if self.beyond(principal) and not self.in_a_space:
            return 403
        column = self._column(principal, about)
        status = self.statuses[column]
        if about not in THEIRS:
            status = self.but.get(principal, status)
        if status == 401:
            return 401
        if about in ("deleted", "unknown"):
            return self.by_object.get(about, 404)
        if about == "other":
            return self.by_object.get(about, status)
        if about == "bad body":
            return self._of_a_bad_body(status)
        if about in ("own", "own public") or column.startswith("outsider"):
            return status
        # A child that is not there is missed before a right over it, unless the parent already grants none.
        child = self.by_object.get("child")
        return 404 if child == 404 else status if status in (403, 404) else child or 404

    def _column(self, principal: str, about: str) -> str:
        """The column that speaks of somebody before this object."""
        column = COLUMN_OF[principal]
        if self.beyond(principal):
            return "outsider"
        if about in THEIRS and column != "nobody":
            column = "owner" if principal == "other_owner" else "outsider"
        if about == "own public" and column == "outsider":
            column = "outsider, public"
        return column

    def _of_a_bad_body(self, status: int) -> int:
        if status == 404:
            return 404
        return self.by_object.get("bad body", 403 if status == 403 else 400)

    def hides(self, principal: str, about: str) -> bool:
        """Whether somebody may not know of the space that the call is about, if there is one."""
        return (
            about in ("deleted", "unknown")
            or self.beyond(principal)
            or self._column(principal, about).startswith("outsider")
        )

    def like(self, principal: str, about: str) -> str | None:
        """What never was, and sounds as this does to whoever may not know of it. None where nothing does."""
        if self.hides(principal, about) or "no child" not in self.objects:
            return "unknown"
        return None if about in THEIRS else "no child"

    def across_tenants(self, principal: str, about: str) -> bool:
        """Whether somebody signed in reaches for what belongs, also in part, to a community not theirs."""
        if not self.in_a_space or COLUMN_OF[principal] == "nobody":
            return False
        if about in ("foreign child", "foreign parent"):
            return True
        if about == "other":
            return principal != "other_owner"
        return about in ("own", "own public") and COLUMN_OF[principal] == "outsider"


class Columns(msgspec.Struct, frozen=True):
    """What the answers in a line are to; whoever has no column is answered as a member."""

    names: tuple[str, ...]

    def rank(self, statuses: str, call: str, body: Any = None, **more: Any) -> Row:
        """A call about a space or something in it."""
        answers = [int(word) for word in statuses.split() if word != "|"]
        found: dict[str, int] = dict(zip(self.names, answers, strict=True))
        found.setdefault("group admin", found["member"])
        return _row(found, True, call, body, **more)

    def signed_in(self, status: int, call: str, body: Any = None, **more: Any) -> Row:
        """A call for everybody with a session, about nobody else."""
        return _row(_all(status) | {"nobody": 401}, False, call, body, **more)

    def everybody(self, status: int, call: str, body: Any = None, **more: Any) -> Row:
        """A call that needs no session."""
        return _row(_all(status), False, call, body, **more)


def _all(status: int) -> dict[str, int]:
    return dict.fromkeys(_COLUMN_OF.values(), status)


def _row(statuses: Mapping[str, int], in_a_space: bool, call: str, body: Any, **more: Any) -> Row:
    """Whatever is not a field of a row is the answer about an object."""
    fields = {name: more.pop(name) for name in Row.__struct_fields__ if name in more}
    by_object = {name.replace("_", " "): status for name, status in more.items()}
    return Row(call=call, body=body, in_a_space=in_a_space, statuses=statuses, by_object=by_object, **fields)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one API, by section, and what its columns are called."""

    title: str
    columns: Mapping[str, str]
    sections: Mapping[str, Sequence[Row]]

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.sections.values() for row in rows]


def route(method: str, path: str) -> str:
    """Method and path without names, by which the table, the program and the document are compared."""
    return f"{method} {re.sub(r'{[^}]*}', '{}', path.partition('?')[0])}"


def bad(body: Any) -> Any:
    """The body with numbers where texts and flags belong; ids stay where there is anything else."""
    if not isinstance(body, dict) or not body or "{me}" in body.values():
        return None
    plain = [name for name, value in body.items() if not str(value).startswith("{")]
    return body | dict.fromkeys(plain or body, 5)


def filled(template: Any, ids: Mapping[str, str]) -> Any:
    """The template with ids for the names in braces."""
    if isinstance(template, str):
        return template.format_map(ids)
    if isinstance(template, list):
        return [filled(item, ids) for item in template]
    if isinstance(template, dict):
        return {name: filled(item, ids) for name, item in template.items()}
    return template


def _text(body: Any) -> str:
    return msgspec.json.encode(body).decode() if isinstance(body, dict) else ""
