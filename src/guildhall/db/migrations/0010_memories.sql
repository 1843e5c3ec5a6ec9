-- depends: 0007_inbox
-- What hubs know: memories, the versions before, the words they are found by, their topics and files.

ALTER TABLE spaces
    -- In which language words are cut to their stems; "simple" where none fits.
    ADD COLUMN language text NOT NULL DEFAULT 'english' CHECK (language IN (
        'simple', 'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french',
        'german', 'greek', 'hindi', 'hungarian', 'indonesian', 'irish', 'italian', 'lithuanian', 'nepali',
        'norwegian', 'portuguese', 'romanian', 'russian', 'serbian', 'spanish', 'swedish', 'tamil', 'turkish',
        'yiddish'));

-- Topics are a tree. One that a person made or changed is `user_modified`, and no rule rearranges it.
CREATE TABLE topics (
    id            uuid NOT NULL UNIQUE,
    space_id      uuid NOT NULL,
    space_kind    text NOT NULL DEFAULT 'hub' CHECK (space_kind = 'hub'),
    owner_id      text NOT NULL REFERENCES users,
    parent_id     uuid CHECK (parent_id <> id),
    name          text NOT NULL CHECK (name <> ''),
    description   text NOT NULL DEFAULT '',
    icon          text NOT NULL DEFAULT 'folder',
    position      integer NOT NULL DEFAULT 0,
    pinned        boolean NOT NULL DEFAULT false,
    user_modified boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    archived_at   timestamptz,
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, space_kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    FOREIGN KEY (space_id, parent_id) REFERENCES topics (space_id, id) ON DELETE SET NULL (parent_id)
);
CREATE UNIQUE INDEX topics_differ_in_name ON topics (space_id, parent_id, lower(name)) NULLS NOT DISTINCT
    WHERE archived_at IS NULL;
CREATE INDEX topics_by_parent ON topics (space_id, parent_id, position, created_at);
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id ON topics FOR EACH ROW
    WHEN (OLD.space_id <> NEW.space_id) EXECUTE FUNCTION refuse_change();

CREATE TABLE topic_visits (
    space_id   uuid NOT NULL,
    topic_id   uuid NOT NULL,
    user_id    text NOT NULL,
    visited_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, user_id),
    FOREIGN KEY (space_id, topic_id) REFERENCES topics (space_id, id) ON DELETE CASCADE,
    FOREIGN KEY (space_id, user_id) REFERENCES members (space_id, user_id) ON DELETE CASCADE
);
CREATE INDEX topic_visits_by_member ON topic_visits (space_id, user_id);

CREATE FUNCTION topics_are_counted_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET topic_count = topic_count + changed.n
      FROM (SELECT space_id, count(*) AS n FROM new_rows WHERE archived_at IS NULL GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE FUNCTION topics_are_counted_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET topic_count = topic_count - changed.n
      FROM (SELECT space_id, count(*) AS n FROM old_rows WHERE archived_at IS NULL GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE FUNCTION topics_are_counted_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET topic_count = topic_count + changed.n
      FROM (SELECT space_id, sum(step) AS n
              FROM (SELECT space_id, 1 AS step FROM new_rows WHERE archived_at IS NULL
                    UNION ALL SELECT space_id, -1 FROM old_rows WHERE archived_at IS NULL) AS steps
             GROUP BY space_id HAVING sum(step) <> 0) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE TRIGGER topics_are_counted_in AFTER INSERT ON topics REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION topics_are_counted_in();
CREATE TRIGGER topics_are_counted_out AFTER DELETE ON topics REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION topics_are_counted_out();
CREATE TRIGGER topics_are_counted_again AFTER UPDATE ON topics
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION topics_are_counted_again();

-- Lower case without accents, and with one kind of apostrophe. What has no letters but ASCII's is spared the look.
CREATE FUNCTION plain_text(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(given) = length(given) THEN lower(given)
                ELSE normalize(replace(replace(regexp_replace(normalize(lower(given), NFKD), '[\u0300-\u036f]', '', 'g'),
                                               'ß', 'ss'), '’', ''''), NFC) END
$$;

-- Something worth remembering. It may move from one hub to another with all that hangs from it.
CREATE TABLE memories (
    id                uuid NOT NULL UNIQUE,
    space_id          uuid NOT NULL,
    space_kind        text NOT NULL DEFAULT 'hub' CHECK (space_kind = 'hub'),
    -- Who wrote it; not a member any more, perhaps.
    author_id         text NOT NULL REFERENCES users,
    topic_id          uuid,
    -- How sure it is that it belongs to its topic: 0.85 for what a person decided, 1 for what is fixed.
    topic_confidence  real CHECK (topic_confidence BETWEEN 0 AND 1),
    title             text NOT NULL DEFAULT '',
    -- Nobody gave the title: it was made of the content, and is made again with it.
    title_is_made     boolean NOT NULL DEFAULT false,
    content           text NOT NULL,
    content_type      text NOT NULL DEFAULT 'text',
    content_hash      bytea NOT NULL CHECK (length(content_hash) = 32),
    summary           text NOT NULL DEFAULT '',
    hint              text NOT NULL DEFAULT '',
    kind              text NOT NULL DEFAULT 'semantic'
                      CHECK (kind IN ('episodic', 'semantic', 'procedural', 'rationale')),
    stability         text NOT NULL DEFAULT 'evolving' CHECK (stability IN ('volatile', 'evolving', 'stable')),
    tags              text[] NOT NULL DEFAULT '{}',
    state             text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'processing', 'archived')),
    pinned            boolean NOT NULL DEFAULT false,
    retrieval_weight  real NOT NULL DEFAULT 1 CHECK (retrieval_weight BETWEEN 0 AND 10),
    -- Where it came from, in the sender's words.
    source            text NOT NULL DEFAULT 'api',
    source_agent      text,
    assisted_by_agent text,
    initiation_type   text NOT NULL DEFAULT 'unknown',
    source_path       text CHECK (source_path <> ''),
    hub_reason        text,
    batch_id          text,
    metadata          jsonb CHECK (jsonb_typeof(metadata) = 'object'),
    project_context   jsonb CHECK (jsonb_typeof(project_context) = 'object'),
    -- When it was said, by whom, and where in which conversation.
    occurred_at       timestamptz,
    thread_id         text CHECK (thread_id <> ''),
    seq               bigint,
    speaker           text,
    -- 0 where the content is one piece; else it lies in `memory_chunks` as well, in so many.
    chunk_count       smallint NOT NULL DEFAULT 0 CHECK (chunk_count >= 0),
    version           integer NOT NULL DEFAULT 1,
    access_count      integer NOT NULL DEFAULT 0,
    accessed_at       timestamptz NOT NULL DEFAULT now(),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    updated_by        text REFERENCES users,
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, space_kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    FOREIGN KEY (space_id, topic_id) REFERENCES topics (space_id, id) ON DELETE SET NULL (topic_id),
    CONSTRAINT a_thread_has_an_order CHECK ((thread_id IS NULL) = (seq IS NULL))
);
CREATE INDEX memories_newest ON memories (space_id, created_at DESC, id DESC);
CREATE INDEX memories_most_used ON memories (space_id, access_count DESC, created_at DESC, id DESC);
CREATE INDEX memories_of_an_author ON memories (author_id, space_id);
CREATE INDEX memories_by_hash ON memories (space_id, author_id, content_hash);
-- By its digest, since a path may be longer than what an index takes.
CREATE UNIQUE INDEX memories_by_path ON memories (space_id, author_id, md5(source_path)) WHERE source_path IS NOT NULL;
CREATE INDEX memories_by_thread ON memories (space_id, thread_id, seq, id) WHERE thread_id IS NOT NULL;
-- By a speaker's first name, or all of them.
CREATE INDEX memories_by_speaker ON memories (space_id, left(plain_text(speaker), 100) COLLATE "C")
    WHERE speaker IS NOT NULL;
CREATE INDEX memories_by_topic ON memories (space_id, topic_id, created_at DESC, id DESC) WHERE topic_id IS NOT NULL;

-- A version is what a memory was until somebody changed it.
CREATE TABLE memory_versions (
    space_id     uuid NOT NULL,
    memory_id    uuid NOT NULL,
    version      integer NOT NULL,
    title        text NOT NULL,
    content      text NOT NULL,
    content_type text NOT NULL,
    content_hash bytea NOT NULL,
    hint         text NOT NULL,
    kind         text NOT NULL,
    stability    text NOT NULL,
    tags         text[] NOT NULL,
    saved_at     timestamptz NOT NULL,
    saved_by     text REFERENCES users,
    PRIMARY KEY (memory_id, version),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_versions_of_a_hub ON memory_versions (space_id, memory_id);

CREATE FUNCTION memories_keep_their_versions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO memory_versions (space_id, memory_id, version, title, content, content_type, content_hash, hint,
                                 kind, stability, tags, saved_at, saved_by)
    VALUES (OLD.space_id, OLD.id, OLD.version, OLD.title, OLD.content, OLD.content_type, OLD.content_hash, OLD.hint,
            OLD.kind, OLD.stability, OLD.tags, OLD.updated_at, coalesce(OLD.updated_by, OLD.author_id));
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER memories_keep_their_versions BEFORE UPDATE ON memories FOR EACH ROW
    WHEN ((OLD.title, OLD.content, OLD.content_type, OLD.hint, OLD.kind, OLD.stability, OLD.tags)
          IS DISTINCT FROM
          (NEW.title, NEW.content, NEW.content_type, NEW.hint, NEW.kind, NEW.stability, NEW.tags)
          -- The text of its file is no change of a memory: it is what it was from the first.
          AND NOT (OLD.state = 'processing' AND NEW.state = 'active' AND OLD.updated_at = NEW.updated_at))
    EXECUTE FUNCTION memories_keep_their_versions();

-- The pieces of a long memory, each found for itself; they are each other's neighbours.
CREATE TABLE memory_chunks (
    space_id      uuid NOT NULL,
    memory_id     uuid NOT NULL,
    chunk         smallint NOT NULL,
    heading_chain text NOT NULL,
    content       text NOT NULL,
    PRIMARY KEY (memory_id, chunk),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_chunks_of_a_hub ON memory_chunks (space_id, memory_id);

-- Which words are in which memory: all that recall reads of a hub's content until it knows what to answer.
-- Only of memories that are active; those in the archive have a table of their own, of the same shape.
CREATE TABLE memory_terms (
    space_id  uuid NOT NULL,
    lexeme    text COLLATE "C" NOT NULL,
    memory_id uuid NOT NULL,
    chunk     smallint NOT NULL,
    PRIMARY KEY (space_id, lexeme, memory_id, chunk)
);
CREATE INDEX memory_terms_of_a_memory ON memory_terms (memory_id);
CREATE TABLE archived_memory_terms (
    space_id  uuid NOT NULL,
    lexeme    text COLLATE "C" NOT NULL,
    memory_id uuid NOT NULL,
    chunk     smallint NOT NULL,
    PRIMARY KEY (space_id, lexeme, memory_id, chunk)
);
CREATE INDEX archived_memory_terms_of_a_memory ON archived_memory_terms (memory_id);

-- In how many memories of a large hub a word is, for the words that are in many; counted now and then by a job.
CREATE TABLE memory_term_counts (
    space_id uuid NOT NULL REFERENCES spaces ON DELETE CASCADE,
    lexeme   text COLLATE "C" NOT NULL,
    memories integer NOT NULL,
    PRIMARY KEY (space_id, lexeme)
);

-- How large a hub was when its words were last counted.
CREATE TABLE memory_term_runs (
    space_id     uuid PRIMARY KEY REFERENCES spaces ON DELETE CASCADE,
    memory_count integer NOT NULL,
    counted_at   timestamptz NOT NULL DEFAULT now()
);

-- The words of a text as they are looked up: stems by the language; of Chinese, Japanese and Korean, which write
-- no spaces, each pair of neighbouring characters, and each Chinese character by itself but for those that only
-- join words. Words that a slash or a full stop joins, as in a path or where
-- somebody left out a space, are found both together and alone.
CREATE FUNCTION lexemes(language text, given text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    plain text := plain_text(given);
    joined constant text := '[[:alpha:]][[:alnum:]_-]*(?:[/.][[:alpha:]][[:alnum:]_-]*)+';
    run   constant text := '[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+';
    joining constant text := '的了是在有我你您他她它们這这那哪不也都就嗎吗呢吧啊和与與及或很个個一之其而于於以为為所把被让讓给給到从從会會能要可什么麼怎';
BEGIN
    IF plain ~ '[[:alnum:]_-][/.][[:alpha:]]' THEN
        plain := concat_ws(' ', plain, (SELECT string_agg(translate(parts[1], '/.', '  '), ' ')
                                          FROM regexp_matches(plain, joined, 'g') AS parts));
    END IF;
    IF octet_length(plain) = length(plain) OR plain !~ run THEN
        RETURN tsvector_to_array(to_tsvector(language::regconfig, plain));
    END IF;
    RETURN tsvector_to_array(to_tsvector(language::regconfig, regexp_replace(plain, run, ' ', 'g'))) || ARRAY(
        SELECT substr(found.run[1], at, 2) FROM regexp_matches(plain, run, 'g') AS found (run),
               generate_series(1, greatest(length(found.run[1]) - 1, 1)) AS at
        UNION
        SELECT alone[1] FROM regexp_matches(translate(plain, joining, ''), '[\u3400-\u4dbf\u4e00-\u9fff]', 'g') AS alone);
END $$;

-- What a memory is found by beside its content: title, hint, tags, and its date in words.
CREATE FUNCTION about_memory(title text, hint text, tags text[], occurred_at timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT concat_ws(' ', nullif(title, ''), nullif(hint, ''), nullif(array_to_string(tags, ' '), ''),
                     to_char(occurred_at AT TIME ZONE 'UTC', 'FMDD FMMonth YYYY'))
$$;

-- Put a memory's words where recall finds them, in place of those there were. One that is being processed has none.
CREATE FUNCTION index_memory(memory memories, is_new boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    about text;
    hub_language text;
BEGIN
    IF NOT is_new THEN
        DELETE FROM memory_terms WHERE memory_id = memory.id;
        DELETE FROM archived_memory_terms WHERE memory_id = memory.id;
    END IF;
    IF memory.state = 'processing' THEN
        RETURN;
    END IF;
    SELECT language INTO hub_language FROM spaces WHERE id = memory.space_id;
    about := about_memory(memory.title, memory.hint, memory.tags, memory.occurred_at);
    IF memory.state = 'active' AND memory.chunk_count = 0 THEN
        INSERT INTO memory_terms (space_id, lexeme, memory_id, chunk)
        SELECT memory.space_id, lexeme, memory.id, 0
          FROM unnest(lexemes(hub_language, concat_ws(' ', about, memory.content))) AS lexeme;
    ELSIF memory.state = 'active' THEN
        INSERT INTO memory_terms (space_id, lexeme, memory_id, chunk)
        SELECT memory.space_id, lexeme, memory.id, c.chunk
          FROM memory_chunks c,
               unnest(lexemes(hub_language, concat_ws(' ', about, c.heading_chain, c.content))) AS lexeme
         WHERE c.memory_id = memory.id;
    ELSIF memory.chunk_count = 0 THEN
        INSERT INTO archived_memory_terms (space_id, lexeme, memory_id, chunk)
        SELECT memory.space_id, lexeme, memory.id, 0
          FROM unnest(lexemes(hub_language, concat_ws(' ', about, memory.content))) AS lexeme;
    ELSE
        INSERT INTO archived_memory_terms (space_id, lexeme, memory_id, chunk)
        SELECT memory.space_id, lexeme, memory.id, c.chunk
          FROM memory_chunks c,
               unnest(lexemes(hub_language, concat_ws(' ', about, c.heading_chain, c.content))) AS lexeme
         WHERE c.memory_id = memory.id;
    END IF;
END $$;

-- These run when the statement ends, so a statement that writes the memory and its chunks finds both.
CREATE FUNCTION memories_are_indexed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM index_memory(NEW, TG_OP = 'INSERT');
    RETURN NULL;
END $$;
CREATE TRIGGER memories_are_indexed AFTER INSERT ON memories FOR EACH ROW
    EXECUTE FUNCTION memories_are_indexed();
CREATE TRIGGER memories_are_indexed_again AFTER UPDATE ON memories FOR EACH ROW
    WHEN ((OLD.space_id, OLD.state, OLD.title, OLD.hint, OLD.tags, OLD.occurred_at, OLD.content_hash, OLD.chunk_count)
          IS DISTINCT FROM
          (NEW.space_id, NEW.state, NEW.title, NEW.hint, NEW.tags, NEW.occurred_at, NEW.content_hash, NEW.chunk_count))
    EXECUTE FUNCTION memories_are_indexed();

-- Memories that are not archived, and those of them without a topic, are counted on their hub.
CREATE FUNCTION memories_are_counted_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET memory_count = memory_count + changed.n, unsorted_count = unsorted_count + changed.unsorted
      FROM (SELECT space_id, count(*) AS n, count(*) FILTER (WHERE topic_id IS NULL) AS unsorted
              FROM new_rows WHERE state <> 'archived' GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE FUNCTION memories_are_counted_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM memory_terms WHERE memory_id IN (SELECT id FROM old_rows);
    DELETE FROM archived_memory_terms WHERE memory_id IN (SELECT id FROM old_rows WHERE state = 'archived');
    UPDATE spaces SET memory_count = memory_count - changed.n, unsorted_count = unsorted_count - changed.unsorted
      FROM (SELECT space_id, count(*) AS n, count(*) FILTER (WHERE topic_id IS NULL) AS unsorted
              FROM old_rows WHERE state <> 'archived' GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE FUNCTION memories_are_counted_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET memory_count = memory_count + changed.n, unsorted_count = unsorted_count + changed.unsorted
      FROM (SELECT space_id, sum(step) AS n, coalesce(sum(step) FILTER (WHERE topic_id IS NULL), 0) AS unsorted
              FROM (SELECT space_id, topic_id, 1 AS step FROM new_rows WHERE state <> 'archived'
                    UNION ALL SELECT space_id, topic_id, -1 FROM old_rows WHERE state <> 'archived') AS steps
             GROUP BY space_id
            HAVING sum(step) <> 0 OR coalesce(sum(step) FILTER (WHERE topic_id IS NULL), 0) <> 0) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE TRIGGER memories_are_counted_in AFTER INSERT ON memories REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION memories_are_counted_in();
CREATE TRIGGER memories_are_counted_out AFTER DELETE ON memories REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION memories_are_counted_out();
CREATE TRIGGER memories_are_counted_again AFTER UPDATE ON memories
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION memories_are_counted_again();

-- How often recall has shown a memory: apart, since every recall writes it.
CREATE TABLE memory_shows (
    space_id  uuid NOT NULL,
    memory_id uuid PRIMARY KEY,
    shown     integer NOT NULL DEFAULT 0,
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
) WITH (fillfactor = 70);
CREATE INDEX memory_shows_of_a_hub ON memory_shows (space_id, memory_id);

-- When each person last opened a memory; opening it again at once does not count.
CREATE TABLE memory_visits (
    space_id   uuid NOT NULL,
    memory_id  uuid NOT NULL,
    user_id    text NOT NULL REFERENCES users ON DELETE CASCADE,
    visited_at timestamptz NOT NULL,
    PRIMARY KEY (memory_id, user_id),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_visits_of_a_hub ON memory_visits (space_id, memory_id);
CREATE INDEX memory_visits_of_a_person ON memory_visits (user_id);

-- What a credential was just shown, so that it does not push the same again as if it were new.
CREATE TABLE recall_receipts (
    id         uuid PRIMARY KEY,
    user_id    text NOT NULL REFERENCES users ON DELETE CASCADE,
    session    text,
    memory_ids uuid[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recall_receipts_of_a_key ON recall_receipts (user_id, session, created_at DESC);
CREATE INDEX recall_receipts_by_age ON recall_receipts (created_at);

-- A push that only repeated what its sender had been shown: a reference to that, not a copy.
CREATE TABLE memory_echoes (
    id         uuid PRIMARY KEY,
    space_id   uuid NOT NULL,
    memory_id  uuid NOT NULL,
    user_id    text NOT NULL REFERENCES users,
    source     text NOT NULL,
    agent      text,
    receipt_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_echoes_of_a_memory ON memory_echoes (space_id, memory_id);

ALTER TABLE uploads
    DROP CONSTRAINT uploads_purpose_check,
    ADD CONSTRAINT uploads_purpose_check CHECK (purpose IN ('avatar', 'logo', 'cover', 'attachment', 'memory')),
    ADD COLUMN sha256 bytea;

-- The file a memory was made of.
CREATE TABLE memory_attachments (
    id           uuid NOT NULL UNIQUE,
    space_id     uuid NOT NULL,
    memory_id    uuid NOT NULL,
    owner_id     text NOT NULL REFERENCES users,
    -- An upload is one memory's only.
    upload_id    uuid NOT NULL UNIQUE REFERENCES uploads ON DELETE CASCADE,
    name         text NOT NULL,
    filename     text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL,
    sha256       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (memory_id, id),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_attachments_of_a_hub ON memory_attachments (space_id, memory_id);

-- Files whose last row is gone, until a job has removed them: whichever way the row went, none is left behind.
CREATE TABLE stray_blobs (name text PRIMARY KEY, since timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION attachments_leave_their_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stray_blobs (name) SELECT name FROM old_rows ON CONFLICT (name) DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER attachments_leave_their_files AFTER DELETE ON memory_attachments REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION attachments_leave_their_files();

-- The hub a request is about where it says nothing, or names one that the caller does not reach: their own, or
-- the first that a limited key is for.
CREATE FUNCTION usual_hub(caller text, caller_session text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN caller_session LIKE 'hubs:%' THEN
                    (SELECT h.space_id FROM api_key_hubs h WHERE h.key_session = caller_session
                      ORDER BY h.position LIMIT 1)
                ELSE (SELECT s.id FROM spaces s WHERE s.owner_id = caller AND s.is_personal) END
$$;

-- Which of these, by id or slug, the caller reads: the first they reach, else the usual one. One row for a live
-- account.
CREATE FUNCTION reading_hub(
    caller text, caller_issuer text, caller_session text, wanted text, otherwise text)
RETURNS TABLE (user_id text, space_id uuid, role text)
LANGUAGE sql STABLE AS $$
    WITH named AS MATERIALIZED (
        SELECT hub_named(wanted) AS first, hub_named(otherwise) AS second,
               usual_hub(caller, caller_session) AS usual)
    SELECT asking.user_id, found.space_id, found.role
      FROM me(caller, caller_issuer, caller_session) AS asking
     CROSS JOIN named
      LEFT JOIN LATERAL (
            SELECT m.space_id, m.role FROM members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL
             WHERE m.user_id = asking.user_id AND m.kind = 'hub' AND m.status = 'active'
               AND m.space_id = ANY (ARRAY[named.first, named.second, named.usual])
               AND reaches(caller_session, m.space_id)
             ORDER BY (m.space_id = named.first) IS TRUE DESC, (m.space_id = named.second) IS TRUE DESC
             LIMIT 1) AS found
        ON true
$$;

-- All hubs the caller reads.
CREATE FUNCTION read_hubs(caller text, caller_issuer text, caller_session text)
RETURNS TABLE (user_id text, space_id uuid, role text)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, m.space_id, m.role
      FROM me(caller, caller_issuer, caller_session) AS asking
      JOIN members m ON m.user_id = asking.user_id AND m.kind = 'hub' AND m.status = 'active'
      JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL
     WHERE reaches(caller_session, m.space_id)
$$;

-- What waits in a hub for this person, and what has been going on in it lately.
CREATE OR REPLACE FUNCTION hub_pulse(hub uuid, person text, rank text)
RETURNS TABLE (pending_review integer, dream_topics integer, team_activity integer) LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM notifications n
             WHERE n.space_id = hub AND n.recipient_user_id = person AND n.bucket = 'action'
               AND n.status = 'pending' AND coalesce(n.expires_at > now(), true))::integer, 0,
           -- Of a busy day it is enough to know that it was busy.
           (SELECT count(*) FROM (SELECT FROM memories
                                   WHERE space_id = hub AND created_at > now() - interval '1 day'
                                   LIMIT 1000) AS lately)::integer
$$;

-- What dreams did to a memory and propose to do with it.
CREATE FUNCTION memory_lifecycle(memory uuid) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('pending_dream_action', NULL, 'dream_history', '[]'::json)
$$;

CREATE FUNCTION attachment_json(a memory_attachments) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', a.id, 'memory_id', a.memory_id, 'owner_id', a.owner_id, 'kind', 'original', 'filename', a.filename,
        'content_type', a.content_type, 'size_bytes', a.size_bytes, 'sha256', encode(a.sha256, 'hex'),
        'inline_eligible', a.content_type IN ('image/png', 'image/jpeg', 'image/webp', 'image/gif'),
        'created_at', rfc3339(a.created_at))
$$;

-- A memory as clients see it.
CREATE FUNCTION memory_json(m memories) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_strip_nulls(json_build_object(
        'id', m.id, 'hub_id', m.space_id, 'owner_id', m.author_id, 'title', m.title, 'content', m.content,
        'content_type', m.content_type, 'content_hash', encode(m.content_hash, 'hex'), 'summary', m.summary,
        'hint', nullif(m.hint, ''), 'kind', m.kind, 'stability', m.stability,
        'retrieval_weight', m.retrieval_weight, 'tags', m.tags, 'boundary', 'private', 'state', m.state,
        'pinned', m.pinned, 'source', m.source, 'source_agent', m.source_agent,
        'assisted_by_agent', m.assisted_by_agent, 'source_path', m.source_path, 'hub_reason', m.hub_reason,
        'batch_id', m.batch_id, 'metadata', m.metadata, 'project_context', m.project_context,
        'attachments', (SELECT json_agg(attachment_json(a) ORDER BY a.id)
                          FROM memory_attachments a WHERE a.memory_id = m.id),
        'topic_id', m.topic_id, 'version', m.version, 'access_count', m.access_count,
        'shown_count', coalesce((SELECT s.shown FROM memory_shows s WHERE s.memory_id = m.id), 0),
        'occurred_at', rfc3339(m.occurred_at), 'thread_id', m.thread_id, 'seq', m.seq, 'speaker', m.speaker,
        'created_at', rfc3339(m.created_at), 'updated_at', rfc3339(m.updated_at),
        'accessed_at', rfc3339(m.accessed_at), 'author_name', u.display_name, 'author_avatar_url', u.avatar_url,
        'hub_name', s.name, 'agent_display_name', a.display_name, 'agent_icon', nullif(a.icon, ''),
        'provenance', json_build_object(
            'created_by_type', CASE WHEN m.source_agent IS NULL THEN 'human' ELSE 'agent' END,
            'created_by_slug', m.source_agent,
            'created_by_display_name', coalesce(a.display_name, m.source_agent, u.display_name),
            'created_via', m.source, 'assisted_by_agent', m.assisted_by_agent,
            'initiation_type', m.initiation_type)))
      FROM users u JOIN spaces s ON s.id = m.space_id
      LEFT JOIN agents a ON a.user_id = m.author_id AND a.agent_name = m.source_agent
     WHERE u.id = m.author_id
$$;

-- A text as it is compared with what was shown: neither case nor spaces, punctuation, quotation or list marks tell two
-- apart. What stands inside a word or number stays, as in 3.5, -5 or a_b.
CREATE FUNCTION said(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT btrim(regexp_replace(regexp_replace(regexp_replace(regexp_replace(
               lower(translate(given, '’‘', '''''')),
               '(^|\n)[[:space:]]*([>#*+-]+[[:space:]]+)+', ' ', 'g'),
               '["“”„‟«»‹›「」『』《》`*~()\[\]{}]|(?<![[:alnum:]])[''_]+|[''_]+(?![[:alnum:]])', '', 'g'),
               '[.,;:!?…]+(?=[[:space:]]|$)|[。、，！？；：]|[[:space:]][–—-]+(?=[[:space:]])', ' ', 'g'),
               '[[:space:]]+', ' ', 'g'))
$$;

-- As `said`, without what only leads in to what somebody has read: "I learned that …", "Note to self: …".
CREATE FUNCTION said_bare(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(given, '^(?:(?:'
        '(?:key |quick |important )?(?:note|notes|fyi|reminder|memo|memory|recap|summary|context|background|fact'
            '|insight|learning|learnings|takeaway|quote|info|information|til|important)(?: to self)?'
        '|(?:as |what )?(?:i|i''ve|i''ll|we|we''ve)(?: have| had| just| also| now| already| previously)*'
            ' (?:learned|learnt|noted|remembered|remember|recalled|recall|know|knew|found|found out|read|saw|discovered)'
        '|(?:as )?(?:learned|learnt|noted|remembered|recalled|remember|recall)'
        '|(?:according to|from|per) (?:the |my |our )?(?:memory|memories|notes|hub|records)'
        '|(?:the |my |our )?(?:memory|memories|notes|hub|records) (?:says|say|states|state)'
        ')(?: that| is)? )+', '')
$$;

-- The memory in this hub that the caller was shown lately, by this receipt or with this key, and that has all of
-- the text in it, but for what leads in to it.
CREATE FUNCTION echoed_memory(
    caller text, caller_session text, hub uuid, wanted_receipt uuid, pushed text)
RETURNS TABLE (memory_id uuid, receipt_id uuid) LANGUAGE plpgsql STABLE AS $$
DECLARE
    shown   uuid[] := ARRAY(
        SELECT r.id FROM recall_receipts r
         WHERE r.user_id = caller AND r.session IS NOT DISTINCT FROM caller_session
           AND r.created_at > now() - interval '1 hour'
           AND (r.id = wanted_receipt OR caller_session LIKE 'hubs:%' OR caller_session LIKE 'key:%')
         ORDER BY r.created_at DESC LIMIT 200);
    bare    text;
    telling text;
BEGIN
    IF shown = '{}' OR length(pushed) > 100000 THEN
        RETURN;
    END IF;
    bare := said_bare(said(pushed));
    IF length(bare) < 12 THEN
        RETURN;
    END IF;
    -- Its longest word is looked for first, since that takes little.
    SELECT word INTO telling FROM unnest(string_to_array(bare, ' ')) AS word
     WHERE word ~ '^[[:alnum:]]+$' ORDER BY length(word) DESC LIMIT 1;
    RETURN QUERY
        SELECT m.id, r.id
          FROM recall_receipts r CROSS JOIN LATERAL unnest(r.memory_ids) AS one (id)
          JOIN memories m ON m.space_id = hub AND m.id = one.id AND m.state = 'active'
         WHERE r.id = ANY (shown) AND position(coalesce(telling, '') IN lower(m.content)) > 0
           AND position(bare IN said(left(m.content, 200000))) > 0
         ORDER BY r.created_at DESC LIMIT 1;
END $$;

-- The place of what is said next in a conversation.
CREATE FUNCTION next_in_thread(hub uuid, thread text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN thread IS NOT NULL THEN
        coalesce((SELECT max(m.seq) FROM memories m WHERE m.space_id = hub AND m.thread_id = thread), 0) + 1 END
$$;

-- Store what somebody pushes, unless it is there: by where it came from, by its content, or because they were just
-- shown it. `given` has the columns of a memory, and in `sent` the names of those that were not made up for it;
-- `pieces` are its chunks where it is long. One row for a live account;
-- `outcome` says what became of it. A function, because each of its statements sees what was committed before the
-- hub was locked.
CREATE FUNCTION push_memory(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_slug text, given jsonb, pieces jsonb,
    most integer, receipt uuid)
RETURNS TABLE (user_id text, hub_id uuid, is_personal boolean, outcome text, memory_id uuid, memory_count integer,
               memory text)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    seat    record;
    hub     record;
    known   memories;
    wrote   memories;
    echo    record;
    asked   uuid := CASE WHEN wanted IS NULL AND wanted_slug IS NULL THEN usual_hub(caller, caller_session)
                         ELSE wanted END;
    g       memories := jsonb_populate_record(NULL::memories, given);
    outcome text;
    sent    text[] := ARRAY(SELECT jsonb_array_elements_text(given -> 'sent'));
    own_agent text;
BEGIN
    SELECT * INTO seat FROM lock_hub(caller, caller_issuer, caller_session, asked, wanted_slug);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF seat.space_id IS NULL OR seat.role = 'viewer' THEN
        RETURN QUERY SELECT seat.user_id, NULL::uuid, NULL::boolean,
                            CASE WHEN seat.space_id IS NULL THEN 'no hub' ELSE 'no right' END,
                            NULL::uuid, NULL::integer, NULL::text;
        RETURN;
    END IF;
    SELECT k.agent_name INTO own_agent FROM api_keys k WHERE k.session = caller_session;
    outcome := CASE
        WHEN g.source_agent <> own_agent THEN 'another agent'
        WHEN g.assisted_by_agent IS NOT NULL AND own_agent IS NOT NULL THEN 'no human'
        WHEN g.assisted_by_agent IS NOT NULL AND NOT EXISTS (
             SELECT FROM agents a WHERE a.user_id = seat.user_id AND a.agent_name = g.assisted_by_agent)
        THEN 'unknown agent' END;
    IF outcome IS NOT NULL THEN
        RETURN QUERY SELECT seat.user_id, NULL::uuid, NULL::boolean, outcome, NULL::uuid, NULL::integer, NULL::text;
        RETURN;
    END IF;
    IF g.source <> 'web' THEN
        g.source_agent := coalesce(g.source_agent, own_agent);
    END IF;
    SELECT s.id, s.is_personal, s.memory_count, s.frozen_at INTO hub FROM spaces s WHERE s.id = seat.space_id;
    IF hub.frozen_at IS NOT NULL THEN
        RETURN QUERY SELECT seat.user_id, hub.id, hub.is_personal, 'frozen', NULL::uuid, hub.memory_count, NULL::text;
        RETURN;
    END IF;
    IF g.source_path IS NOT NULL THEN
        SELECT * INTO known FROM memories m
         WHERE m.space_id = hub.id AND m.author_id = seat.user_id AND md5(m.source_path) = md5(g.source_path)
           AND m.source_path IS NOT NULL;
    END IF;
    IF known.id IS NULL THEN
        SELECT * INTO known FROM memories m
         WHERE m.space_id = hub.id AND m.author_id = seat.user_id AND m.content_hash = g.content_hash
           -- Who says yes twice in a conversation has said two things, and so have two who say it once each.
           AND (g.thread_id IS NULL OR (m.thread_id = g.thread_id AND coalesce(
                m.seq = g.seq, g.seq IS NULL AND m.speaker IS NOT DISTINCT FROM g.speaker)))
         ORDER BY m.state = 'archived', m.created_at LIMIT 1;
    END IF;
    IF known.id IS NULL THEN
        -- What was said in a conversation was said, whatever it repeats.
        SELECT * INTO echo FROM echoed_memory(seat.user_id, caller_session, hub.id, receipt, g.content)
         WHERE g.thread_id IS NULL;
        IF FOUND THEN
            INSERT INTO memory_echoes (id, space_id, memory_id, user_id, source, agent, receipt_id)
            VALUES (g.id, hub.id, echo.memory_id, seat.user_id, g.source, g.source_agent, echo.receipt_id);
            RETURN QUERY SELECT seat.user_id, hub.id, hub.is_personal, 'echo', m.id, hub.memory_count,
                                memory_json(m)::text
                           FROM memories m WHERE m.id = echo.memory_id;
            RETURN;
        END IF;
        IF hub.memory_count >= most THEN
            RETURN QUERY SELECT seat.user_id, hub.id, hub.is_personal, 'full', NULL::uuid, hub.memory_count, NULL::text;
            RETURN;
        END IF;
        outcome := 'created';
        g.seq := coalesce(g.seq, next_in_thread(hub.id, g.thread_id));
        WITH kept AS (
            INSERT INTO memories (id, space_id, author_id, title, title_is_made, content, content_type, content_hash, summary, hint,
                                  kind, stability, tags, state, source, source_agent, assisted_by_agent,
                                  initiation_type, source_path, hub_reason, batch_id, project_context, occurred_at,
                                  thread_id, seq, speaker, chunk_count)
            VALUES (g.id, hub.id, seat.user_id, g.title, g.title_is_made, g.content, g.content_type, g.content_hash, g.summary, g.hint,
                    g.kind, g.stability, g.tags, g.state, g.source, g.source_agent, g.assisted_by_agent,
                    g.initiation_type, g.source_path, g.hub_reason, g.batch_id, g.project_context, g.occurred_at,
                    g.thread_id, g.seq, g.speaker, g.chunk_count)
            RETURNING *),
        parts AS (
            INSERT INTO memory_chunks (space_id, memory_id, chunk, heading_chain, content)
            SELECT hub.id, g.id, p.chunk, p.heading_chain, p.content
              FROM jsonb_to_recordset(pieces) AS p (chunk smallint, heading_chain text, content text))
        SELECT * INTO wrote FROM kept;
    ELSIF known.content_hash = g.content_hash THEN
        outcome := CASE WHEN known.state = 'archived' THEN 'restored' ELSE 'unchanged' END;
        IF known.state = 'archived' THEN
            UPDATE memories m SET state = 'active', updated_at = now() WHERE m.id = known.id;
        END IF;
        IF known.source_path IS NULL AND g.source_path IS NOT NULL THEN
            -- From now on it is known by where it came from.
            UPDATE memories m SET source_path = g.source_path WHERE m.id = known.id;
        END IF;
    ELSE
        outcome := 'replaced';
        DELETE FROM memory_chunks c WHERE c.memory_id = known.id;
        WITH parts AS (
            INSERT INTO memory_chunks (space_id, memory_id, chunk, heading_chain, content)
            SELECT hub.id, known.id, p.chunk, p.heading_chain, p.content
              FROM jsonb_to_recordset(pieces) AS p (chunk smallint, heading_chain text, content text))
        UPDATE memories m
           SET title = CASE WHEN m.title_is_made OR NOT g.title_is_made THEN g.title ELSE m.title END,
               title_is_made = m.title_is_made AND g.title_is_made,
               content = g.content, content_type = g.content_type, content_hash = g.content_hash,
               summary = g.summary, chunk_count = g.chunk_count, state = g.state, updated_by = seat.user_id,
               -- What was sent; the rest stays as it was.
               hint = CASE WHEN 'hint' = ANY (sent) THEN g.hint ELSE m.hint END,
               kind = CASE WHEN 'kind' = ANY (sent) THEN g.kind ELSE m.kind END,
               stability = CASE WHEN 'stability' = ANY (sent) THEN g.stability ELSE m.stability END,
               tags = CASE WHEN 'tags' = ANY (sent) THEN g.tags ELSE m.tags END,
               hub_reason = coalesce(g.hub_reason, m.hub_reason), batch_id = coalesce(g.batch_id, m.batch_id),
               project_context = coalesce(g.project_context, m.project_context),
               occurred_at = coalesce(g.occurred_at, m.occurred_at), speaker = coalesce(g.speaker, m.speaker),
               thread_id = coalesce(g.thread_id, m.thread_id),
               seq = CASE WHEN g.thread_id IS NULL THEN m.seq
                          ELSE coalesce(g.seq, CASE WHEN m.thread_id = g.thread_id THEN m.seq END,
                                        next_in_thread(hub.id, g.thread_id)) END
         WHERE m.id = known.id;
    END IF;
    RETURN QUERY SELECT seat.user_id, hub.id, hub.is_personal, outcome, m.id, hub.memory_count, memory_json(m)::text
                   FROM memories m WHERE m.space_id = hub.id AND m.id = coalesce(known.id, g.id);
END $$;

-- Up to twenty words of a hub that begin so, found by going from one to the next, however many memories have them;
-- and the stem of a word whose ending is still being typed, as "connect" is of "connecti".
CREATE FUNCTION words_from(hub uuid, beginning text) RETURNS TABLE (lexeme text) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE step AS (
        (SELECT t.lexeme, 1 AS n FROM memory_terms t
          WHERE t.space_id = hub AND t.lexeme >= beginning COLLATE "C" AND t.lexeme < (beginning || U&'\+10FFFF') COLLATE "C"
          ORDER BY t.lexeme LIMIT 1)
        UNION ALL
        SELECT after.lexeme, step.n + 1 FROM step CROSS JOIN LATERAL (
            SELECT t.lexeme FROM memory_terms t
             WHERE t.space_id = hub AND t.lexeme > step.lexeme AND t.lexeme < (beginning || U&'\+10FFFF') COLLATE "C"
             ORDER BY t.lexeme LIMIT 1) AS after
         WHERE step.n < 20)
    SELECT step.lexeme FROM step
    UNION
    SELECT left(beginning, n)
      FROM generate_series(greatest(3, length(beginning) - 6), length(beginning) - 1) AS n
     WHERE EXISTS (SELECT FROM unnest(ARRAY[
                       'ings', 'ions', 'ations', 'ments', 'ness', 'able', 'ibly', 'ers', 'ed', 'es', 'edly', 'ally',
                       'ives', 'ities', 'fully', 'ously', 'ungen', 'heiten', 'keiten', 'lichen', 'ischen', 'en',
                       'ements', 'mente', 'idades', 'iones', 'zioni']) AS ending
                    WHERE starts_with(ending, substr(beginning, n + 1))
                       -- "Running" has its last letter twice.
                       OR (substr(beginning, n, 1) = substr(beginning, n + 1, 1)
                           AND starts_with(ending, substr(beginning, n + 2))))
       AND EXISTS (SELECT FROM memory_terms t
                    WHERE t.space_id = hub AND t.lexeme = left(beginning, n) COLLATE "C")
$$;

-- Take a space away with all that is in it; false when that is more than one statement may take. Then nobody finds
-- it any more, nothing leads to it, and a job removes the rest in parts: members too, who see nothing of a space
-- that is deleted.
CREATE FUNCTION remove_space(space uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF (SELECT member_count <= 1000 FROM spaces WHERE id = space)
       AND (SELECT count(*) FROM (SELECT FROM memories WHERE space_id = space LIMIT 2001) AS few) <= 2000
       AND (SELECT count(*) FROM (SELECT FROM notifications WHERE space_id = space LIMIT 2001) AS few) <= 2000 THEN
        DELETE FROM spaces WHERE id = space;
        RETURN true;
    END IF;
    UPDATE spaces SET deleted_at = now() WHERE id = space;
    DELETE FROM hub_slugs WHERE space_id = space;
    DELETE FROM api_key_hubs WHERE space_id = space;
    DELETE FROM invites WHERE space_id = space;
    DELETE FROM transfers WHERE space_id = space;
    RETURN false;
END $$;
CREATE OR REPLACE FUNCTION erased_people_lose_their_hub() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM remove_space(id) FROM spaces WHERE owner_id = NEW.id AND is_personal;
    RETURN NULL;
END $$;
