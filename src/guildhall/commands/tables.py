"""Tables and numbers for a person at a terminal."""

from collections.abc import Sequence

WIDEST = 60


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], *, none: str) -> None:
    """Print the rows under their heads, or `none` when there are none."""
    if not rows:
        print(none)
        return
    cells = [head, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def clean(text: str) -> str:
    """Whatever a stranger wrote must not steer the terminal, nor break the line."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _cell(value: object) -> str:
    text = "-" if value is None else clean(str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def several(count: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
