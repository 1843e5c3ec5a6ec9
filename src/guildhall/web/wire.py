"""What goes over the wire: base structs, the texts people may send, and strict decoding.

A body is read without coercion, and every bad field is named at once. Texts are normalised to NFC and
trimmed before their length is judged, so a length means characters as a person counts them.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from json import JSONDecoder
from math import inf
from typing import Annotated, Any, Generic, Literal, TypeVar, cast, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta

from guildhall.errors import FieldError, Invalid

T = TypeVar("T")

MAX_DEPTH = 32
MAX_KEYS = 200
MAX_ITEMS = 1_000
MAX_DIGITS = 20
# As many as a stream-safe text has on one letter (Unicode Standard Annex 15, section 13).
MAX_MARKS = 30


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A shape of `/api`: camelCase, every promised field always present."""


class Optional(Wire, frozen=True, kw_only=True, omit_defaults=True):
    """A shape of `/api` with fields that may be absent."""


class InvalidJson(Invalid):
    code = "invalid_json"
    title = "The body is not the JSON object that this route takes."


class WireV1(msgspec.Struct, frozen=True, kw_only=True):
    """A shape of `/v1`: snake_case, every promised field always present."""


class OptionalV1(WireV1, frozen=True, kw_only=True, omit_defaults=True):
    """A shape of `/v1` with fields that may be absent."""


class Data(msgspec.Struct, Generic[T], frozen=True):
    """The envelope of every success on `/v1`."""

    data: T


# How a text may look. `line`: one line without invisible characters; `prose`: several lines as given;
# `exact`: judged as it stands, neither normalised nor trimmed; `file`: a line that is the address of a file
# stored here.
TextKind = Literal["line", "prose", "exact", "file"]

IsFile = Callable[[str], bool]


def text(min_length: int, max_length: int, kind: TextKind = "line", pattern: str | None = None) -> Meta:
    """The constraints of a text, for `Annotated[str, text(2, 100)]`."""
    return Meta(min_length=min_length, max_length=max_length, pattern=pattern, extra={"text": kind})


def one_of(*words: str, example: str | None = None) -> Meta:
    """Says which texts are taken, for the documentation alone: the room of the field refuses others itself,
    with a code of its own.
    """
    return Meta(examples=[example or words[0]], extra_json_schema={"enum": list(words)})


# Not what reads as another script's word or as an id.
Slug = Annotated[
    str, text(4, 50, "exact", r"^(?!xn--)(?![0-9a-f]{8}-[0-9a-f]{4}-)[a-z0-9][a-z0-9-]*[a-z0-9]$")
]
Email = Annotated[
    str, text(3, 254, "line", r'^[^@\s<>(),;:"\[\]\\]+@[^@\s<>(),;:"\[\]\\]+\.[^@\s<>(),;:"\[\]\\.]+$')
]
FileUrl = Annotated[str, text(1, 2048, "file")]
UserIdText = Annotated[str, text(1, 64, "exact", r"^[A-Za-z0-9_-]+$")]
UuidText = Annotated[
    str, text(36, 36, "exact", r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]

# Characters that make two texts look alike or turn them around: control, bidi, zero-width, private use.
_UNSEEN = re.compile(
    "[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)

# Letters by their class, which come apart into marks.
_MARKS_IN_DISGUISE = "\u0f73\u0f75\u0f81\uff9e\uff9f"
_IS_MARK = bytes([0]) + bytes([1]) * 255
_PILE = bytes([1]) * (MAX_MARKS + 1)


def decode(kind: type[T], raw: bytes, is_file: IsFile) -> T:
    """Read a JSON body as `kind`. Raises Invalid naming every bad field by an RFC 6901 pointer.

    `is_file` says which addresses are those of files stored here.

    A shape of `/v1` says only of what JSON type a field is, so there it is always InvalidJson; what else a
    field must be is a rule of its room, each with a code of its own.
    """
    try:
        return build(kind, parse(raw), is_file)
    except Invalid as error:
        if issubclass(kind, WireV1):
            raise InvalidJson(errors=error.errors) from error
        raise


def parse(raw: bytes) -> Any:
    """Read JSON strictly: no duplicate keys, no NaN, nothing trailing, nothing too deep or too wide."""
    try:
        source = raw.decode("utf-8")
        value = _DECODER.decode(source.strip(" \t\r\n"))
    except _Bad as error:
        raise _refuse(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _refuse("The body is not one well-formed JSON value in UTF-8.") from error
    _survey(value, 0)
    return value


class _Bad(Exception):
    pass


def _refuse(message: str) -> Invalid:
    return Invalid(message, errors=[FieldError("", "invalid_json", message)])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise _Bad(f"An object has more than {MAX_KEYS} keys.")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Bad("An object names the same key twice.")
    return found


def _number(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(digits: str) -> Any:
        if len(digits) > MAX_DIGITS:
            raise _Bad(f"A number has more than {MAX_DIGITS} digits.")
        value = convert(digits)
        if value in (inf, -inf):
            raise _Bad("A number is too large.")
        return value

    return read


def _constant(name: str) -> Any:
    raise _Bad(f"{name} is not JSON.")


_DECODER = JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_number(int),
    parse_float=_number(float),
    parse_constant=_constant,
)


def _survey(value: Any, depth: int) -> None:
    """Refuse what is too deep, too long, or holds U+0000 or half of a surrogate pair, anywhere."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        if depth >= MAX_DEPTH:
            raise _refuse(f"The body is nested more than {MAX_DEPTH} deep.")
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
            _check_text(key)  # pyright: ignore[reportUnknownArgumentType]
            _survey(inner, depth + 1)
    elif isinstance(value, list):
        if depth >= MAX_DEPTH:
            raise _refuse(f"The body is nested more than {MAX_DEPTH} deep.")
        if len(value) > MAX_ITEMS:  # pyright: ignore[reportUnknownArgumentType]
            raise _refuse(f"An array has more than {MAX_ITEMS} items.")
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            _survey(inner, depth + 1)


def _check_text(value: str) -> None:
    if "\x00" in value:
        raise _refuse("A text holds the character U+0000.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _refuse("A text holds half of a surrogate pair.") from error
        if piled_up(value):
            raise _refuse(f"A text has more than {MAX_MARKS} marks on one letter.")


def piled_up(value: str) -> bool:
    """Whether a letter carries more marks than any script needs.

    To bring marks into their order takes time by the square of their number, here and in the database.
    """
    for letter in _MARKS_IN_DISGUISE:
        value = value.replace(letter, "\u0301")
    return _PILE in bytes(map(unicodedata.combining, value)).translate(_IS_MARK)


class _Field(msgspec.Struct, frozen=True):
    name: str
    wire_name: str
    type: Any
    text: TextKind | None
    required: bool


@cache
def _fields(kind: type) -> tuple[_Field, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        _Field(
            field.name, field.encode_name, hints[field.name], _text_kind(hints[field.name]), field.required
        )
        for field in msgspec.structs.fields(kind)
    )


def _text_kind(hint: Any) -> TextKind | None:
    for argument in get_args(hint):
        if isinstance(argument, Meta) and argument.extra and "text" in argument.extra:
            return argument.extra["text"]
        if (inner := _text_kind(argument)) is not None:
            return inner
    return None


def build(kind: type[T], value: Any, is_file: IsFile) -> T:
    """Make a `kind` of parsed JSON. Unknown keys are ignored; every bad field is named."""
    if not isinstance(value, dict):
        raise _refuse("The body must be a JSON object.")
    given: Mapping[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    made: dict[str, Any] = {}
    errors: list[FieldError] = []
    for field in _fields(kind):
        pointer = "/" + field.wire_name
        if field.wire_name not in given:
            if field.required:
                errors.append(FieldError(pointer, "required", "This field is required."))
            continue
        raw = cast("Any", given[field.wire_name])
        problem: tuple[str, str] | None = None
        if field.text is not None:
            raw, problem = _normalise(raw, field.text)
        if problem is None:
            try:
                made[field.name] = msgspec.convert(raw, field.type)
                if field.text == "file":
                    errors += _not_files(pointer, raw, is_file)
                continue
            except msgspec.ValidationError as error:
                problem = _explain(str(error))
        errors.append(FieldError(pointer, *problem))
    if errors:
        raise Invalid(errors=errors)
    return kind(**made)


def _not_files(pointer: str, value: str | list[str] | None, is_file: IsFile) -> list[FieldError]:
    if isinstance(value, list):
        return [bad for n, url in enumerate(value) for bad in _not_files(f"{pointer}/{n}", url, is_file)]
    if value is None or is_file(value):
        return []
    return [FieldError(pointer, "not_allowed", "This is not the address of a file uploaded here.")]


def _normalise(value: Any, kind: TextKind) -> tuple[Any, tuple[str, str] | None]:
    if isinstance(value, list):
        items: list[Any] = []
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            cleaned, problem = _normalise(item, kind)
            if problem is not None:
                return value, problem  # pyright: ignore[reportUnknownVariableType]
            items.append(cleaned)
        return items, None
    if not isinstance(value, str) or kind == "exact":
        return value, None  # pyright: ignore[reportUnknownVariableType]
    # JSON has been surveyed as a whole; a line may also come from elsewhere.
    if kind in ("line", "file") and not value.isascii() and piled_up(value):
        return value, ("character", f"This text has more than {MAX_MARKS} marks on one letter.")
    cleaned = unicodedata.normalize("NFC", value).strip()
    if kind in ("line", "file") and _UNSEEN.search(cleaned):
        return value, ("character", "This text holds a control, invisible or private-use character.")
    return cleaned, None


_LENGTH = re.compile(r"Expected `(str|array)` of length (>=|<=|==) (\d+)")


def _explain(problem: str) -> tuple[str, str]:
    """A code and a sentence for what msgspec found."""
    if found := _LENGTH.match(problem):
        what = "characters" if found[1] == "str" else "items"
        word, code = {
            ">=": ("at least", "too_short"),
            "<=": ("at most", "too_long"),
            "==": ("exactly", "length"),
        }[found[2]]
        return code, f"This must have {word} {found[3]} {what}."
    if "matching regex" in problem:
        return "format", "This is not of the expected form."
    if problem.startswith("Invalid enum value"):
        return "not_allowed", "This is not one of the allowed values."
    if problem.startswith("Expected `int`") and ("<=" in problem or ">=" in problem):
        return "out_of_range", problem.split(" - at")[0].replace("`", "") + "."
    return "type", problem.split(" - at")[0].replace("`", "") + "."


def tidy(value: str) -> str | None:
    """One line of text, normalised and trimmed; None when it holds characters that nobody sees."""
    cleaned, problem = _normalise(value, "line")
    return None if problem else cleaned


# Joiners and tags belong to emoji, although nobody sees them alone.
_IN_EMOJI = {ord("\u200d"): None, **dict.fromkeys(range(0xE0020, 0xE0080))}
MAX_ICON = 8


def tidy_icon(value: str) -> str | None:
    """An icon of at most MAX_ICON characters, such as one emoji, trimmed; None when it is none."""
    icon = value.strip()
    return icon if len(icon) <= MAX_ICON and tidy(icon.translate(_IN_EMOJI)) is not None else None


def given(value: object) -> bool:
    """Whether a field of a PATCH was sent at all; null is a value."""
    return value is not UNSET


def clean_query(value: str | None, name: str) -> str | None:
    """A text from the query string, normalised. Raises Invalid."""
    if value is None:
        return None
    cleaned, problem = _normalise(value, "line")
    if problem is not None:
        raise Invalid(errors=[FieldError(f"?{name}", *problem)])
    return cleaned
