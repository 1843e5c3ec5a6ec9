"""The authorization table is complete, and every cell of it is what the service answers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from guildhall.access_keys import ring
from guildhall.web.openapi import SURFACES, describe, operations, refusals
from guildhall.wiring import ROUTES
from tests import cluster as clusters
from tests.authz.keys import KEYS
from tests.authz.page import PATH, text
from tests.authz.rows import OBJECTS, Row, bad, filled, route
from tests.authz.scene import Scene, Stage, build_scene, open_stage
from tests.authz.tables import TABLES
from tests.servers.stream_server import stream_server
from tests.world import Reply, open_world, settings_for

ROWS = [row for table in TABLES for row in table.rows]
CELLS = [(row, about, principal) for row in ROWS for about in row.objects for principal in row.principals]

USUAL = {400: "invalid", 401: "unauthorized", 403: "forbidden", 404: "not_found"}
DOCUMENTED = {
    route(o.method, o.path): o.answers.keys() | {refusal.status for refusal in refusals(o)}
    for o in operations(ROUTES)
}


def described() -> dict[str, dict[str, Any]]:
    """The operations of the published documents."""
    return {
        route(method.upper(), path): operation
        for surface in SURFACES
        for path, methods in describe(ROUTES, surface)["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert {row.route for row in ROWS} == DOCUMENTED.keys()
    elsewhere = {name for name in DOCUMENTED if not name.split()[1].startswith(("/api/", "/v1/"))}
    assert described().keys() | elsewhere == DOCUMENTED.keys()


def test_the_document_tells_who_needs_a_session_and_every_answer() -> None:
    told = described()
    for row in ROWS:
        if (operation := told.get(row.route)) is not None:
            assert (operation["security"] != []) == (row.expected("anonymous", "own") == 401), row.call
    for row, about, principal in CELLS:
        expected = row.expected(principal, about)
        assert expected in DOCUMENTED[row.route], row.call
        if (operation := told.get(row.route)) is not None:
            assert str(expected) in operation["responses"], row.call


def test_the_page_about_permissions_is_the_one_the_tables_make() -> None:
    assert PATH.read_text("utf-8") == text(), "Run `make openapi` and look at the diff."


def test_the_table_has_enough_cells(capsys: pytest.CaptureFixture[str]) -> None:
    across = sum(row.across_tenants(principal, about) for row, about, principal in CELLS)
    with capsys.disabled():
        print(f"\nauthorization table: {len(CELLS)} cells in {len(ROWS)} rows, {across} across tenants")
        keys = sum(principal in KEYS for _, _, principal in CELLS)
        print(f"authorization table: {keys} of the cells are of keys")
    assert len(CELLS) >= 2_500
    assert across >= 1_000


@pytest_asyncio.fixture(scope="module")
async def scene_and_stage(
    cluster: clusters.Cluster, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Scene, Stage]]:
    """In a database of its own, so that a digest of all of it is quick."""
    url = await clusters.clone_database(cluster, template)
    # When keys were last used is written now and then, which is nothing that a call has changed.
    patch = pytest.MonkeyPatch()
    patch.setattr(ring, "FLUSH_S", 3_600)
    async with stream_server() as chat:
        settings = settings_for(
            tmp_path_factory.mktemp("scene"),
            clusters.app_url(cluster, url),
            url,
            CHAT_URL=chat.base_url,
            CHAT_KEY=chat.api_key,
            CHAT_SECRET=chat.secret,
        )
        async with open_world(settings) as world:
            scene = await build_scene(world)
            async with open_stage(world) as stage:
                yield scene, stage
    patch.undo()
    await clusters.drop_database(cluster, url)


@pytest.mark.parametrize(
    "row",
    ROWS,
    ids=lambda row: f"{row.call} {row.body if isinstance(row.body, dict) else ''} {dict(row.headers) or ''}",
)
async def test_the_service_answers_as_the_table_says(row: Row, scene_and_stage: tuple[Scene, Stage]) -> None:
    play = Play(row, *scene_and_stage)
    for about in row.objects:
        for principal in row.principals:
            await play.cell(principal, about)
    assert not play.wrong, "\n".join([row.call, *play.wrong])


class Play:
    """One row, played cell by cell; `wrong` says what is not as it should be."""

    def __init__(self, row: Row, scene: Scene, stage: Stage) -> None:
        self.row = row
        self.scene = scene
        self.stage = stage
        self.wrong: list[str] = []
        # What each is told of things that never were.
        self._hidden: dict[tuple[str, str | None], Any] = {}

    async def cell(self, principal: str, about: str) -> None:
        async with self.stage.rehearsal():
            reply = await self._call(principal, about)
            if self.row.may_fail and reply.status == 503:
                return
            for problem in (
                self._misjudged(reply, principal, about),
                await self._left_a_trace(reply, about),
                self._told_apart(reply, principal, about),
            ):
                if problem is not None:
                    self.wrong.append(f"{principal:11} {OBJECTS[about]}: {problem}; the answer was {reply}")

    async def _call(self, principal: str, about: str) -> Reply:
        row, ids = self.row, self.scene.ids(about, principal, self.row.names)
        caller = self.stage.caller(self.scene.people.get(principal))
        path = row.path.format_map(ids)
        if isinstance(row.body, bytes):
            headers = {"Content-Type": "image/png"}
            return await caller.call(row.method, path, content=row.body, headers=headers)
        body = bad(row.body) if about == "bad body" else row.body
        # Of an answer that never ends it is enough to see how it begins.
        method = "HEAD" if row.endless and row.expected(principal, about) < 300 else row.method
        return await caller.call(method, path, filled(body, ids), headers=filled(dict(row.headers), ids))

    def _misjudged(self, reply: Reply, principal: str, about: str) -> str | None:
        expected = self.row.expected(principal, about)
        if reply.status != expected:
            return f"expected {expected}"
        codes = {USUAL.get(expected), *self.row.codes.get(expected, "").split()}
        if (refused := self.row.refused_key(principal)) is not None:
            codes = {refused}
        elif self.row.beyond(principal):
            codes = {"not_member", "forbidden", "insufficient_role"}
        if expected >= 400 and reply.response.content and reply.error not in codes:
            return f"expected a code of {codes}"
        return None

    async def _left_a_trace(self, reply: Reply, about: str) -> str | None:
        harmless = self.row.method == "GET" and not self.row.changes
        # Some calls say that what is not there, or not the caller's, is gone; then nothing is what they do.
        nothing = not self.row.in_a_space and about in ("unknown", "other")
        if reply.status < 400 and not harmless and not nothing:
            await self.stage.check_constraints()
        elif await self.stage.has_changed():
            return "the database has changed"
        return None

    def _told_apart(self, reply: Reply, principal: str, about: str) -> str | None:
        """Who may not know of something is told what they are told of nothing, to the letter."""
        told = reply.status == 404 or (reply.status == 403 and self.row.hides(principal, about))
        if not told or "{me}" in str(self.row.body):
            return None
        words = self._hidden[principal, about] = (reply.status, reply.json | {"requestId": ""})
        nothing = self._hidden.get((principal, self.row.like(principal, about)), words)
        return None if words == nothing or words[0] != nothing[0] else f"of nothing they hear {nothing[1]}"
