"""Query strings, judged before the framework reads them, since it overlooks what it cannot decode."""

from urllib.parse import unquote_to_bytes

from guildhall.errors import FieldError, Invalid


def check_query(raw: bytes, *, repeats: bool) -> None:
    """Refuse what is not UTF-8 and, unless `repeats`, a parameter given twice. Raises Invalid naming each."""
    if not raw:
        return
    errors: dict[str, FieldError] = {}
    seen: set[str] = set()
    for part in filter(None, raw.split(b"&")):
        name, _, value = (
            unquote_to_bytes(side.replace(b"+", b" ")) if b"%" in part else side
            for side in part.partition(b"=")
        )
        shown = name.decode("utf-8", "replace")
        try:
            name.decode()
            value.decode()
        except UnicodeDecodeError:
            errors[shown] = FieldError(f"?{shown}", "encoding", "This is not UTF-8.")
        if shown in seen and not repeats:
            errors[shown] = FieldError(f"?{shown}", "repeated", "This parameter is given twice.")
        seen.add(shown)
    if errors:
        raise Invalid(errors=list(errors.values()))
