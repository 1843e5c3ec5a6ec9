"""Writes `docs/permissions.md` from the tables: `make openapi`."""

import json
from collections.abc import Iterator
from pathlib import Path

from guildhall.web.openapi import operations
from guildhall.wiring import ROUTES
from tests.authz.keys import NEEDS
from tests.authz.rows import Row, Table, route
from tests.authz.tables import TABLES

PATH = Path(__file__).parents[2] / "docs" / "permissions.md"

INTRO = """\
# Who may do what

Every call of the service, and what each kind of caller is answered. A test plays all of it against the
service, on all the objects named below, and looks that a refusal leaves the database as it was.

**yes** means that the call is served; a number is the status of the refusal. The columns are:

- *nobody*: no session, or one of an account that was erased or closed
- *outsider*: somebody with a session and no membership: a stranger, the owner of another community, a former
  member, somebody with an open invite. *Public* is what they are told where the community is public.
- *member*, *moderator*, *admin*, *owner*: the ranks of a community. A *group admin* is a member who is admin
  of the group in question.

On `/v1` an API key may what its person may, if it has the permission in the column *key*, and in its hubs
alone where it is for certain ones: the others are to it as if its person were an outsider. *No* is for
sessions alone, *not limited* for keys that are for no certain hubs. On `/api` keys are refused (403).

The tables speak of one's own community and what is in it. The rest follows from four rules:

1. What somebody may not know of is answered like what never was: 404, in the same words. So it is with other
   people's private communities, with deleted ones, and with all that is in them.
2. The owner of one community is an outsider to every other. A former member is an outsider too, also to what
   they wrote there.
3. What one call names belongs together: a child of another community is missing, whoever asks.
4. Refusals come in one order: no session (401), nothing to be seen (404), no right (403), not well formed
   (400), not now (409, 410). An earlier one hides the later.

Names in braces say what a call is about. `{group}` is private, `{open_group}` is seen by every member.
`{post}`, `{memory}` and `{topic}` are somebody else's, `{my_post}` and `{my_memory}` are the caller's,
`{group_post}` is somebody else's in the private group. `{person}` is a plain member,
`{an_admin}` and `{the_owner}` are what they say, `{me}` is the caller.
`{handed}` is a community that its owner offered to its moderator.

This page is made from `tests/authz` by `make openapi`.
"""


def text() -> str:
    return INTRO + "".join(line + "\n" for table in TABLES for line in _table(table))


def _table(table: Table) -> Iterator[str]:
    summaries = {route(o.method, o.path): o.summary for o in operations(ROUTES)}
    titles = [*dict.fromkeys(table.columns.values())]
    yield f"\n## {table.title}"
    for section, rows in table.sections.items():
        yield f"\n### {section}\n"
        # Keys are of use on one surface alone.
        with_keys = any(row.for_keys for row in rows)
        heads = [*titles, *(["key"] if with_keys else [])]
        yield f"| | {' | '.join(heads)} |"
        yield f"|---|{'---|' * len(heads)}"
        for row in rows:
            answers = {title: _answer(row, name) for name, title in table.columns.items()}
            cells = [answers[title] for title in titles] + ([_key(row)] if with_keys else [])
            yield f"| {_call(row, summaries[row.route])} | {' | '.join(cells)} |"


def _key(row: Row) -> str:
    """What a key needs for the call."""
    if row.for_everybody:
        return "yes"
    need = NEEDS.get(row.route)
    words = {"any": "yes", "whole": "not limited"}
    return ", ".join(words.get(word, f"`{word}`") for word in need.split()) if need else "no"


def _call(row: Row, summary: str) -> str:
    body = f" `{json.dumps(row.body)}`" if isinstance(row.body, dict) else ""
    body += "".join(f" `{name}: {value}`" for name, value in row.headers.items())
    but = [f"{principal.replace('_', ' ')}: {_word(status)}" for principal, status in row.but.items()]
    notes = "; ".join([row.note, *but] if row.note else but)
    return f"{summary}{f' ({notes})' if notes else ''}<br>`{row.call}`{body}"


def _answer(row: Row, column: str) -> str:
    # Where nothing is public, all outsiders are alike.
    return _word(row.statuses.get(column, row.statuses["outsider"]))


def _word(status: int) -> str:
    return "yes" if status < 300 else str(status)


if __name__ == "__main__":
    PATH.write_text(text(), "utf-8")
