"""A request body that is read when the handler asks for it.

Who may know of an object is decided before whether the request about it is well formed, so a handler
takes its seat first and reads the body after: `change = data.read()`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from litestar.dto import AbstractDTO
from litestar.typing import FieldDefinition

from guildhall.errors import Invalid
from guildhall.web import wire
from guildhall.web.wire import InvalidJson, WireV1

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator
    from litestar.connection import ASGIConnection
    from litestar.handlers import HTTPRouteHandler
    from litestar.openapi.spec import Reference, Schema

T = TypeVar("T")
Part = TypeVar("Part")


class Sent(Generic[T]):
    """The bytes of a body, and the shape they should have. `absent` where there is none and has to be one."""

    __slots__ = ("_absent", "_is_file", "_kind", "_raw")

    def __init__(self, kind: type[T], raw: bytes, is_file: wire.IsFile, *, absent: bool = False) -> None:
        self._kind = kind
        self._raw = raw
        self._is_file = is_file
        self._absent = absent

    def read(self) -> T:
        """The body as its struct. Raises Invalid, InvalidJson for none at all where one has to be."""
        self._need()
        return wire.decode(self._kind, self._raw, self._is_file)

    def fields(self) -> dict[str, Any]:
        """What was sent, by its names, for a body whose names are judged as well. Raises InvalidJson."""
        self._need()
        try:
            value = wire.parse(self._raw)
        except Invalid as error:
            raise InvalidJson(errors=error.errors) from error
        if not isinstance(value, dict):
            raise InvalidJson
        return value  # pyright: ignore[reportUnknownVariableType] - JSON has only texts for names

    def part(self, kind: type[Part]) -> Part:
        """Some of its fields, for a body that says itself where it belongs. Raises Invalid about these."""
        self._need()
        return wire.decode(kind, self._raw, self._is_file)

    def _need(self) -> None:
        if self._absent:
            raise InvalidJson("This route takes a JSON object; there is no body.")


def may_be_absent(kind: type, opt: Mapping[str, Any]) -> bool:
    """Whether a route that takes `kind` is content with no body at all, which it reads as an empty object.

    On `/api` then all that must be there is told as missing; on `/v1` only some routes are.
    """
    return not issubclass(kind, WireV1) or bool(opt.get("bodiless"))


class SentBody(AbstractDTO[Any]):
    """Hands `data: Sent[Shape]` to a handler, and shows `Shape` in the documentation."""

    __slots__ = ()
    shapes: dict[str, type] = {}  # noqa: RUF012 - filled while routes are registered, read-only after

    @classmethod
    def create_for_field_definition(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, field_definition: FieldDefinition, handler_id: str, **_: Any
    ) -> None:
        if field_definition.name == "data":
            cls.shapes[handler_id] = cast("type", field_definition.inner_types[0].annotation)

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: "SchemaCreator"
    ) -> "Reference | Schema":
        return schema_creator.for_field_definition(FieldDefinition.from_annotation(cls.shapes[handler_id]))

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        return True

    def decode_bytes(self, value: bytes) -> Sent[Any]:
        connection = cast("ASGIConnection[HTTPRouteHandler, Any, Any, Any]", self.asgi_connection)  # pyright: ignore[reportUnknownMemberType]
        state = cast("Any", connection.scope["state"])
        route = connection.route_handler
        kind = self.shapes[route.handler_id]
        absent = state.get("raw_body") == b"" and not may_be_absent(kind, route.opt)
        return Sent(kind, value, state["service"].is_blob_url, absent=absent)
