"""What can be answered to which kind of notification, and how it is refused."""

from collections.abc import Mapping

from guildhall.errors import AppError, Conflict, Forbidden, NotFound
from guildhall.web.access import Atom


class InvalidSince(AppError):
    code = "invalid_since"
    title = "The parameter since is a time with its zone, as 2026-03-01T09:30:00Z."


class InvalidLimit(AppError):
    code = "invalid_limit"
    title = "The parameter limit is a positive whole number."


class InvalidCursor(AppError):
    code = "invalid_cursor"
    title = "This is not a cursor of this list. Start without one."


class DismissNotApplicable(AppError):
    code = "dismiss_not_applicable_to_decision"
    title = "This waits for a decision. Resolve it instead."


class BulkNotAllowed(AppError):
    code = "bulk_not_allowed_for_decision_kind"
    title = "Decisions are seen and made one by one; name only kinds that need none."


class ResolveNotApplicable(AppError):
    code = "resolve_not_applicable_to_receipt"
    title = "This needs no decision. Dismiss it instead."


class UnsupportedKind(AppError):
    code = "unsupported_review_kind"
    title = "Nothing can be decided about a notification of this kind."


class InvalidAction(AppError):
    code = "invalid_action_for_notification_kind"
    title = "This is no answer to a notification of this kind."


class NotPending(Conflict):
    code = "notification_not_pending"
    title = "This was decided or is out of time already; nothing was done again."


class InviteNotFound(NotFound):
    code = "invite_not_found"
    title = "The invite is not there any more."


class InviteExpired(Conflict):
    code = "invite_expired"
    title = "The invite is out of time. Ask for a new one."


class InviteUsed(Conflict):
    code = "invite_used"
    title = "The invite was used already."


class InviteRevoked(Conflict):
    code = "invite_revoked"
    title = "The invite was taken back. Ask for a new one."


class InviteWrongInvitee(Forbidden):
    code = "invite_wrong_invitee"
    title = "The invite is for an address that you have not verified."


class TransferNotFound(NotFound):
    code = "transfer_not_found"
    title = "The transfer is not there any more."


class TransferExpired(Conflict):
    code = "transfer_expired"
    title = "The transfer is out of time. Ask for a new one."


class TransferAccepted(Conflict):
    code = "transfer_accepted"
    title = "The transfer was accepted already."


class TransferCanceled(Conflict):
    code = "transfer_canceled"
    title = "The transfer was canceled."


class MergeTargetMissing(Conflict):
    code = "merge_target_missing"
    title = "The topic that the others were to go into is not there any more."


class MergeSourceMissing(Conflict):
    code = "merge_source_missing"
    title = "The topic that was to go into another is not there any more."


class MergeCycle(Conflict):
    code = "merge_cycle"
    title = "The topics cannot be merged: one would be inside itself, or too deep."


class MergeTopicArchived(Conflict):
    code = "merge_topic_archived"
    title = "One of the topics is archived. Restore it first."


class RestructureChildMissing(Conflict):
    code = "restructure_child_missing"
    title = "The topic that was to be moved is not there any more."


class RestructureParentMissing(Conflict):
    code = "restructure_parent_missing"
    title = "The topic that was to be the parent is not there any more."


class RestructureCycle(Conflict):
    code = "restructure_cycle"
    title = "The topic cannot go there: it would be inside itself, or too deep."


class RestructureTopicArchived(Conflict):
    code = "restructure_topic_archived"
    title = "One of the topics is archived. Restore it first."


class TopicNameTaken(Conflict):
    code = "duplicate_name"
    title = "There is a topic of this name in the same place."


_OFFER = {"accept": "accepted", "decline": "declined"}
_NOTE = {"dismiss": "dismissed"}
# What each kind can be answered with, and what that resolves it as.
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "hub_invite": _OFFER,
    "hub_ownership_transfer": _OFFER,
    "community_invite": _OFFER,
    "community_ownership_transfer": _OFFER,
    "review_contradiction": {"keep_a": "kept_a", "keep_b": "kept_b", "keep_both": "kept_both", **_NOTE},
    "review_topic_merge": {"merge": "merged", "keep_separate": "kept_separate", **_NOTE},
    "review_topic_restructure": {"apply": "applied", "keep": "kept", **_NOTE},
    "checklist": _NOTE,
    "decision_gate": _NOTE,
}
EXPIRED: Mapping[str, type[AppError]] = {
    "hub_invite": InviteExpired,
    "community_invite": InviteExpired,
    "hub_ownership_transfer": TransferExpired,
    "community_ownership_transfer": TransferExpired,
}
# With these a decision has lost its ground.
GONE = (InviteNotFound, InviteUsed, InviteRevoked, TransferNotFound, TransferAccepted, TransferCanceled)
# What a key must hold for an answer that changes something.
NEEDED: Mapping[str, Atom] = {
    "keep_a": "memory:delete",
    "keep_b": "memory:delete",
    "merge": "topic:write",
    "apply": "topic:write",
}


def resolution_of(answer: str) -> str:
    """What an answer to a proposal of a dream resolves it as."""
    return next(
        answers[answer] for kind, answers in ANSWERS.items() if "review" in kind and answer in answers
    )
