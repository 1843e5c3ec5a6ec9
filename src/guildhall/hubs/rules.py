"""What a hub may be called and set to, and who may be what in it. No I/O, no clock, no SQL."""

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias, get_args

import msgspec

from guildhall.errors import AppError, FieldError, Forbidden
from guildhall.spaces.seats import HubSeat
from guildhall.web.wire import MAX_ICON, Email, tidy, tidy_icon

MAX_NAME = 100
Accent: TypeAlias = Literal["violet", "blue", "green", "amber", "rose", "slate"]
DeletePolicy: TypeAlias = Literal["none", "own", "any"]
HeaderMode: TypeAlias = Literal["none", "signature", "time"]
InvitedRole: TypeAlias = Literal["admin", "contributor", "viewer"]
SETTINGS = frozenset(
    {
        "dreams_enabled",
        "dreams_merge_enabled",
        "dreams_archive_enabled",
        "dreams_organize_enabled",
        "dreams_restructure_enabled",
        "dreams_use_agent_runtime",
        "dreams_board_synthesis_enabled",
    }
)
LANGUAGES = frozenset(
    [
        "simple",
        "arabic",
        "armenian",
        "basque",
        "catalan",
        "danish",
        "dutch",
        "english",
        "finnish",
        "french",
        "german",
        "greek",
        "hindi",
        "hungarian",
        "indonesian",
        "irish",
        "italian",
        "lithuanian",
        "nepali",
        "norwegian",
        "portuguese",
        "romanian",
        "russian",
        "serbian",
        "spanish",
        "swedish",
        "tamil",
        "turkish",
        "yiddish",
    ]
)
ROLES: Mapping[str, InvitedRole] = {
    "": "contributor",
    "admin": "admin",
    "contributor": "contributor",
    "member": "contributor",
    "viewer": "viewer",
    "reader": "viewer",
}


class BadField(AppError):
    """Something is wrong with one field of the body."""

    field: ClassVar[str]

    def __init__(self, message: str | None = None, *, at: str = "") -> None:
        super().__init__(message)
        self.errors = (FieldError("/" + self.field + at, self.code, self.message),)


class InsufficientRole(Forbidden):
    code = "insufficient_role"
    title = "Only the hub's owner and admins may manage its invites."


class PersonalHub(AppError):
    code = "personal_hub"
    title = "A personal hub is its owner's alone: it cannot be shared, handed over, left or deleted."


class PersonalHubHeaderMode(BadField):
    field = "header_aurora_mode"
    code = "personal_hub_header_mode"
    title = "The header of a personal hub is set in its owner's own settings."


class MissingName(BadField):
    field = "name"
    code = "missing_name"
    title = "A hub needs a name."


class InvalidName(BadField):
    field = "name"
    code = "invalid_name"
    title = f"A name has at most {MAX_NAME} characters, all of them visible."


class InvalidIcon(BadField):
    field = "icon"
    code = "invalid_icon"
    title = f"An icon has at most {MAX_ICON} characters, such as one emoji."


class InvalidAccent(BadField):
    field = "accent"
    code = "invalid_accent"
    title = "An accent is one of violet, blue, green, amber, rose and slate."


class InvalidDeletePolicy(BadField):
    field = "contributor_delete_policy"
    code = "invalid_delete_policy"
    title = "Contributors may delete none, their own or any memories."


class InvalidHeaderAuroraMode(BadField):
    field = "header_aurora_mode"
    code = "invalid_header_aurora_mode"
    title = "The header's mode is one of none, signature and time."


class UnknownSetting(BadField):
    field = "settings"
    code = "unknown_setting"
    title = "There is no such setting of a hub."


class InvalidSettingValue(BadField):
    field = "settings"
    code = "invalid_setting_value"
    title = "A hub's setting is true or false, or null for its default."


class InvalidLanguage(BadField):
    field = "language"
    code = "invalid_language"
    title = "A language is simple or one that the full text search of PostgreSQL knows, as english or german."


class InvalidRole(BadField):
    field = "role"
    code = "invalid_role"
    title = "A role is admin, contributor or viewer. Ownership passes by a transfer only."


class MissingUserId(BadField):
    field = "user_id"
    code = "missing_user_id"
    title = "Say who, as user_id."


class MissingTargetUserId(BadField):
    field = "target_user_id"
    code = "missing_target_user_id"
    title = "Say to whom, as target_user_id."


class CannotChangeOwner(AppError):
    code = "cannot_change_owner"
    title = "The owner's role changes by an accepted ownership transfer only."


class CannotRemoveOwner(AppError):
    code = "cannot_remove_owner"
    title = "The owner cannot be removed. Transfer the ownership first."


class LastOwnerDeleteRequired(AppError):
    code = "last_owner_delete_required"
    title = "You are the only one here. Delete the hub instead."


class OwnershipTransferRequired(AppError):
    code = "ownership_transfer_required"
    title = "An owner cannot leave. Transfer the ownership first."


class InvalidEmail(BadField):
    field = "invitee"
    code = "invalid_email"
    title = "This is not an e-mail address, alone and without a name."


class OwnershipCapExceeded(Forbidden):
    code = "ownership_cap_exceeded"
    title = "You own as many hubs as you may. Hand one over or delete one first."


def check_shared(seat: HubSeat) -> None:
    """Refuse what makes no sense in a hub for one."""
    if seat.personal:
        raise PersonalHub


def clean_name(raw: str) -> str:
    """A name as it is kept; empty when there is nothing in it. Raises InvalidName."""
    name = tidy(raw)
    if name is None or len(name) > MAX_NAME:
        raise InvalidName
    return name


def clean_icon(raw: str) -> str | None:
    """An icon as it is kept, None for none. Raises InvalidIcon."""
    icon = tidy_icon(raw)
    if icon is None:
        raise InvalidIcon
    return icon or None


def clean_accent(raw: str, *, personal: bool) -> str:
    """An accent; empty means that of the hub's type. Raises InvalidAccent."""
    if raw == "":
        return default_accent(personal=personal)
    if raw not in get_args(Accent):
        raise InvalidAccent
    return raw


def default_accent(*, personal: bool) -> str:
    return "violet" if personal else "amber"


def check_delete_policy(raw: str) -> str:
    if raw not in get_args(DeletePolicy):
        raise InvalidDeletePolicy
    return raw


def clean_header_mode(raw: str, *, personal: bool) -> str | None:
    """A header's mode, None for none set. Raises PersonalHubHeaderMode, InvalidHeaderAuroraMode."""
    if personal:
        raise PersonalHubHeaderMode
    if raw == "":
        return None
    if raw not in get_args(HeaderMode):
        raise InvalidHeaderAuroraMode
    return raw


def check_language(raw: str) -> str:
    """A language as it is kept; empty means the default. Raises InvalidLanguage."""
    if raw == "":
        return "english"
    if raw not in LANGUAGES:
        raise InvalidLanguage
    return raw


def check_settings(given: Mapping[str, object]) -> None:
    """Refuse unless each is a hub's setting and true, false or null."""
    for name, value in given.items():
        if name not in SETTINGS:
            raise UnknownSetting(at="/" + name)
        if value is not None and not isinstance(value, bool):
            raise InvalidSettingValue(at="/" + name)


def read_role(raw: str) -> InvitedRole:
    """The role that a word stands for; contributor where there is none. Raises InvalidRole."""
    role = ROLES.get(raw)
    if role is None:
        raise InvalidRole
    return role


def read_address(raw: str) -> str | None:
    """The address of an invite, None for none. Raises InvalidEmail."""
    address = tidy(raw)
    if address == "":
        return None
    try:
        return msgspec.convert(address, Email)
    except msgspec.ValidationError as error:
        raise InvalidEmail from error
