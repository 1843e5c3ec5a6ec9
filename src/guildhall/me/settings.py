"""`/v1/settings`: what a person has set for themselves, over what is there anyway."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from litestar import get, patch
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Meta, UnsetType

from guildhall.db import Read, Write
from guildhall.errors import AppError, FieldError
from guildhall.spaces.seats import as_uuid
from guildhall.users.accounts import lock_me
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.docs import facts
from guildhall.web.wire import Data, OptionalV1, WireV1

MOST_HIDDEN_HUBS = 200
MOST_DAYS = 3_650
MOST_PERSONA_CHARACTERS = 64
KINDS = frozenset({"episodic", "semantic", "procedural", "rationale"})
HeaderMode = Literal["none", "signature", "time"]
Theme = Literal["auto", "light", "dark"]
Locale = Literal["", "en", "zh"]


class MovedToHubSettings(AppError):
    code = "moved_to_hub_settings"
    title = "Dreams are switched in the settings of each hub."


class UnknownSetting(AppError):
    code = "unknown_setting"
    title = "There is no such setting, or it cannot be changed here."


class InvalidSetting(AppError):
    code = "invalid_setting"
    title = "The setting does not take this value."


class DevFlags(WireV1, frozen=True, kw_only=True):
    """Switches for people who develop clients; the server does not look at them."""

    mockDreams: bool
    mockDreaming: bool
    mockEmptyInbox: bool
    mockProUser: bool
    debuggerEnabled: bool
    skipRerank: bool


class Settings(OptionalV1, frozen=True, kw_only=True):
    """What holds. `dreams_enabled` and the four phases after it are read only: each hub switches its own."""

    dreams_enabled: bool
    dreams_merge_enabled: bool
    dreams_archive_enabled: bool
    dreams_organize_enabled: bool
    dreams_restructure_enabled: bool
    dreams_use_agent_runtime: bool
    dreams_board_synthesis_enabled: bool
    dreams_excluded_kinds: Annotated[list[str], Meta(examples=[["episodic"]])]
    dreams_similarity_threshold: float
    dreams_staleness_days: int
    hub_header_aurora_mode: HeaderMode
    dev_flags: DevFlags
    notifications_enabled: bool
    theme: Theme
    locale: Locale
    chat_default_persona_id: str
    pulse_hidden_hub_ids: list[str] | UnsetType = UNSET


class ChangeSettings(OptionalV1, frozen=True, kw_only=True):
    """What is absent stays. Of `dev_flags` those named change, the others stay."""

    dreams_excluded_kinds: Annotated[list[str], Meta(examples=[["episodic"]])] | UnsetType = UNSET
    dreams_similarity_threshold: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    dreams_staleness_days: Annotated[int, Meta(ge=1, le=MOST_DAYS)] | UnsetType = UNSET
    hub_header_aurora_mode: HeaderMode | UnsetType = UNSET
    dev_flags: Annotated[dict[str, bool], Meta(examples=[{"debuggerEnabled": True}])] | UnsetType = UNSET
    notifications_enabled: bool | UnsetType = UNSET
    theme: Theme | UnsetType = UNSET
    locale: Locale | UnsetType = UNSET
    chat_default_persona_id: str | UnsetType = UNSET
    pulse_hidden_hub_ids: (
        Annotated[list[str], Meta(max_length=MOST_HIDDEN_HUBS, examples=[[]])] | UnsetType
    ) = UNSET


PHASES = (
    "dreams_enabled",
    "dreams_merge_enabled",
    "dreams_archive_enabled",
    "dreams_organize_enabled",
    "dreams_restructure_enabled",
)
DEV_FLAGS: tuple[str, ...] = DevFlags.__struct_fields__
DEFAULTS: Mapping[str, Any] = {
    **dict.fromkeys(PHASES, True),
    "dreams_use_agent_runtime": False,
    "dreams_board_synthesis_enabled": True,
    "dreams_excluded_kinds": [],
    "dreams_similarity_threshold": 0.85,
    "dreams_staleness_days": 60,
    "hub_header_aurora_mode": "signature",
    "dev_flags": dict.fromkeys(DEV_FLAGS, False),
    "notifications_enabled": True,
    "theme": "auto",
    "locale": "",
    "chat_default_persona_id": "",
}


def check_changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are kept. Raises MovedToHubSettings, UnknownSetting, InvalidSetting.

    The error is of the first that is wrong, and names all of them.
    """
    kept: dict[str, Any] = {}
    wrong: list[tuple[str, type[AppError]]] = []
    for name, value in given.items():
        if name in PHASES:
            wrong.append((name, MovedToHubSettings))
        elif name not in ChangeSettings.__struct_fields__:
            wrong.append((name, UnknownSetting))
        elif (fits := _kept(name, value)) is None:
            wrong.append((name, InvalidSetting))
        else:
            kept[name] = fits
    if wrong:
        raise wrong[0][1](errors=[FieldError("/" + name, kind.code, kind.title) for name, kind in wrong])
    return kept


def _kept(name: str, value: Any) -> Any:
    """None for a value that does not fit."""
    match name:
        case "dreams_excluded_kinds":
            return [*dict.fromkeys(value)] if _is_list_of(value, KINDS.__contains__) else None
        case "dreams_similarity_threshold":
            return value if _is_number(value) and 0 <= value <= 1 else None
        case "dreams_staleness_days":
            return value if isinstance(value, int) and _is_number(value) and 1 <= value <= MOST_DAYS else None
        case "notifications_enabled":
            return value if isinstance(value, bool) else None
        case "hub_header_aurora_mode":
            return value if value in get_args(HeaderMode) else None
        case "theme":
            return value if value in get_args(Theme) else None
        case "locale":
            return value if value in get_args(Locale) else None
        case "dev_flags":
            return value if _are_flags(value) else None
        case "pulse_hidden_hub_ids":
            return [*dict.fromkeys(value)] if _is_list_of(value, _is_id, MOST_HIDDEN_HUBS) else None
        case _:
            return value if isinstance(value, str) and len(value) <= MOST_PERSONA_CHARACTERS else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_id(item: str) -> bool:
    return as_uuid(item) is not None


def _is_list_of(value: object, fits: Any, most: int = 100) -> bool:
    if not isinstance(value, list):
        return False
    items = cast("list[Any]", value)
    return len(items) <= most and all(isinstance(item, str) and fits(item) for item in items)


def _are_flags(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    flags = cast("dict[str, Any]", value)
    return all(name in DEV_FLAGS and isinstance(flag, bool) for name, flag in flags.items())


def overlaid(stored: str | None) -> Settings:
    """The defaults with what is stored over them."""
    own: dict[str, Any] = msgspec.json.decode(stored or "{}")
    values = {**DEFAULTS, **own}
    values["dev_flags"] = {**DEFAULTS["dev_flags"], **own.get("dev_flags", {})}
    return msgspec.convert(values, Settings)


class _Stored(msgspec.Struct, frozen=True):
    user_id: str
    settings: str | None


async def find_settings(read: Read, caller: Caller) -> Settings:
    """Raises what explains a caller who is nobody."""
    row = await read.maybe(
        _Stored,
        "SELECT asking.user_id, p.settings::text AS settings FROM me($1, $2, $3) AS asking"
        " LEFT JOIN person_settings p ON p.user_id = asking.user_id",
        *caller.me,
    )
    if row is None:
        raise await explain_absence(read, caller)
    return overlaid(row.settings)


async def merge_settings(tx: Write, caller: Caller, changes: Mapping[str, Any]) -> Settings:
    """Change these and no others, flag by flag; what others change at the same time stays changed."""
    stored = await tx.value(
        """
        INSERT INTO person_settings AS own (user_id, settings) VALUES ($1, $2::text::jsonb)
        ON CONFLICT (user_id) DO UPDATE
           SET settings = own.settings || excluded.settings
                   || CASE WHEN excluded.settings ? 'dev_flags'
                           THEN jsonb_build_object('dev_flags', coalesce(own.settings -> 'dev_flags', '{}')
                                                                || (excluded.settings -> 'dev_flags'))
                           ELSE '{}' END,
               updated_at = now()
        RETURNING settings::text
        """,
        caller.user,
        msgspec.json.encode(changes).decode(),
    )
    return overlaid(stored)


@get("/v1/settings", summary="Read one's settings", opt=facts(atom="settings:read"))
async def read_settings(caller: NamedDependency[Caller]) -> Data[Settings]:
    async with caller.db.reading() as read:
        return Data(await find_settings(read, caller))


@patch(
    "/v1/settings",
    summary="Change one's settings",
    opt=facts(MovedToHubSettings, UnknownSetting, InvalidSetting, atom="settings:write"),
)
async def change_settings(caller: NamedDependency[Caller], data: Sent[ChangeSettings]) -> Data[Settings]:
    """All of it or nothing."""
    async with caller.db.writing() as tx:
        await lock_me(tx, caller)
        return Data(await merge_settings(tx, caller, check_changes(data.fields())))


ROUTES: list[HTTPRouteHandler] = [read_settings, change_settings]
