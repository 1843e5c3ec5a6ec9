"""A value that must not be seen: settings hold secrets in it, so no repr, log or traceback shows one."""

from typing import Generic, TypeVar

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """Wraps a secret text or bytes. Only `reveal()` gives it back."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    def __hash__(self) -> int:
        return hash(self._value)
