"""What a phase proposes, out of what the hub holds now. Reads only."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from guildhall.db import Db, new_id
from guildhall.dreams import copies, queries, rules
from guildhall.dreams.comparing import Comparison, Memory, Plan, excluded_kinds, list_judged
from guildhall.dreams.queries import Hub, Proposal
from guildhall.dreams.rules import Budget, Phase

MONTHS = (
    "january february march april may june july august september october november december"
    " monday tuesday wednesday thursday friday saturday sunday"
)
TOPICS_AT_ONCE = 8
_FEWEST_LETTERS = 4


async def _judged(db: Db, hub: Hub) -> set[frozenset[str]]:
    """Pairs of texts about which something was proposed before."""
    async with db.reading() as read:
        return {frozenset(pair.hashes) for pair in await list_judged(read, hub.space_id)}


def _evidence(one: Memory, other: Memory) -> dict[str, object]:
    return {"hashes": sorted((one.hash, other.hash))}


async def merges(db: Db, hub: Hub, budget: Budget) -> Plan:
    """Copies of which one says word for word what the other does: that one is kept."""
    judged = await _judged(db, hub)
    threshold = max(rules.LEAST_THRESHOLD, float(hub.wish("dreams_similarity_threshold", 0.85)))
    alike: list[tuple[float, tuple[int, datetime, str], Proposal]] = []
    comparison = Comparison(db, hub, "merge", budget)
    async for one, other in comparison.pairs():
        likeness, kept, copy = _choose(one, other)
        if likeness < threshold or rules.contradiction(one.content, other.content):
            continue
        if frozenset((one.hash, other.hash)) in judged:
            continue
        proposal = Proposal(
            operation="merge",
            action_type="merge",
            automatic=True,
            confidence=round(likeness, 4),
            similarity=round(likeness, 4),
            reason="Both say the same." if likeness == 1 else "The one says all that the other does.",
            evidence=_evidence(kept, copy),
            memories=[kept.id, copy.id],
            result=kept.id,
        )
        alike.append((likeness, _rank(kept), proposal))
    # Of many copies the one that is best kept takes all others.
    alike.sort(key=lambda found: (found[0], found[1], str(found[2].memories[1])), reverse=True)
    stays: set[UUID] = set()
    goes: set[UUID] = set()
    unfinished: set[UUID] = set()
    proposals: list[Proposal] = []
    for _, _, found in alike:
        kept_id, copy_id = found.memories
        if copy_id in goes:
            continue
        if kept_id in goes or copy_id in stays or len(proposals) >= budget.action_limit:
            unfinished |= {kept_id, copy_id}
            continue
        stays.add(kept_id)
        goes.add(copy_id)
        proposals.append(found)
    return comparison.plan(proposals, unfinished)


def _rank(memory: Memory) -> tuple[int, datetime, str]:
    return (memory.access_count, memory.created_at, str(memory.id))


def _choose(one: Memory, other: Memory) -> tuple[float, Memory, Memory]:
    """How sure it is that one of two can be put away, which is kept, and which is not: where either could be,
    the one stays that was used more, then the newer."""
    newer, older = sorted((one, other), key=_rank, reverse=True)
    return max(
        ((copies.stands_for(newer, older), newer, older), (copies.stands_for(older, newer), older, newer)),
        key=lambda found: found[0],
    )


async def contradictions(db: Db, hub: Hub, budget: Budget) -> Plan:
    """Texts that are much alike and say different things: for people to decide."""
    judged = await _judged(db, hub)
    proposals: list[Proposal] = []
    unfinished: set[UUID] = set()
    comparison = Comparison(db, hub, "contradiction", budget)
    async for one, other in comparison.pairs():
        if frozenset((one.hash, other.hash)) in judged:
            continue
        first, second = sorted((one, other), key=lambda memory: (memory.created_at, str(memory.id)))
        reason = rules.contradiction(first.content, second.content)
        likeness = 0.0 if reason is None else rules.similarity(first.content, second.content)
        if reason is None or likeness < rules.ALIKE:
            continue
        proposals.append(
            Proposal(
                operation="contradiction",
                action_type="contradiction",
                automatic=False,
                confidence=round(likeness * 0.8, 4),
                similarity=round(likeness, 4),
                reason=reason,
                evidence=_evidence(one, other),
                memories=[first.id, second.id],
            )
        )
    # What differs from many others in the same way is one of a row, such as notes by number.
    met = Counter(id for proposal in proposals for id in proposal.memories)
    told = [one for one in proposals if all(met[id] < rules.ONE_OF_A_ROW for id in one.memories)]
    for proposal in told[budget.action_limit :]:
        unfinished |= set(proposal.memories)
    return comparison.plan(told[: budget.action_limit], unfinished)


async def archives(db: Db, hub: Hub, budget: Budget) -> Plan:
    """What nobody has needed for long, unless it is meant to stay."""
    days = int(hub.wish("dreams_staleness_days", 60))
    async with db.reading() as read:
        unused = await queries.list_unused(
            read, hub.space_id, excluded_kinds(hub), days, budget.candidate_limit
        )
    proposals: list[Proposal] = []
    for memory in unused:
        left = rules.freshness(memory.age_days, memory.stability)
        if left > rules.FADED or len(proposals) >= budget.action_limit:
            continue
        proposals.append(
            Proposal(
                operation="archive",
                action_type="archive",
                automatic=True,
                confidence=round(1 - left, 4),
                similarity=0.0,
                reason=f"Nobody has opened or changed it for {int(memory.age_days)} days.",
                evidence={"age_days": int(memory.age_days), "freshness": round(left, 4)},
                memories=[memory.id],
            )
        )
    return Plan(proposals, len(unused))


async def organizing(db: Db, hub: Hub, budget: Budget) -> Plan:
    """Memories in no topic go where a topic's name is among their words, or into new topics together."""
    async with db.reading() as read:
        unsorted = await queries.list_unsorted(
            read, hub.space_id, excluded_kinds(hub), budget.candidate_limit
        )
        topics = await queries.list_topics(read, hub.space_id, hub.language)
    proposals: list[Proposal] = []
    left: list[queries.Unsorted] = []
    for memory in unsorted:
        words = set(memory.lexemes)
        fitting = [topic for topic in topics if topic.lexemes and words.issuperset(topic.lexemes)]
        if not fitting or len(proposals) >= budget.action_limit:
            left.append(memory)
            continue
        best = min(fitting, key=lambda topic: (-len(set(topic.lexemes)), str(topic.id)))
        sure = 0.7 if len(set(best.lexemes)) > 1 or not best.user_modified else 0.4
        proposals.append(
            _put(
                best.id, [memory.id], sure, "It has all the words of the topic's name.", {"new_topic": False}
            )
        )
    proposals += await _new_topics(db, hub, left, topics, budget.action_limit - len(proposals))
    return Plan(proposals, len(unsorted))


def _put(
    topic: UUID, memories: Sequence[UUID], sure: float, reason: str, evidence: dict[str, object]
) -> Proposal:
    return Proposal(
        operation="organize",
        action_type="organize",
        automatic=True,
        confidence=sure,
        similarity=sure,
        reason=reason,
        evidence={"confidence": sure, **evidence},
        memories=memories,
        to_topic=topic,
    )


async def _new_topics(
    db: Db, hub: Hub, left: list[queries.Unsorted], topics: list[queries.Topic], most: int
) -> list[Proposal]:
    if len(left) < rules.FEWEST_IN_TOPIC or most <= 0:
        return []
    spoken = [set(rules.words_of(memory.words)) for memory in left]
    words = sorted({word for each in spoken for word in each if len(word) >= 2})
    async with db.reading() as read:
        stems = await queries.list_stems(read, hub.language, words[:20_000])
        banned = {
            lexeme
            for stem in await queries.list_stems(read, hub.language, MONTHS.split())
            for lexeme in stem.lexemes
        }
    shown: dict[str, Counter[str]] = {}
    used = Counter(word for each in spoken for word in each)
    for stem in stems:
        for lexeme in stem.lexemes:
            shown.setdefault(lexeme, Counter())[stem.word] += used[stem.word]
    taken = {frozenset(topic.lexemes) for topic in topics}

    def names_something(lexeme: str) -> bool:
        wide = not lexeme.isascii()
        long_enough = len(lexeme) >= (2 if wide else _FEWEST_LETTERS)
        return lexeme in shown and lexeme not in banned and long_enough and lexeme.isalpha()

    texts = [frozenset(filter(names_something, memory.lexemes)) for memory in left]
    found = rules.clusters(texts, most=min(TOPICS_AT_ONCE, most))
    proposals: list[Proposal] = []
    for cluster in found:
        if frozenset(cluster.words) in taken:
            continue
        name = " · ".join(_shown(shown[word]) for word in cluster.words)[:100]
        memories = [left[index].id for index in cluster.members]
        reason = (
            f"{len(memories)} memories share {' and '.join(_shown(shown[word]) for word in cluster.words)}."
        )
        evidence: dict[str, object] = {"new_topic": True, "name": name}
        proposals.append(_put(new_id(), memories, rules.sureness(len(memories)), reason, evidence))
    return proposals


def _shown(forms: Counter[str]) -> str:
    """The form of a word that is used most, as a name."""
    word = min(forms, key=lambda form: (-forms[form], form))
    return word[:1].upper() + word[1:]


async def rearranging(db: Db, hub: Hub, budget: Budget) -> Plan:
    """Roots of which one is about a part of the other, or that are called alike."""
    async with db.reading() as read:
        topics = await queries.list_topics(read, hub.space_id, hub.language)
        before = await queries.list_rearranged(read, hub.space_id)
    joins = {frozenset((seen.from_topic_id, seen.to_topic_id)) for seen in before if seen.operation == "join"}
    # A topic that was taken out of another one, or was to stay where it is, goes into no third one either.
    left_alone = {seen.from_topic_id for seen in before if seen.operation == "nest"}
    roots = [topic for topic in topics if topic.parent_id is None][: budget.candidate_limit]
    moved: set[UUID] = set()
    parents: set[UUID] = set()
    proposals: list[Proposal] = []
    for at, one in enumerate(roots):
        for other in roots[at + 1 :]:
            if len(proposals) >= budget.action_limit:
                break
            found = _rearranged(one, other)
            if found is None or found.from_topic in moved | parents or found.to_topic in moved:
                continue
            if found.operation == "nest" and found.from_topic in left_alone:
                continue
            if found.operation == "join" and frozenset((found.from_topic, found.to_topic)) in joins:
                continue
            assert found.from_topic is not None and found.to_topic is not None
            moved.add(found.from_topic)
            parents.add(found.to_topic)
            proposals.append(found)
    return Plan(proposals, len(roots))


def _rearranged(one: queries.Topic, other: queries.Topic) -> Proposal | None:
    relation = rules.names_alike(frozenset(one.lexemes), frozenset(other.lexemes))
    if relation is None:
        return None
    if relation == "same":
        target, source = sorted(
            (one, other), key=lambda topic: (-topic.user_modified, -topic.memory_count, str(topic.id))
        )
        return Proposal(
            operation="join",
            action_type="restructure",
            automatic=False,
            confidence=0.8,
            similarity=1.0,
            reason="The two are called alike.",
            evidence={},
            from_topic=source.id,
            to_topic=target.id,
        )
    child, parent = (one, other) if relation == "inside" else (other, one)
    mine = not any(topic.user_modified or topic.pinned for topic in (child, parent))
    shared = len(set(parent.lexemes)) / len(set(child.lexemes))
    return Proposal(
        operation="nest",
        action_type="restructure",
        automatic=mine,
        confidence=0.7,
        similarity=round(shared, 4),
        reason="The name of the one is part of the other's.",
        evidence={},
        from_topic=child.id,
        to_topic=parent.id,
    )


PLANNERS: dict[Phase, Callable[[Db, Hub, Budget], Awaitable[Plan]]] = {
    "merge": merges,
    "contradiction": contradictions,
    "archive": archives,
    "organize": organizing,
    "restructure": rearranging,
}
# The hub's switch of each phase.
SWITCHES: dict[Phase, str] = {
    "merge": "dreams_merge_enabled",
    "contradiction": "dreams_enabled",
    "archive": "dreams_archive_enabled",
    "organize": "dreams_organize_enabled",
    "restructure": "dreams_restructure_enabled",
}
