"""Writes the files that are made from the code and kept beside it: `make openapi`."""

import json
from pathlib import Path

from guildhall.web.openapi import SURFACES, Surface, describe
from guildhall.wiring import ROUTES
from tests.house.pages import PAGES

ROOT = Path(__file__).parents[2]


def path_of(surface: Surface) -> Path:
    return ROOT / "docs" / "openapi" / f"{surface.prefix.strip('/')}.json"


def text_of(surface: Surface) -> str:
    """The document as it is kept: indented, so that a change shows in a diff."""
    return json.dumps(describe(ROUTES, surface), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for page, text in PAGES.items():
        (ROOT / "docs" / page).write_text(text(), "utf-8")
    for each in SURFACES:
        path_of(each).write_text(text_of(each), "utf-8")
