"""The documentation tells the truth: its examples run."""

from pathlib import Path

import pytest

from tests.commands.serving import serving
from tests.docs.pages import DOCS, examples, follow

PAGES = sorted(DOCS.glob("*.md"))
TRIED = [page for page in PAGES if examples(page)]


@pytest.mark.parametrize("page", TRIED, ids=lambda page: page.stem)
async def test_the_examples_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    async with serving(tmp_path / "data") as service:
        await follow(page, service, folder)
