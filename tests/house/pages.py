"""The pages of the documentation that are made from the code: errors and settings."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping

import guildhall
from guildhall.errors import AppError
from guildhall.settings import PREFIX
from guildhall.settings_about import GROUPS, Setting
from guildhall.web.openapi import ANYWHERE, operations, refusals
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


PAGES: Mapping[str, Callable[[], str]] = {"errors.md": errors, "settings.md": settings}
