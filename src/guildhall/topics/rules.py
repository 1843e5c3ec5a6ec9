"""What a topic may be called, where it may be, and who may say so. No I/O, no clock, no SQL."""

from collections.abc import Mapping
from uuid import UUID

from guildhall.errors import AppError, Conflict, Forbidden
from guildhall.hubs.rules import BadField
from guildhall.web.wire import tidy

MAX_NAME = 100
MAX_DEPTH = 5
DEFAULT_ICON = "folder"

# How sure a memory is of its topic: what a rule guesses, what it finds, what a person decides, what is fixed.
GUESSED, FOUND, DECIDED, FIXED = 0.4, 0.7, 0.85, 1.0


class MissingHub(AppError):
    code = "missing_hub"
    title = "There is no such hub, or you are not in it. Name another, or none for your own."


class MissingName(BadField):
    field = "name"
    code = "missing_name"
    title = "A topic needs a name."


class NameTooLong(BadField):
    field = "name"
    code = "name_too_long"
    title = f"A topic's name has at most {MAX_NAME} characters."


class InvalidName(BadField):
    field = "name"
    code = "invalid_name"
    title = "A topic's name is one line of characters that can be seen."


class InvalidParent(AppError):
    code = "invalid_parent"
    title = "There is no such topic in this hub to be the parent."


class CycleDetected(AppError):
    code = "cycle_detected"
    title = "A topic cannot be inside itself."


class MaxDepth(AppError):
    code = "max_depth"
    title = f"Topics are at most {MAX_DEPTH} deep."


class MaxDepthSubtree(AppError):
    code = "max_depth_subtree"
    title = f"With what is inside it, the topic would be more than {MAX_DEPTH} deep there."


class ParentArchived(Conflict):
    code = "parent_archived"
    title = "The parent is archived. Restore it first."


class DuplicateName(Conflict):
    code = "duplicate_name"
    title = "There is a topic of this name in the same place."


class EmptyOperations(AppError):
    code = "empty_operations"
    title = "Say what goes where: at least one operation."


class InvalidTopic(AppError):
    code = "invalid_topic"
    title = "There is no such topic in this hub, or the memory is in another hub."


class InvalidConfidence(BadField):
    field = "confidence"
    code = "invalid_confidence"
    title = "How sure it is, is a number from 0 to 1."


class MissingMemoryId(BadField):
    field = "memory_id"
    code = "missing_memory_id"
    title = "Say which memory, as memory_id."


def clean_name(raw: str) -> str:
    """A name as it is kept. Raises MissingName, InvalidName, NameTooLong."""
    name = tidy(raw)
    if name is None:
        raise InvalidName
    if name == "":
        raise MissingName
    if len(name) > MAX_NAME:
        raise NameTooLong
    return name


def check_writer(role: str, *, contributors_may: bool) -> None:
    """Refuse who does not arrange topics in a hub."""
    if role == "viewer" or (role == "contributor" and not contributors_may):
        raise Forbidden("Your role here does not let you arrange topics.")


class Tree:
    """Where every topic of a hub is, archived ones too. `parents` leads from each to what it is in."""

    def __init__(self, parents: Mapping[UUID, UUID | None]) -> None:
        self._parents = dict(parents)

    def depth(self, topic: UUID | None) -> int:
        """1 for a root, 0 for the place where roots are."""
        steps = 0
        while topic is not None:
            topic = self._parents[topic]
            steps += 1
        return steps

    def height(self, topic: UUID) -> int:
        """How many levels there are from this one down, itself included."""
        below = [child for child, parent in self._parents.items() if parent == topic]
        return 1 + max((self.height(child) for child in below), default=0)

    def move(self, topic: UUID, parent: UUID | None) -> None:
        """Put it there. Raises CycleDetected, MaxDepthSubtree."""
        above = parent
        while above is not None:
            if above == topic:
                raise CycleDetected
            above = self._parents[above]
        if self.depth(parent) + self.height(topic) > MAX_DEPTH:
            raise MaxDepthSubtree
        self._parents[topic] = parent
