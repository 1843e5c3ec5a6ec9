"""The published description of an API, made from its routes.

Nothing is written twice: paths, parameters, bodies, answers and refusals are read from the handlers, so
the document cannot fall behind what is served. `describe` is for one surface, `/api` or `/v1`.
"""

import inspect
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg
from msgspec import Meta

from guildhall import __version__
from guildhall.errors import (
    AppError,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    OutcomeUnknown,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from guildhall.web.access import PermissionDenied
from guildhall.web.body import Sent, may_be_absent
from guildhall.web.caller import WRITES, NotSynced
from guildhall.web.idempotency import NEVER_KEPT, InFlight, KeyReused
from guildhall.web.phrases import HEADERS, IDEMPOTENCY_KEY, IF_NONE_MATCH, PATH_WORDS, PHRASES, SECURITY, Json
from guildhall.web.problem import ErrorEnvelope, Problem, render
from guildhall.web.samples import camel, is_moment, sample
from guildhall.web.screen import (
    HeadersTooLarge,
    LengthRequired,
    LineTooLong,
    TooLarge,
    TooSlow,
    UnsupportedMediaType,
)
from guildhall.web.wire import InvalidJson, WireV1

_COMPONENT = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")
_NOT_PARAMETERS = frozenset({"request", "caller", "guest", "data", "scope", "return"})


class Surface(msgspec.Struct, frozen=True):
    """One of the two APIs: where it lives, and how its refusals look."""

    prefix: str
    title: str
    about: str
    refusal: type
    refusal_type: str


API = Surface(
    "/api",
    "Guildhall communities API",
    "Communities, their members, groups and posts. JSON in camelCase, UTF-8; times are RFC 3339 in UTC."
    ' Answers are the bare resource, lists are `{"items": […]}`, refusals are RFC 9457 problem details:'
    " branch on `code`, show `detail`, and quote `requestId` when you ask for help. Beside what an operation"
    " lists, any request may be refused with 408 `request_timeout`, 411 `length_required`, 414 `uri_too_long`"
    " or 431 `headers_too_large`.",
    Problem,
    "application/problem+json",
)
V1 = Surface(
    "/v1",
    "Guildhall hubs API",
    "Hubs, memories, topics, dreams and recall. JSON in snake_case, UTF-8; times are RFC 3339 in UTC."
    ' Answers are `{"data": …}`, refusals are `{"error": {"code", "message", "details"?}}`.'
    " Beside what an operation lists, any request may be refused with 408 `request_timeout`,"
    " 411 `length_required`, 414 `uri_too_long` or 431 `headers_too_large`.",
    ErrorEnvelope,
    "application/json",
)
SURFACES = (API, V1)

# Refusals of the edge that any request may meet; they are told once, not at every operation.
ANYWHERE: tuple[type[AppError], ...] = (TooSlow, LengthRequired, LineTooLong, HeadersTooLarge)


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a route, under the name it has on the wire."""

    name: str
    place: str
    required: bool
    kind: Any
    rules: ParameterKwarg | None
    default: Any


class Operation(msgspec.Struct, frozen=True):
    """What a route says of itself. `answers` are its successes by status; None is an empty body."""

    name: str
    method: str
    path: str
    summary: str
    about: str
    guest: bool
    parameters: tuple[Parameter, ...]
    body: Any
    answers: dict[int, Any]
    refusals: tuple[type[AppError], ...]
    tagged: bool
    media: str
    atom: str | None
    bodiless: bool
    tells: Any
    limited: bool

    @property
    def keeps_key(self) -> bool:
        """Whether an Idempotency-Key is heard."""
        return self.method == "POST" and self.path not in NEVER_KEPT

    @property
    def takes_input(self) -> bool:
        return self.keeps_key or self.body is not None or any(p.place == "query" for p in self.parameters)


def operations(handlers: Iterable[HTTPRouteHandler], prefix: str = "/") -> list[Operation]:
    """The operations of the handlers under `prefix`, by path and method."""
    found = [
        _operation(handler, path, method)
        for handler in handlers
        for path in handler.paths
        for method in handler.http_methods
        if path.startswith(prefix) and method != "OPTIONS"
    ]
    return sorted(found, key=lambda o: (o.path, _METHODS.index(o.method)))


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def handlers_of(app: Litestar) -> list[HTTPRouteHandler]:
    """Every handler that is served."""
    found: dict[int, HTTPRouteHandler] = {}
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler):
                found[id(handler)] = handler
    return list(found.values())


def describe(handlers: Iterable[HTTPRouteHandler], surface: Surface) -> Json:
    """The OpenAPI 3.1 document of the surface."""
    found = operations(handlers, surface.prefix + "/")
    shapes = [surface.refusal]
    for operation in found:
        parts = (operation.body, operation.tells, *operation.answers.values())
        shapes += [shape for shape in parts if shape is not None]
        shapes += [parameter.kind for parameter in operation.parameters]
    schemas, components = _schemas(shapes)
    writer = _Writer(surface, dict(zip(map(_key, shapes), schemas, strict=True)), components)
    paths: Json = {}
    for operation in found:
        methods = paths.setdefault(_shown_path(operation.path, surface), {})
        methods[operation.method.lower()] = writer.operation(operation)
    tags = sorted({tag for methods in paths.values() for item in methods.values() for tag in item["tags"]})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": surface.title,
            "version": __version__,
            "description": surface.about,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server this document comes from."}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "examples": dict(sorted(writer.refusal_examples.items())),
            "headers": {
                name: header
                for name, header in HEADERS.items()
                if surface is V1 or not name.startswith("RateLimit")
            },
            "securitySchemes": SECURITY,
        },
    }


def _operation(handler: HTTPRouteHandler, path: str, method: str) -> Operation:
    function = inspect.unwrap(handler.fn)
    hints = get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    opt = handler.opt
    in_path = _PATH_PARAMETER.findall(path)
    parameters = [
        _parameter(name, hints[name], signature.parameters[name].default, name in in_path)
        for name in signature.parameters
        if name not in _NOT_PARAMETERS
    ]
    if (query := opt.get("query")) is not None:
        hidden = get_type_hints(query, include_extras=True)
        parameters += [
            _parameter(
                field.name,
                hidden[field.name],
                inspect.Parameter.empty if field.required else field.default,
                False,
            )
            for field in msgspec.structs.fields(query)
        ]
    needs = opt.get("needs", ())
    parameters = [msgspec.structs.replace(p, required=True) if p.name in needs else p for p in parameters]
    body = get_args(hints["data"])[0] if get_origin(hints.get("data")) is Sent else None
    shape = hints.get("return")
    if get_origin(shape) is Response or shape is Response:
        shape = (*get_args(shape), Any)[0]
    declared = opt.get("answers")
    answers: dict[int, Any] = {handler.status_code: declared if declared is not None else shape}
    answers |= opt.get("also") or {}
    kept = bool(opt.get("etag"))
    if kept:
        answers[304] = None
    return Operation(
        name=function.__name__,
        method=method,
        path=path,
        summary=handler.summary or "",
        about=inspect.cleandoc(function.__doc__ or ""),
        guest="guest" in hints,
        parameters=tuple(sorted(parameters, key=lambda p: p.place != "path")),
        body=body,
        answers={status: None if kind is type(None) else kind for status, kind in answers.items()},
        refusals=tuple(opt.get("refusals", ())),
        tagged=kept,
        media=opt.get("media") or "application/json",
        atom=opt.get("atom"),
        bodiless=body is not None and may_be_absent(body, opt),
        tells=opt.get("tells"),
        limited=not opt.get("unlimited"),
    )


def _parameter(name: str, hint: Any, default: Any, in_path: bool) -> Parameter:
    kind, rules = _bare(hint)
    required = in_path or default is inspect.Parameter.empty
    if in_path:
        return Parameter(name, "path", True, kind, rules, None)
    if rules is not None and rules.header:
        return Parameter(rules.header, "header", required, kind, rules, None)
    wire_name = rules.query if rules is not None and rules.query else name
    return Parameter(wire_name, "query", required, kind, rules, None if required else default)


def _bare(hint: Any) -> tuple[Any, ParameterKwarg | None]:
    """The type without the None that an absent parameter has, and what Litestar checks of it."""
    rules: ParameterKwarg | None = None
    while True:
        if get_origin(hint) is Annotated:
            inner, *extra = get_args(hint)
            rules = next((item for item in extra if isinstance(item, ParameterKwarg)), rules)
            metas = [item for item in extra if isinstance(item, Meta)]
            if metas and get_origin(inner) not in (Union, types.UnionType):
                return Annotated[inner, *metas], rules
            hint = inner
        elif get_origin(hint) in (Union, types.UnionType):
            members = [member for member in get_args(hint) if member is not type(None)]
            if len(members) != 1:
                return hint, rules
            hint = members[0]
        else:
            return hint, rules


def _key(shape: Any) -> str:
    return repr(shape)


def _schemas(shapes: list[Any]) -> tuple[list[Json], Json]:
    """A schema for each shape, and the components they refer to."""
    schemas, components = msgspec.json.schema_components(shapes, ref_template=_COMPONENT)
    text = msgspec.json.encode((schemas, components)).decode()
    for name in components:
        # Two rooms may use the same word; each then carries its room's name.
        if (short := _short(name)) != name:
            text = text.replace(f'/{name}"', f'/{short}"').replace(f'"{name}":', f'"{short}":')
    read: tuple[list[Json], Json] = msgspec.json.decode(text, type=tuple[list[Json], Json])
    for component in read[1].values():
        _refine(component)
    return read


def _short(name: str) -> str:
    """`guildhall.groups.schemas.Member` as `GroupsMember`; `Data_Member_` as `DataMember`."""
    words = [word for word in re.split(r"[^A-Za-z0-9.]+", name) if word]
    return "".join(_short_word(word) for word in words)


def _short_word(word: str) -> str:
    if not word.startswith("guildhall."):
        return word[:1].upper() + word[1:]
    parts = word.split(".")
    return parts[1].capitalize() + parts[-1]


def _refine(component: Json) -> None:
    """Say what a name promises: `…At` is a moment, `…Url` an address."""
    if not component.get("required", True):
        del component["required"]
    for name, field in component.get("properties", {}).items():
        for schema in (field, *field.get("anyOf", ())):
            if schema.get("type") != "string" or "format" in schema or "pattern" in schema:
                continue
            # An empty text may stand for none; a moment is none.
            if is_moment(name) and schema.get("default") != "":
                schema["format"] = "date-time"
            elif camel(name).lower().endswith("url") and "maxLength" not in schema:
                schema["format"] = "uri"


def _shown_path(path: str, surface: Surface) -> str:
    """The path with its parameters under the names their surface would give them."""

    def shown(found: re.Match[str]) -> str:
        return "{" + (camel(found[1]) if surface is API else found[1]) + "}"

    return _PATH_PARAMETER.sub(shown, path)


class _Writer:
    """Writes operations of one document; gathers the refusals they refer to."""

    def __init__(self, surface: Surface, schemas: Mapping[str, Json], components: Mapping[str, Json]) -> None:
        self._surface = surface
        self._schemas = schemas
        self._components = components
        self.refusal_examples: Json = {}

    def operation(self, operation: Operation) -> Json:
        written: Json = {
            "operationId": operation.name,
            "summary": operation.summary,
            "tags": [operation.path.removeprefix(self._surface.prefix).split("/")[1]],
        }
        if about := " ".join(filter(None, (operation.about, _about_keys(operation)))):
            written["description"] = about
        parameters = [self._parameter(parameter) for parameter in operation.parameters]
        if operation.keeps_key:
            parameters.append(IDEMPOTENCY_KEY)
        if operation.tagged:
            parameters.append(IF_NONE_MATCH)
        if parameters:
            written["parameters"] = parameters
        if operation.body is not None:
            written["requestBody"] = self._body(operation)
        written["responses"] = self._responses(operation)
        written["security"] = [] if operation.guest else [{"bearer": []}, {"cookie": []}]
        return written

    def _body(self, operation: Operation) -> Json:
        schema = self._schemas[_key(operation.body)]
        # On `/api` a body with nothing that must be there may itself be absent.
        component = self._components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        # A shape has an example of its own where a body with every field could not be sent.
        return {
            "required": not operation.bodiless or bool(component.get("required")),
            "content": {
                "application/json": {
                    "schema": schema,
                    "example": getattr(operation.body, "EXAMPLE", None)
                    or sample(schema, "", self._components),
                }
            },
        }

    def _parameter(self, parameter: Parameter) -> Json:
        in_path = parameter.place == "path"
        schema = dict(self._schemas[_key(parameter.kind)])
        rules = parameter.rules
        if rules is not None:
            limits: Json = {
                "minimum": rules.ge,
                "maximum": rules.le,
                "exclusiveMinimum": rules.gt,
                "exclusiveMaximum": rules.lt,
                "minLength": rules.min_length,
                "maxLength": rules.max_length,
                "pattern": rules.pattern,
            }
            schema |= {name: value for name, value in limits.items() if value is not None}
        if parameter.default is not None:
            schema["default"] = parameter.default
        name = camel(parameter.name) if in_path and self._surface is API else parameter.name
        about = (rules.description if rules is not None else None) or PATH_WORDS.get(parameter.name)
        written: Json = {"name": name, "in": parameter.place, "required": parameter.required}
        written["description"] = about or _plain(parameter)
        written["schema"] = schema
        written["example"] = sample(schema, parameter.name, self._components)
        return written

    def _responses(self, operation: Operation) -> Json:
        written: Json = {}
        for status, shape in sorted(operation.answers.items()):
            written[str(status)] = self._success(operation, status, shape)
        by_status: dict[int, list[type[AppError]]] = {}
        for refusal in refusals(operation):
            by_status.setdefault(refusal.status, []).append(refusal)
        for status, kinds in sorted(by_status.items()):
            # A health check answers 503 in its own words.
            if str(status) not in written:
                written[str(status)] = self._refusal(operation, status, kinds)
        return written

    def _success(self, operation: Operation, status: int, shape: Any) -> Json:
        headers = self._headers(operation, status)
        if operation.tagged:
            headers["ETag"] = {"$ref": "#/components/headers/ETag"}
        written: Json = {"description": PHRASES.get(status, "Answered."), "headers": headers}
        if shape is None:
            return written
        if operation.media != "application/json":
            written["content"] = {operation.media: self._text(operation)}
            return written
        schema = self._schemas[_key(shape)]
        written["content"] = {
            "application/json": {"schema": schema, "example": sample(schema, "", self._components)}
        }
        return written

    def _text(self, operation: Operation) -> Json:
        if operation.tells is None:
            return {"schema": {"type": "string"}}
        told = self._schemas[_key(operation.tells)]
        value = sample(told, "", self._components)
        lines = msgspec.json.encode({name: value[name] for name in _OF_AN_EVENT}).decode()
        return {
            "schema": {"type": "string", "contentMediaType": operation.media, "contentSchema": told},
            "example": f"event: {value['type']}\ndata: {lines}\n\n",
        }

    def _headers(self, operation: Operation, status: int) -> Json:
        """What every answer has; how the limits stand is not said with each refusal, but where one looks."""
        headers: Json = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
        if self._surface is V1 and operation.limited and (status < 400 or status == 429):
            for name in ("Limit", "Remaining", "Reset"):
                headers[f"X-RateLimit-{name}"] = {"$ref": f"#/components/headers/RateLimit{name}"}
        return headers

    def _refusal(self, operation: Operation, status: int, kinds: list[type[AppError]]) -> Json:
        headers = self._headers(operation, status)
        if status in (429, 503):
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
        if status == 401:
            headers["WWW-Authenticate"] = {"$ref": "#/components/headers/Challenge"}
        examples: Json = {}
        for kind in kinds:
            if kind in (Invalid, InvalidJson):
                value = self._shown(kind, self._bad_field(operation, kind))
                examples[kind.code] = {"summary": kind.title, "value": value}
                continue
            self.refusal_examples.setdefault(kind.code, {"summary": kind.title, "value": self._shown(kind)})
            examples[kind.code] = {"$ref": f"#/components/examples/{kind.code}"}
        schema = self._schemas[_key(self._surface.refusal)]
        return {
            "description": PHRASES.get(status, kinds[0].title),
            "headers": headers,
            "content": {self._surface.refusal_type: {"schema": schema, "examples": examples}},
        }

    def _shown(self, kind: type[AppError], *errors: FieldError) -> Any:
        """The refusal's body as it is sent."""
        # A refusal may want to be told its cause when it is raised; its words do not depend on it.
        shown = type(kind.__name__, (AppError,), {name: getattr(kind, name) for name in _WORDS})
        error = cast("AppError", shown(errors=errors))
        body = render(error, self._surface.prefix + "/", sample({"type": "string"}, "requestId", {}))[2]
        return msgspec.json.decode(body)

    def _bad_field(self, operation: Operation, kind: type[AppError]) -> FieldError:
        if operation.body is not None and issubclass(operation.body, WireV1) is (kind is InvalidJson):
            schema = self._schemas[_key(operation.body)]
            component = self._components[schema["$ref"].rpartition("/")[2]]
            if required := component.get("required"):
                return FieldError(f"/{required[0]}", "required", "This field is required.")
            for name in component.get("properties", {}):
                return FieldError(f"/{name}", "type", "Expected str, got int.")
        for parameter in operation.parameters:
            if parameter.place == "query":
                return FieldError(f"?{parameter.name}", "invalid", "This is not acceptable.")
        return FieldError(
            "Idempotency-Key", "format", "An Idempotency-Key has 1 to 255 printable ASCII characters."
        )


_WORDS = ("status", "code", "title")
_OF_AN_EVENT = ("id", "type", "hub_id", "actor_id", "entity_id", "state", "created_at")


def _about_keys(operation: Operation) -> str:
    match operation.atom:
        case None:
            return ""
        case "any":
            return "Any API key may call this."
        case atom:
            return f"An API key needs `{atom}`."


def refusals(operation: Operation) -> list[type[AppError]]:
    """Every refusal the operation may answer with: its own, and those its kind of route has."""
    found: list[type[AppError]] = list(operation.refusals)
    if operation.takes_input:
        found.append(Invalid)
    if operation.body is not None and issubclass(operation.body, WireV1):
        found.append(InvalidJson)
    if not operation.guest:
        # Keys are refused where the route is not for them, and where they lack the permission it asks.
        found += [Unauthorized, NotSynced, Forbidden if operation.atom is None else PermissionDenied]
    if operation.method in WRITES:
        # A session cookie counts for a change only from an allowed origin.
        found.append(Forbidden)
    if any(parameter.place == "path" for parameter in operation.parameters):
        found.append(NotFound)
    if operation.keeps_key:
        found += [InFlight, KeyReused]
    if operation.method in WRITES:
        found += [TooLarge, UnsupportedMediaType, OutcomeUnknown]
    found += [TooManyRequests, Unavailable]
    codes: dict[str, type[AppError]] = {}
    for kind in found:
        codes.setdefault(kind.code, kind)
    return list(codes.values())


def _plain(parameter: Parameter) -> str:
    words = re.sub(r"(?<=[a-z])([A-Z])", r" \1", parameter.name).replace("_", " ").lower()
    if parameter.place == "path":
        return f"The {words.removesuffix(' id')}'s id." if words.endswith(" id") else f"The {words}."
    return f"Only those of this {words}."
