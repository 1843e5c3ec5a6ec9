"""The OpenAPI documents as people read them: operations by subject, with fields, answers and examples."""

import functools
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from guildhall.pages.render import words

_METHODS = ("get", "post", "put", "patch", "delete")


class Field(msgspec.Struct, frozen=True):
    """A parameter or a field of a body. `kind` says what it may be, in words."""

    name: str
    where: str
    kind: str
    required: bool
    about: str
    example: str


class Answer(msgspec.Struct, frozen=True):
    """One status of an operation: an example of its body, or the codes of its refusals with what they say."""

    status: str
    about: str
    example: str | None
    codes: list[tuple[str, str]]


class Operation(msgspec.Struct, frozen=True):
    id: str
    method: str
    path: str
    summary: str
    about: str
    public: bool
    parameters: list[Field]
    body: list[Field]
    example_body: str | None
    answers: list[Answer]
    samples: list[tuple[str, str]]


class Subject(msgspec.Struct, frozen=True):
    name: str
    operations: list[Operation]

    @property
    def title(self) -> str:
        return self.name[:1].upper() + self.name[1:].replace("-", " ")


@functools.lru_cache(maxsize=8)
def read_reference(document: bytes, public_url: str) -> list[Subject]:
    """The subjects of a document, each with its operations in the document's order."""
    return _Reader(msgspec.json.decode(document), public_url).subjects()


class _Reader:
    def __init__(self, document: dict[str, Any], public_url: str) -> None:
        self._document = document
        self._public_url = public_url

    def subjects(self) -> list[Subject]:
        found: dict[str, list[Operation]] = {}
        for path, methods in self._document["paths"].items():
            for method in _METHODS:
                if method in methods:
                    raw = methods[method]
                    found.setdefault(raw["tags"][0], []).append(self._operation(method, path, raw))
        # A document of its own, as openapi.json is, is no subject.
        return [Subject(name, found[name]) for name in sorted(found) if "." not in name]

    def _operation(self, method: str, path: str, raw: Mapping[str, Any]) -> Operation:
        parameters = [
            Field(
                each["name"],
                each["in"],
                self._kind(each["schema"]),
                each.get("required", False),
                each.get("description", ""),
                _text(each.get("example", "")),
            )
            for each in map(self._follow, raw.get("parameters", ()))
        ]
        body, example = self._body(raw)
        public = raw.get("security") == [] or {} in raw.get("security", ())
        return Operation(
            id=raw["operationId"],
            method=method.upper(),
            path=path,
            summary=raw["summary"],
            about=raw.get("description", ""),
            public=public,
            parameters=parameters,
            body=body,
            example_body=None if example is None else _pretty(example),
            answers=[self._answer(status, answer) for status, answer in raw["responses"].items()],
            samples=self._samples(method.upper(), path, parameters, example, public=public),
        )

    def _follow(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a `$ref` leads to."""
        while "$ref" in schema:
            found: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        return schema

    def _body(self, raw: Mapping[str, Any]) -> tuple[list[Field], Any]:
        content = raw.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return [], None
        schema = self._follow(content["schema"])
        required = schema.get("required", ())
        example: dict[str, Any] | None = content.get("example")
        fields = [
            Field(
                name,
                "body",
                self._kind(each),
                name in required,
                each.get("description", ""),
                _text(example.get(name, "")) if example else "",
            )
            for name, each in schema.get("properties", {}).items()
        ]
        return fields, example

    def _kind(self, schema: Mapping[str, Any]) -> str:
        """A schema in words: `string, 2 to 80 characters`, `one of a, b`, `list of …`, `… or null`."""
        schema = self._follow(schema)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return str(words("kind.or")).join(self._kind(each) for each in options)
        if "enum" in schema:
            return str(words("kind.one_of", choices=", ".join(map(_text, schema["enum"]))))
        if "const" in schema:
            return _text(schema["const"])
        kind = schema.get("type", str(words("kind.any")))
        if kind == "array":
            items = self._kind(schema.get("items", {}))
            if "maxItems" in schema:
                return str(words("kind.list_at_most", items=items, most=schema["maxItems"]))
            return str(words("kind.list", items=items))
        low = schema.get("minLength", schema.get("minimum"))
        high = schema.get("maxLength", schema.get("maximum"))
        unit = "characters" if kind == "string" else "number"
        if low and high and low == high:
            return str(words(f"kind.{unit}_exactly", kind=kind, low=low))
        if high is not None:
            return str(words(f"kind.{unit}_between", kind=kind, low=low or 0, high=high))
        return kind if low is None else str(words(f"kind.{unit}_at_least", kind=kind, low=low))

    def _answer(self, status: str, raw: Mapping[str, Any]) -> Answer:
        raw = self._follow(raw)
        example: str | None = None
        codes: list[tuple[str, str]] = []
        for content in raw.get("content", {}).values():
            if "example" in content:
                example = _pretty(content["example"])
            for code, each in content.get("examples", {}).items():
                codes.append((code, self._follow(each).get("summary", "")))
        return Answer(status, raw.get("description", ""), example, codes)

    def _samples(
        self, method: str, path: str, parameters: list[Field], body: Any, *, public: bool
    ) -> list[tuple[str, str]]:
        """The call in three languages, with the example's values; with a session where one is needed."""
        for each in parameters:
            if each.where == "path":
                path = path.replace("{" + each.name + "}", quote(each.example, safe=""))
        query = urlencode(
            {each.name: each.example for each in parameters if each.where == "query" and each.required}
        )
        url = self._public_url + path + (f"?{query}" if query else "")
        curl = [f"curl -X {method} '{url}'"]
        python = [f'httpx.request("{method}", "{url}"']
        script = [f'await fetch("{url}", {{', f'  method: "{method}",']
        headers: list[str] = []
        if not public:
            curl.append('  -H "Authorization: Bearer $SESSION"')
            python.append('    headers={"Authorization": f"Bearer {session}"}')
            headers.append("Authorization: `Bearer ${session}`")
        if body is not None:
            text = json.dumps(body, ensure_ascii=False)
            curl += ["  -H 'Content-Type: application/json'", "  -d '" + text.replace("'", "'\\''") + "'"]
            python.append(f"    json={body!r}")
            headers.append('"Content-Type": "application/json"')
        if headers:
            script.append(f"  headers: {{ {', '.join(headers)} }},")
        if body is not None:
            script.append(f"  body: JSON.stringify({json.dumps(body, ensure_ascii=False)}),")
        return [
            ("curl", " \\\n".join(curl)),
            ("Python", "import httpx\n\n" + ",\n".join(python) + ",\n)"),
            ("JavaScript", "\n".join([*script, "});"])),
        ]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
