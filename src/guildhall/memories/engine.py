"""How a hub's memories are found by words: one statement, with every right and filter inside it.

A memory, or a piece of a long one, scores the sum of what each of the query's words in it is worth: the rarer
the word, the more. There is no discount for length, since a short memory says no more by being short. The
best are then put into the company of their neighbours, since what was said just before or after is often the
answer; and whoever is named in the query is preferred as a speaker. As a word such a name counts for less:
people are named by whom they talk to, while who is asked about says "I".

Words that are in very many memories of a large hub find nothing by themselves: the rare ones find candidates,
and only those are asked for the common ones.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

import msgspec

from guildhall.db import Read, Write
from guildhall.memories.english import other_forms
from guildhall.web.caller import Caller


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for, and where.

    `words` are those of the query in lower case and without accents. `hubs`, `topic`, `tags` and the times
    bind: all must hold. `kind`, `active_hub`, `repo` and `folder` only raise what fits them. `beginning` is
    one still typed. Hubs are named by id or slug.
    """

    query: str
    words: Sequence[str]
    limit: int
    hubs: Sequence[str] | None = None
    beginning: str | None = None
    topic: UUID | None = None
    tags: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    archived: bool = False
    kind: str | None = None
    active_hub: str | None = None
    repo: str | None = None
    folder: str | None = None
    recency: bool = False

    @property
    def is_filtered(self) -> bool:
        return bool(self.topic or self.tags or self.created_after or self.created_before)


class Vector(msgspec.Struct, frozen=True):
    """What a query means, as one model has it; `numbers` as the database writes them."""

    numbers: str
    model: str


class Hit(msgspec.Struct, frozen=True):
    """A memory that was found, by its best piece. `score` is 1 for the best of all.

    `terms` are the words it was found by, as they are looked up. `neighbour` is the memory next to it that
    raised it; `named` says that the query names who said it; `meaning` is how near it is in meaning, from 0
    to 1, where that was asked for. `looked_up` are all words of the query, also those in no memory, with what
    each is worth in `weights`.
    """

    user_id: str
    id: UUID | None
    space_id: UUID
    hub_name: str
    title: str
    summary: str
    hint: str
    kind: str
    stability: str
    state: str
    source: str
    tags: list[str]
    created_at: datetime
    occurred_at: datetime | None
    speaker: str | None
    thread_id: str | None
    author_name: str
    project_repo: str | None
    topic_id: UUID | None
    topic_name: str | None
    heading_chain: str
    text: str
    score: float
    terms: list[str]
    neighbour: UUID | None
    named: bool
    meaning: float | None
    fits: list[str]
    candidates: int
    looked_up: list[str]
    weights: list[float]


_FILTER: LiteralString = """
           AND ((SELECT topic FROM asked) IS NULL OR m.topic_id = (SELECT topic FROM asked))
           AND m.tags @> (SELECT tags FROM asked)
           AND ((SELECT since FROM asked) IS NULL OR m.created_at >= (SELECT since FROM asked))
           AND ((SELECT until FROM asked) IS NULL OR m.created_at < (SELECT until FROM asked))"""

_ACTIVE: LiteralString = "memory_terms"
_ALL: LiteralString = (
    "(SELECT space_id, lexeme, memory_id, chunk FROM memory_terms"
    " UNION ALL SELECT space_id, lexeme, memory_id, chunk FROM archived_memory_terms)"
)


_BY_WORDS: LiteralString = "(c.lex + c.near + CASE WHEN marks.named THEN 0.4 ELSE 0 END)"
_COSINE: LiteralString = "greatest(1 - (v.vector <=> (SELECT vector FROM meant)), 0)"


def _statement(*, filtered: bool, archived: bool, meaning: bool) -> LiteralString:
    """The engine. What is filtered is so from the first step on, and costs a look at every memory there.

    With `meaning`, what is near in meaning is a candidate as well, and both ways of looking count alike.
    """
    terms = _ALL if archived else _ACTIVE
    states: LiteralString = "m.state <> 'processing'" if archived else "m.state = 'active'"
    joined: LiteralString = (
        " JOIN memories m ON m.space_id = t.space_id AND m.id = t.memory_id" if filtered else ""
    )
    condition: LiteralString = _FILTER if filtered else ""
    by_meaning: LiteralString = ""
    near: LiteralString = ""
    score, cosine, vectors = _BY_WORDS, "NULL::float8", ""
    if meaning:
        by_meaning = (
            """
        -- Read once: to read it again for each comparison takes a hundred times as long as to compare.
        meant AS MATERIALIZED (SELECT $19::text::halfvec AS vector, $20::text AS model),
        -- What is small is compared as it is, which is exact; what is large is looked up.
        indexed AS MATERIALIZED (
            SELECT h.space_id, has_vector_index(h.space_id, meant.model) AS is_indexed
              FROM hubs h CROSS JOIN meant),
        -- What is in the archive must not take the places of what is not.
        put_away AS MATERIALIZED (
            SELECT m.id FROM indexed h JOIN memories m ON m.space_id = h.space_id
             WHERE NOT h.is_indexed AND m.state <> 'active' AND NOT """
            + ("true" if archived else "false")
            + """),
        by_meaning AS MATERIALIZED (
            (SELECT v.space_id, v.memory_id, v.chunk, v.vector <=> (SELECT vector FROM meant) AS distance
               FROM indexed h
               JOIN memory_vectors v ON v.space_id = h.space_id AND v.model = (SELECT model FROM meant)"""
            + (" JOIN memories m ON m.space_id = v.space_id AND m.id = v.memory_id" if filtered else "")
            + " WHERE NOT h.is_indexed AND v.memory_id NOT IN (SELECT id FROM put_away)"
            + condition
            + """ ORDER BY distance LIMIT 100)
            UNION ALL
            SELECT h.space_id, near.memory_id, near.chunk, near.distance
              FROM indexed h CROSS JOIN asked CROSS JOIN meant CROSS JOIN LATERAL nearest_by_index(
                       h.space_id, meant.model, meant.vector, """
            + ("true" if archived else "false")
            + """, asked.topic, asked.tags, asked.since, asked.until, 100) AS near
             WHERE h.is_indexed
             ORDER BY distance LIMIT 100),"""
        )
        near = (
            """
            UNION ALL
            SELECT b.space_id, b.memory_id, b.chunk, (
                       SELECT coalesce(sum(r.idf), 0) FROM ranked r WHERE EXISTS (
                           SELECT FROM """
            + terms
            + """ AS t WHERE t.space_id = b.space_id AND t.lexeme = r.lexeme
                              AND t.memory_id = b.memory_id AND t.chunk = b.chunk))
              FROM by_meaning b WHERE NOT EXISTS (
                       SELECT FROM best WHERE best.memory_id = b.memory_id AND best.chunk = b.chunk)"""
        )
        vectors = (
            " LEFT JOIN memory_vectors v ON v.memory_id = c.memory_id AND v.chunk = c.chunk"
            " AND v.model = (SELECT model FROM meant)"
        )
        cosine = _COSINE
        score = (
            "(coalesce(" + _BY_WORDS + " / nullif(max(" + _BY_WORDS + ") OVER (), 0), 0)"
            " + coalesce(" + _COSINE + " / nullif(max(" + _COSINE + ") OVER (), 0), 0))"
        )
    return (
        """
        WITH
        -- What is asked for, as a row: of that the planner knows as little as of parameters, so that it takes
        -- the same plan for every question and need not make one each time: that takes longer than to answer.
        asked AS MATERIALIZED (
            SELECT CASE WHEN $4::text[] IS NOT NULL
                        THEN ARRAY(SELECT hub_named(name) FROM unnest($4::text[]) AS name) END AS hubs,
                   $5::text AS query, $6::text AS beginning,
                   $7::uuid AS topic, $8::text[] AS tags, $9::timestamptz AS since,
                   $10::timestamptz AS until, $11::text[] AS words, $12::text AS kind,
                   hub_named($13::text) AS active_hub, $14::text AS repo, $15::text AS folder,
                   $16::boolean AS recency, $17::integer AS most, $18::text AS forms),
        hubs AS MATERIALIZED (
            SELECT h.space_id, s.language, s.memory_count, s.name
              FROM read_hubs($1, $2, $3) AS h JOIN spaces s ON s.id = h.space_id
             WHERE s.frozen_at IS NULL
               AND ((SELECT hubs FROM asked) IS NULL
                    OR h.space_id = ANY ((SELECT hubs FROM asked)::uuid[]))),
        -- How far a word is counted in each hub: where there are many hubs, less will do.
        depth AS MATERIALIZED (
            SELECT CASE WHEN sum(memory_count) <= 20000 THEN 20001
                        ELSE greatest(200, 20001 / greatest(count(*), 1)) END AS most FROM hubs),
        -- Of a long question the longest words, which are the rarest as a rule.
        words AS MATERIALIZED (
            SELECT h.space_id, w.lexeme COLLATE "C" AS lexeme
              FROM (SELECT language, lexeme FROM (SELECT DISTINCT language FROM hubs) AS spoken
                     CROSS JOIN LATERAL (
                        SELECT lexeme FROM unnest(
                               lexemes(language, (SELECT query FROM asked)) || CASE WHEN language = 'english'
                               THEN lexemes(language, (SELECT forms FROM asked)) ELSE '{}' END) AS lexeme
                         ORDER BY length(lexeme) DESC, lexeme LIMIT 64) AS longest) AS w
              JOIN hubs h USING (language)
            UNION
            SELECT h.space_id, w.lexeme COLLATE "C"
              FROM hubs h CROSS JOIN LATERAL words_from(h.space_id, (SELECT beginning FROM asked)) AS w
             WHERE (SELECT beginning FROM asked) IS NOT NULL),
        -- In how many memories each word is: as a job has counted in large hubs, else as there are now.
        known AS MATERIALIZED (
            SELECT w.space_id, w.lexeme,
                   coalesce((SELECT c.memories FROM memory_term_counts c
                              WHERE c.space_id = w.space_id AND c.lexeme = w.lexeme),
                            (SELECT count(*) FROM (SELECT FROM """
        + terms
        + """ AS t WHERE t.space_id = w.space_id AND t.lexeme = w.lexeme
                              LIMIT (SELECT most FROM depth)) AS few)) AS n
              FROM words w),
        -- Which words are names of people who speak in these hubs.
        names AS MATERIALIZED (
            SELECT DISTINCT name.lexeme COLLATE "C" AS lexeme
              FROM hubs h CROSS JOIN unnest((SELECT words FROM asked)) AS w (word)
             CROSS JOIN LATERAL (
                SELECT FROM memories m
                 WHERE m.space_id = h.space_id AND m.speaker IS NOT NULL
                   AND left(plain_text(m.speaker), 100) COLLATE "C" >= w.word
                   AND left(plain_text(m.speaker), 100) COLLATE "C" < w.word || '!'
                 ORDER BY left(plain_text(m.speaker), 100) COLLATE "C" LIMIT 1) AS speaks
             CROSS JOIN LATERAL unnest(lexemes(h.language, w.word)) AS name (lexeme)),
        worth AS MATERIALIZED (
            SELECT lexeme, df, ln(1 + (greatest(total, df) - df + 0.5) / (df + 0.5))
                   * CASE WHEN lexeme IN (SELECT lexeme FROM names) THEN 0.3 ELSE 1 END AS idf, total
              FROM (SELECT lexeme, sum(n)::float8 AS df FROM known GROUP BY lexeme) AS counted
             CROSS JOIN (SELECT coalesce(sum(memory_count), 0)::float8 AS total FROM hubs) AS size),
        -- The words that find candidates: all in what is small, else the rarest, as far as they are few.
        ranked AS MATERIALIZED (
            SELECT lexeme, idf, total <= 20000 OR row_number() OVER rarest = 1
                   OR sum(df) OVER rarest <= 10000 AS finds
              FROM worth WHERE df > 0 WINDOW rarest AS (ORDER BY df, lexeme)),
        -- How many of the newest memories with a word are looked at, in each hub.
        width AS MATERIALIZED (
            SELECT CASE WHEN max(total) <= 20000 THEN 100000
                        ELSE greatest(100, 10000 / greatest((SELECT count(*) FROM hubs), 1)) END AS most
              FROM worth),
        candidates AS MATERIALIZED (
            SELECT t.space_id, t.memory_id, t.chunk, sum(r.idf) AS score
              FROM ranked r JOIN known k ON k.lexeme = r.lexeme AND k.n > 0 CROSS JOIN width
             CROSS JOIN LATERAL (
                SELECT t.space_id, t.memory_id, t.chunk FROM """
        + terms
        + """ AS t WHERE t.space_id = k.space_id AND t.lexeme = k.lexeme
                 ORDER BY t.memory_id DESC, t.chunk DESC LIMIT width.most) AS t"""
        + joined
        + " WHERE r.finds"
        + condition
        + """
             GROUP BY t.space_id, t.memory_id, t.chunk
             ORDER BY score DESC, t.memory_id DESC, t.chunk LIMIT 400),
        best AS MATERIALIZED (
            SELECT space_id, memory_id, chunk,
                   score + CASE WHEN (SELECT bool_and(finds) FROM ranked) THEN 0 ELSE (
                       SELECT coalesce(sum(r.idf), 0) FROM ranked r WHERE NOT r.finds AND EXISTS (
                           SELECT FROM """
        + terms
        + """ AS t WHERE t.space_id = c.space_id AND t.lexeme = r.lexeme
                              AND t.memory_id = c.memory_id AND t.chunk = c.chunk)) END AS score
              FROM candidates c ORDER BY score DESC, memory_id DESC, chunk LIMIT 100),"""
        + by_meaning
        + """
        scored AS MATERIALIZED (
            SELECT space_id, memory_id, chunk, score FROM best"""
        + near
        + """),
        measured AS MATERIALIZED (
            SELECT space_id, memory_id, chunk, coalesce(score / nullif(max(score) OVER (), 0), 0) AS lex
              FROM scored),
        top AS MATERIALIZED (
            SELECT space_id, memory_id, chunk, lex,
                   lag(chunk) OVER pieces AS before, lead(chunk) OVER pieces AS after,
                   lag(lex) OVER pieces AS before_lex, lead(lex) OVER pieces AS after_lex
              FROM measured WINDOW pieces AS (PARTITION BY memory_id ORDER BY chunk)),
        -- What comes just before and after the best: two each way, the nearer the more.
        beside AS MATERIALIZED (
            SELECT near.space_id, near.id AS memory_id, sum(near.share * hit.lex) AS near,
                   (array_agg(hit.memory_id ORDER BY near.share * hit.lex DESC, hit.memory_id))[1]
                   AS neighbour
              FROM (SELECT space_id, memory_id, max(lex) AS lex FROM top GROUP BY space_id, memory_id
                     ORDER BY lex DESC, memory_id DESC LIMIT 50) AS hit
             CROSS JOIN LATERAL (
                -- What follows a question answers it.
                SELECT o.space_id, o.thread_id, o.seq, o.id,
                       o.chunk_count = 0 AND right(rtrim(o.content), 1) IN ('?', '？') AS asks
                  FROM memories o
                 WHERE o.space_id = hit.space_id AND o.id = hit.memory_id AND o.thread_id IS NOT NULL) AS o
             CROSS JOIN LATERAL (
                SELECT space_id, id, 0.4::float8 / row_number() OVER (ORDER BY seq DESC, id DESC) AS share
                  FROM (SELECT m.space_id, m.id, m.seq FROM memories m
                         WHERE m.space_id = o.space_id AND m.thread_id = o.thread_id
                           AND (m.seq, m.id) < (o.seq, o.id)
                           AND """
        + states
        + _FILTER
        + """ ORDER BY m.seq DESC, m.id DESC LIMIT 2) AS before
                UNION ALL
                SELECT space_id, id,
                       CASE WHEN row_number() OVER (ORDER BY seq, id) = 2 THEN 0.2 WHEN o.asks THEN 0.6
                            ELSE 0.4 END
                  FROM (SELECT m.space_id, m.id, m.seq FROM memories m
                         WHERE m.space_id = o.space_id AND m.thread_id = o.thread_id
                           AND (m.seq, m.id) > (o.seq, o.id)
                           AND """
        + states
        + _FILTER
        + """ ORDER BY m.seq, m.id LIMIT 2) AS after) AS near
             GROUP BY near.space_id, near.id),
        company AS MATERIALIZED (
            SELECT DISTINCT ON (memory_id)
                   coalesce(t.space_id, b.space_id) AS space_id, memory_id, coalesce(t.chunk, 0) AS chunk,
                   coalesce(t.lex, 0) AS lex, beside.near, b.neighbour
              FROM top t FULL JOIN beside b USING (memory_id)
             CROSS JOIN LATERAL (
                SELECT greatest(coalesce(b.near, 0),
                                CASE WHEN t.before = t.chunk - 1 THEN 0.4 * t.before_lex ELSE 0 END,
                                CASE WHEN t.after = t.chunk + 1 THEN 0.4 * t.after_lex ELSE 0 END)
                       AS near) AS beside
             ORDER BY memory_id, coalesce(t.lex, 0) + beside.near DESC, chunk),
        found AS MATERIALIZED (
            SELECT c.space_id, c.memory_id, c.chunk, c.neighbour, marks.named, marks.kind_fits,
                   marks.hub_fits, marks.repo_fits, marks.folder_fits,
                   """
        + cosine
        + " AS meaning, "
        + score
        + """ * m.retrieval_weight
                   * CASE WHEN marks.kind_fits THEN 2.2 ELSE 1 END
                   * CASE WHEN marks.hub_fits THEN 1.15 ELSE 1 END
                   * CASE WHEN marks.repo_fits THEN 1.8 ELSE 1 END
                   * CASE WHEN marks.folder_fits THEN 1.2 ELSE 1 END
                   * CASE WHEN m.pinned THEN 1.1 ELSE 1 END
                   * CASE WHEN (SELECT recency FROM asked) THEN 0.5 + 0.5 * exp(
                          -extract(epoch FROM now() - coalesce(m.occurred_at, m.created_at)) / 7776000)
                          ELSE 1 END AS score,
                   m.access_count, m.created_at
              FROM company c JOIN memories m ON m.space_id = c.space_id AND m.id = c.memory_id"""
        + vectors
        + """
             CROSS JOIN LATERAL (
                SELECT coalesce(string_to_array(translate(plain_text(m.speaker), '-.,''’', '    '), ' ')
                                && (SELECT words FROM asked), false) AS named,
                       coalesce(m.kind = (SELECT kind FROM asked), false) AS kind_fits,
                       coalesce(m.space_id = (SELECT active_hub FROM asked), false) AS hub_fits,
                       coalesce(m.project_context ->> 'repo' = (SELECT repo FROM asked), false) AS repo_fits,
                       coalesce(m.project_context ->> 'dir' = (SELECT folder FROM asked), false)
                       AS folder_fits) AS marks
             WHERE """
        + states
        + _FILTER
        + """
             ORDER BY score DESC, m.pinned DESC, m.access_count DESC, m.created_at DESC, m.id DESC
             LIMIT (SELECT most FROM asked))
        SELECT asking.user_id, m.id, m.space_id, h.name AS hub_name, m.title, m.summary, m.hint, m.kind,
               m.stability, m.state, m.source, m.tags, m.created_at, m.occurred_at, m.speaker, m.thread_id,
               u.display_name AS author_name, m.project_context ->> 'repo' AS project_repo, m.topic_id,
               topic.name AS topic_name, coalesce(piece.heading_chain, '') AS heading_chain,
               coalesce(piece.content, m.content) AS text,
               coalesce(f.score / nullif(max(f.score) OVER (), 0), 0) AS score,
               ARRAY(SELECT r.lexeme FROM ranked r WHERE EXISTS (
                         SELECT FROM """
        + terms
        + """ AS t WHERE t.space_id = f.space_id AND t.lexeme = r.lexeme AND t.memory_id = f.memory_id
                            AND t.chunk = f.chunk) ORDER BY r.idf DESC, r.lexeme) AS terms,
               f.neighbour, f.named, f.meaning,
               array_remove(ARRAY[CASE WHEN f.kind_fits THEN 'kind' END, CASE WHEN f.hub_fits THEN 'hub' END,
                                  CASE WHEN f.repo_fits THEN 'repository' END,
                                  CASE WHEN f.folder_fits THEN 'directory' END,
                                  CASE WHEN m.pinned THEN 'pinned' END], NULL) AS fits,
               (SELECT count(*) FROM candidates)::integer AS candidates,
               ARRAY(SELECT lexeme FROM worth ORDER BY lexeme) AS looked_up,
               ARRAY(SELECT idf FROM worth ORDER BY lexeme) AS weights
          FROM me($1, $2, $3) AS asking
          LEFT JOIN (found f
                     JOIN memories m ON m.space_id = f.space_id AND m.id = f.memory_id
                     JOIN hubs h ON h.space_id = f.space_id
                     JOIN users u ON u.id = m.author_id
                     LEFT JOIN topics topic ON topic.space_id = m.space_id AND topic.id = m.topic_id
                     LEFT JOIN memory_chunks piece ON m.chunk_count > 0 AND piece.memory_id = m.id
                                                  AND piece.chunk = f.chunk) ON true
         ORDER BY f.score DESC NULLS LAST, m.pinned DESC, m.access_count DESC, m.created_at DESC, m.id DESC
        """
    )


_STATEMENTS: dict[tuple[bool, bool, bool], LiteralString] = {
    (filtered, archived, meaning): _statement(filtered=filtered, archived=archived, meaning=meaning)
    for filtered in (False, True)
    for archived in (False, True)
    for meaning in (False, True)
}


async def find(read: Read, caller: Caller, sought: Sought, vector: Vector | None = None) -> list[Hit]:
    """What the caller may read and the query's words, or its meaning, find; the best first.

    One row without an `id` where nothing was found, none when the caller is nobody.
    """
    return await read.many(
        Hit,
        _STATEMENTS[sought.is_filtered, sought.archived, vector is not None],
        *caller.me,
        None if sought.hubs is None else list(sought.hubs),
        sought.query,
        sought.beginning,
        sought.topic,
        list(sought.tags),
        sought.created_after,
        sought.created_before,
        list(sought.words),
        sought.kind,
        sought.active_hub,
        sought.repo,
        sought.folder,
        sought.recency,
        sought.limit,
        other_forms(sought.words),
        *(() if vector is None else (vector.numbers, vector.model)),
    )


async def note_shown(tx: Write, caller: Caller, receipt: UUID, memories: Sequence[UUID]) -> None:
    """Remember what was shown to this credential, and count it. One statement."""
    await tx.run(
        """
        WITH
        -- An answer need not wait until the disk has this: a crash at that very moment loses a hint, no data.
        hint AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
        shown AS MATERIALIZED (
            SELECT space_id, id FROM memories WHERE id = ANY ($5) ORDER BY id FOR KEY SHARE),
        counted AS (
            INSERT INTO memory_shows (space_id, memory_id, shown) SELECT space_id, id, 1 FROM shown
            ON CONFLICT (memory_id) DO UPDATE SET shown = memory_shows.shown + 1)
        INSERT INTO recall_receipts (id, user_id, session, memory_ids)
        SELECT $4, asking.user_id, $3, $5 FROM me($1, $2, $3) AS asking CROSS JOIN hint
        """,
        *caller.me,
        receipt,
        list(memories),
    )
