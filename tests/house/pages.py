"""The pages of the documentation that are made from the code: errors, rate limits and settings."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping

import guildhall
from guildhall.errors import AppError
from guildhall.settings import PREFIX
from guildhall.settings_about import GROUPS, Setting
from guildhall.spaces.invites import MAX_RESENDS, RESEND_EVERY
from guildhall.web.limits import DAY, EXACT, HOUR, LOCAL, MINUTE, TOGETHER, Rate
from guildhall.web.openapi import ANYWHERE, operations, refusals
from guildhall.web.waiting import MOST_EACH
from guildhall.wiring import ROUTES

# What may be wrong with a field.
FIELDS: Mapping[str, str] = {
    "required": "It has to be there.",
    "type": "It is of another type: a number in quotes is no number, null no text.",
    "format": "It is not of the expected form.",
    "encoding": "It is not UTF-8.",
    "repeated": "It is given twice.",
    "too_short": "It has fewer characters or items than it should, after trimming.",
    "too_long": "It has more.",
    "length": "It has another number of characters than it should.",
    "out_of_range": "It is too small or too large.",
    "not_allowed": "It is none of the values that are allowed here.",
    "character": "It holds a control, invisible or private-use character.",
    "invalid": "It is not acceptable; the message says why.",
    "invalid_json": "The body as a whole is not one plain JSON object.",
    "invalid_cursor": "It is no cursor of this list. Start without one.",
    "too_deep": "The page is too far from the first. Use a cursor.",
    "ambiguous": "The body and the query name different people.",
}

# What counts against a limit, and whose it is.
LIMITS: Mapping[str, tuple[str, str]] = {
    "user": ("every call with a session or a key", "a person"),
    "user writes": ("every call of these that may change something", "a person"),
    "content": ("making communities, hubs, groups, posts, uploads and memories", "a person"),
    "address": ("every call without a session", "an address"),
    "invite look-up": ("looking an invite up", "an address"),
    "invite misses": ("looking up what is no invite", "everybody together"),
    "accept": ("accepting an invite or an offer", "a person"),
    "slug check": ("asking whether a slug is free", "a person"),
    "profile": ("reading a profile", "a person"),
    "direct add": ("adding somebody to a group or a hub", "a person"),
    "sync": ("making oneself known", "a person"),
    "search": ("recalling, asking, and looking for words in a list", "a person, or an address"),
    "type-ahead": ("searching while typing", "a person"),
    "code request": ("asking for a sign-in code on `/v1`", "an address"),
    "code try": ("signing in by a code on `/v1`", "an address"),
    "tokens": ("exchanging and refreshing tokens on `/v1`", "an address"),
    "ask": ("asking to be answered in quotations", "a person"),
    "batch": ("changing or deleting many memories at once", "a person"),
    "invites by a user": ("inviting", "a person"),
    "invites of a space": ("inviting into a community or a hub", "a community or hub"),
    "invites to an address": ("inviting an e-mail address", "an e-mail address"),
    "backlog from an address": ("changing the backlog", "an address"),
    "backlog": ("changing the backlog", "everybody together"),
    "chat token": ("asking for a chat token", "a person"),
    "code to an address": ("asking for a sign-in code", "an e-mail address"),
    "codes from an address": ("asking for a sign-in code", "an address"),
    "code tries from an address": ("signing in by a code", "an address"),
    "export": ("asking for an archive of one's data", "a person"),
    "keys by a user": ("making API keys", "a person"),
    "onboarding restarts": ("beginning one's first steps again", "a person"),
}
PERIODS = {MINUTE: "a minute", HOUR: "an hour", DAY: "a day"}

# Whose connection has ended hears nothing any more; the others are only there to be refined.
UNHEARD = {"incomplete", "bad_request", "conflict"}


ERRORS = """# Errors

Decide by `code`; it is never renamed. `detail` (on `/v1` `message`) says the same to a person, often more of
it. A refusal has changed nothing; only after `outcome_unknown` nobody knows.

Where several reasons apply, the first of these is told: no session, nothing to be seen, no right, not well
formed, not in this state. So a 404 says nothing about what is there, and a 400 about a body comes only to who
may send it.

Try again what is 429 or 503, after as many seconds as `Retry-After` says, and `idempotency_in_flight` in a
moment.

| status | code | what it says | from |
|---|---|---|---|
{codes}

## Fields

A 400 names every bad field in `errors` (on `/v1` in `details.errors`): by a JSON pointer into the body, as
`?name` in the query, or by the name of a header.

| code | |
|---|---|
{fields}

This page is made from the code by `make openapi`.
"""

SETTINGS = """# Settings

From the environment, or from a TOML file, where the names are in lower case and without the prefix. The
environment wins. A name that is unknown, or a value that cannot be meant, is a reason not to start; all of
them are told at once, and `guildhall check` tells them without starting.

```toml
# guildhall.toml in the data directory
public_url = "https://guild.example"
operators = ["ada@guild.example"]
workers = 4
```
{settings}

This page is made from the code by `make openapi`.
"""


RATES = """# Rate limits

Beyond a limit the answer is 429, with the seconds to wait in `Retry-After`; nothing was changed then. What
was used comes back evenly, so that after a full burst the next call is let through soon. A call counts
against every limit it is named in. `GUILDHALL_RATE_LIMIT_SCALE` multiplies all of these numbers; 0 is no
limit.

An address is that of the connection or, where that comes from one of `GUILDHALL_TRUSTED_PROXIES`, the one
this names last in `X-Forwarded-For`. All IPv6 addresses that begin with the same 64 bits are one.

## In one process

These are counted by each process for itself: with `--workers N`, or on more machines, somebody whose calls
come to all of them may do up to that many times as much.

| what counts | whose | how often |
|---|---|---|
{local}

One person has at most {searches} recalls and searches at work at once, and one person or address at most
{waiting} requests whose body has not come yet or whose answer is still being read.

## Over all processes

These are counted in the database and hold whatever the number of processes.

| what counts | whose | how often |
|---|---|---|
{exact}

What a hub may hold is said [there](hubs.md#limits).

An invite is sent again once in {resend_minutes} minutes and {resends} times in all.

This page is made from the code by `make openapi`.
"""


def rates() -> str:
    return RATES.format(
        local="\n".join(_rates(limit, each) for limit, each in LOCAL.items()),
        exact="\n".join(_rates(limit, each) for limit, each in EXACT.items()),
        searches=TOGETHER["search"],
        waiting=MOST_EACH,
        resend_minutes=int(RESEND_EVERY.total_seconds() // 60),
        resends=MAX_RESENDS,
    )


def _rates(limit: str, rates: tuple[Rate, ...]) -> str:
    what, whose = LIMITS[limit]
    often = [
        f"{rate.count:,} {PERIODS[rate.period_s]}" + (f", {rate.burst} at once" if rate.burst else "")
        for rate in rates
    ]
    return f"| {what} | {whose} | {'; '.join(often)} |"


def modules() -> Iterator[str]:
    """Every module of the package, which is not thereby imported."""
    for found in pkgutil.walk_packages(guildhall.__path__, "guildhall."):
        if found.name.rpartition(".")[2] != "__main__":
            yield found.name


def all_errors() -> list[type[AppError]]:
    """Every refusal that is declared anywhere, by status and code."""
    for name in modules():
        importlib.import_module(name)
    found: list[type[AppError]] = []
    waiting = [AppError]
    while waiting:
        kinds = waiting.pop().__subclasses__()
        found += kinds
        waiting += kinds
    ours = {kind for kind in found if kind.__module__.startswith("guildhall.")}
    return sorted(ours, key=lambda kind: (kind.status, kind.code, kind.title))


def errors() -> str:
    places = _places()
    lines: list[str] = []
    for (status, code), titles in _meanings():
        where = places.get((status, code), "any call")
        lines.append(f"| {status} | `{code}` | {' '.join(titles)} | {where} |")
    fields = [f"| `{code}` | {about} |" for code, about in FIELDS.items()]
    return ERRORS.format(codes="\n".join(lines), fields="\n".join(fields))


def _meanings() -> list[tuple[tuple[int, str], list[str]]]:
    """Each status and code with what its refusals say, the general before the particular."""
    said: dict[tuple[int, str], list[str]] = {}
    for kind in sorted(all_errors(), key=lambda kind: len(kind.mro())):
        titles = said.setdefault((kind.status, kind.code), [])
        if kind.title not in titles:
            titles.append(kind.title)
    return sorted((key, titles) for key, titles in said.items() if key[1] not in UNHEARD)


def _places() -> dict[tuple[int, str], str]:
    """From which calls a refusal comes, by the first words of their paths, where it is not from any."""
    found: dict[tuple[int, str], set[str]] = {}
    for operation in operations(ROUTES):
        if operation.path.startswith(("/api/", "/v1/")):
            place = "`/" + "/".join(operation.path.split("/")[1:3]) + "`"
            for kind in refusals(operation):
                found.setdefault((kind.status, kind.code), set()).add(place)
    anywhere = {kind.code for kind in ANYWHERE}
    few = {key: places for key, places in found.items() if key[1] not in anywhere and len(places) <= 4}
    return {key: ", ".join(sorted(places)) for key, places in few.items()}


def settings() -> str:
    lines: list[str] = []
    for title, group in GROUPS.items():
        lines += ["", f"## {title}", "", "| setting | default | |", "|---|---|---|"]
        lines += [_setting(each) for each in group]
    return SETTINGS.format(settings="\n".join(lines))


def _setting(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    return f"| `{PREFIX}{setting.name}` | {default} | {setting.about} |"


PAGES: Mapping[str, Callable[[], str]] = {"errors.md": errors, "limits.md": rates, "settings.md": settings}
