-- depends: 0011_vectors
-- Topics count their memories. Dreams tidy hubs up, and whatever they did can be taken back.

ALTER TABLE topics
    -- Of memories in it that are not archived.
    ADD COLUMN memory_count integer NOT NULL DEFAULT 0 CHECK (memory_count >= 0);
UPDATE topics SET memory_count = counted.n
  FROM (SELECT space_id, topic_id, count(*) AS n FROM memories
         WHERE topic_id IS NOT NULL AND state <> 'archived' GROUP BY space_id, topic_id) AS counted
 WHERE (topics.space_id, topics.id) = (counted.space_id, counted.topic_id);

-- Row by row, so that what is in no topic, as most of what is pushed, costs nothing.
CREATE FUNCTION topics_count_their_memories() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.topic_id IS NOT NULL AND OLD.state <> 'archived' THEN
        UPDATE topics SET memory_count = memory_count - 1 WHERE space_id = OLD.space_id AND id = OLD.topic_id;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.topic_id IS NOT NULL AND NEW.state <> 'archived' THEN
        UPDATE topics SET memory_count = memory_count + 1 WHERE space_id = NEW.space_id AND id = NEW.topic_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER topics_count_what_comes AFTER INSERT ON memories FOR EACH ROW
    WHEN (NEW.topic_id IS NOT NULL) EXECUTE FUNCTION topics_count_their_memories();
CREATE TRIGGER topics_count_what_goes AFTER DELETE ON memories FOR EACH ROW
    -- Where the whole hub goes, nothing is left to be counted.
    WHEN (OLD.topic_id IS NOT NULL AND pg_trigger_depth() = 0) EXECUTE FUNCTION topics_count_their_memories();
CREATE TRIGGER topics_count_what_moves AFTER UPDATE ON memories FOR EACH ROW
    WHEN ((OLD.topic_id, OLD.space_id, OLD.state = 'archived')
          IS DISTINCT FROM (NEW.topic_id, NEW.space_id, NEW.state = 'archived'))
    EXECUTE FUNCTION topics_count_their_memories();

-- One time that a hub was tidied up. `planned` are the phases whose proposals are all written down, `failed`
-- those that came to nothing.
CREATE TABLE dream_runs (
    id                   uuid NOT NULL UNIQUE,
    space_id             uuid NOT NULL,
    space_kind           text NOT NULL DEFAULT 'hub' CHECK (space_kind = 'hub'),
    -- Null where nobody asked and it was only time.
    asked_by             text REFERENCES users,
    mode                 text NOT NULL DEFAULT 'maintenance' CHECK (mode IN ('maintenance', 'bootstrap')),
    status               text NOT NULL
                         CHECK (status IN ('running', 'completed', 'partial_failed', 'failed', 'skipped')),
    started_at           timestamptz NOT NULL DEFAULT now(),
    finished_at          timestamptz,
    heartbeat_at         timestamptz NOT NULL DEFAULT now(),
    planned              text[] NOT NULL DEFAULT '{}',
    failed               text[] NOT NULL DEFAULT '{}',
    memories_scanned     integer NOT NULL DEFAULT 0,
    duplicates_merged    integer NOT NULL DEFAULT 0,
    contradictions_found integer NOT NULL DEFAULT 0,
    memories_archived    integer NOT NULL DEFAULT 0,
    memories_organized   integer NOT NULL DEFAULT 0,
    topics_restructured  integer NOT NULL DEFAULT 0,
    phase_metrics        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(phase_metrics) = 'object'),
    phase_budgets        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(phase_budgets) = 'object'),
    -- In numbers alone: what it was about is read from the actions, and goes with the memories.
    report               text NOT NULL DEFAULT '',
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, space_kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    CONSTRAINT a_run_ends_or_runs CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE UNIQUE INDEX one_dream_at_a_time ON dream_runs (space_id) WHERE status = 'running';
CREATE INDEX dream_runs_newest ON dream_runs (space_id, started_at DESC, id DESC);

-- What a run proposes, does, or leaves for people to decide. `before` is what taking it back needs.
CREATE TABLE dream_actions (
    id                uuid NOT NULL UNIQUE,
    space_id          uuid NOT NULL,
    run_id            uuid NOT NULL,
    position          integer NOT NULL,
    action_type       text NOT NULL
                      CHECK (action_type IN ('merge', 'contradiction', 'archive', 'organize', 'restructure')),
    operation         text NOT NULL
                      CHECK (operation IN ('merge', 'contradiction', 'archive', 'organize', 'nest', 'join')),
    status            text NOT NULL DEFAULT 'proposed'
                      CHECK (status IN ('proposed', 'waiting', 'applied', 'rejected', 'undone', 'dropped')),
    -- Whether it is done without asking anybody.
    automatic         boolean NOT NULL,
    confidence        real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    similarity        real NOT NULL CHECK (similarity BETWEEN 0 AND 1),
    reason            text NOT NULL,
    evidence          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(evidence) = 'object'),
    source_memory_ids uuid[] NOT NULL DEFAULT '{}',
    result_memory_id  uuid,
    from_topic_id     uuid,
    to_topic_id       uuid,
    before            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(before) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    -- When it was done, was refused, or turned out to have no ground any more.
    decided_at        timestamptz,
    decided_by        text REFERENCES users,
    undone_at         timestamptz,
    undone_by         text REFERENCES users,
    PRIMARY KEY (space_id, id),
    UNIQUE (run_id, position),
    FOREIGN KEY (space_id, run_id) REFERENCES dream_runs (space_id, id) ON DELETE CASCADE,
    CONSTRAINT undone_once CHECK ((status = 'undone') = (undone_at IS NOT NULL))
);
CREATE INDEX dream_actions_of_a_run ON dream_actions (space_id, run_id, position);
CREATE INDEX dream_actions_of_memories ON dream_actions USING gin (source_memory_ids);
CREATE INDEX dream_actions_of_a_topic ON dream_actions (space_id, to_topic_id, decided_at)
    WHERE to_topic_id IS NOT NULL;
CREATE INDEX dream_actions_from_a_topic ON dream_actions (space_id, from_topic_id, decided_at)
    WHERE from_topic_id IS NOT NULL;
CREATE INDEX dream_actions_decided_by ON dream_actions (decided_by) WHERE decided_by IS NOT NULL;
CREATE INDEX dream_actions_undone_by ON dream_actions (undone_by) WHERE undone_by IS NOT NULL;
CREATE INDEX dream_runs_asked_by ON dream_runs (asked_by) WHERE asked_by IS NOT NULL;
CREATE INDEX topics_of_a_person ON topics (owner_id);
CREATE INDEX dream_actions_waiting ON dream_actions (space_id) WHERE status = 'waiting';

-- What waited for people and lost its ground waits in nobody's inbox any more. Which rows that closed is kept for as
-- long as the transaction lasts, so that who made the change tells of them.
CREATE FUNCTION dreams_ask_no_more() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    closed text;
BEGIN
    WITH closing AS (
        UPDATE notifications n SET status = 'resolved', resolution = 'dismissed', resolved_at = now()
          FROM members m
         WHERE m.space_id = NEW.space_id AND n.source_id = NEW.id || ':' || m.user_id AND n.status = 'pending'
           AND n.source_kind = CASE NEW.operation WHEN 'contradiction' THEN 'contradiction' ELSE 'topic_review' END
        RETURNING n.id)
    SELECT string_agg(id::text, ',') INTO closed FROM closing;
    IF closed IS NOT NULL THEN
        PERFORM set_config('guildhall.settled', concat_ws(
            ',', nullif(current_setting('guildhall.settled', true), ''), closed), true);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER dreams_ask_no_more AFTER UPDATE ON dream_actions FOR EACH ROW
    WHEN (OLD.status = 'waiting' AND NEW.status = 'dropped') EXECUTE FUNCTION dreams_ask_no_more();

-- A topic that dreams made and named after memories that are all gone: it goes too, or where other things are in it,
-- loses its name, unless a memory in it has all the words of that.
CREATE FUNCTION dreams_forget_topic(hub uuid, topic uuid) RETURNS void LANGUAGE sql VOLATILE AS $$
    DELETE FROM topics t
     WHERE t.space_id = hub AND t.id = topic AND NOT t.user_modified
       AND NOT EXISTS (SELECT FROM memories m WHERE m.space_id = hub AND m.topic_id = topic)
       AND NOT EXISTS (SELECT FROM topics c WHERE c.space_id = hub AND c.parent_id = topic);
    UPDATE topics t SET name = 'Topic ' || right(topic::text, 6), updated_at = now()
      FROM spaces s
     WHERE t.space_id = hub AND t.id = topic AND NOT t.user_modified AND s.id = hub
       AND NOT EXISTS (
           SELECT FROM memories m
            WHERE m.space_id = hub AND m.topic_id = topic
              AND lexemes(s.language, t.name) <@ ARRAY(
                  SELECT w.lexeme FROM memory_terms w WHERE w.memory_id = m.id
                  UNION ALL SELECT w.lexeme FROM archived_memory_terms w WHERE w.memory_id = m.id));
$$;

-- A memory that is gone, or gone elsewhere, leaves nothing of itself in what dreams noted.
CREATE FUNCTION dreams_forget_memories() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    FOR known IN SELECT * FROM dream_actions a
                  WHERE a.source_memory_ids @> ARRAY[OLD.id] AND a.space_id = OLD.space_id LOOP
        -- What is said of two is nothing without one of them.
        IF known.operation IN ('merge', 'contradiction') OR known.source_memory_ids = ARRAY[OLD.id] THEN
            UPDATE dream_actions
               SET source_memory_ids = array_remove(source_memory_ids, OLD.id), reason = '', evidence = '{}',
                   result_memory_id = nullif(result_memory_id, OLD.id),
                   before = CASE WHEN OLD.id = result_memory_id AND operation = 'merge'
                                 THEN jsonb_build_object('gone', true) ELSE '{}' END,
                   status = CASE WHEN status IN ('undone', 'rejected') THEN status
                                 -- The copy that was put away can still be fetched back.
                                 WHEN status = 'applied' AND operation = 'merge' AND OLD.id = result_memory_id
                                 THEN status
                                 ELSE 'dropped' END
             WHERE id = known.id;
        ELSE
            UPDATE dream_actions SET source_memory_ids = array_remove(source_memory_ids, OLD.id)
             WHERE id = known.id;
        END IF;
        IF known.operation = 'organize' AND known.source_memory_ids = ARRAY[OLD.id]
           AND known.evidence ->> 'new_topic' = 'true' THEN
            PERFORM dreams_forget_topic(OLD.space_id, known.to_topic_id);
        END IF;
    END LOOP;
    IF TG_OP = 'DELETE' AND OLD.topic_id IS NOT NULL THEN
        DELETE FROM topics t
         WHERE t.space_id = OLD.space_id AND t.id = OLD.topic_id AND NOT t.user_modified
           AND NOT EXISTS (SELECT FROM memories m WHERE m.space_id = t.space_id AND m.topic_id = t.id)
           AND NOT EXISTS (SELECT FROM topics c WHERE c.space_id = t.space_id AND c.parent_id = t.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER dreams_forget_memories AFTER DELETE ON memories FOR EACH ROW
    -- With its hub goes all of it by itself.
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION dreams_forget_memories();
CREATE TRIGGER dreams_forget_what_moves AFTER UPDATE ON memories FOR EACH ROW
    WHEN (OLD.space_id <> NEW.space_id) EXECUTE FUNCTION dreams_forget_memories();

-- Nobody decides any more where a topic goes that is gone.
CREATE FUNCTION dreams_forget_topics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dream_actions SET status = 'dropped', decided_at = now()
     WHERE space_id = OLD.space_id AND from_topic_id = OLD.id AND status = 'waiting';
    UPDATE dream_actions SET status = 'dropped', decided_at = now()
     WHERE space_id = OLD.space_id AND to_topic_id = OLD.id AND status = 'waiting';
    RETURN NULL;
END $$;
CREATE TRIGGER dreams_forget_topics AFTER DELETE ON topics FOR EACH ROW EXECUTE FUNCTION dreams_forget_topics();

-- What dreams did in a topic since this person last looked; null for who never did.
CREATE FUNCTION topic_delta(t topics, person text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
               'since_visit_at', rfc3339(v.visited_at), 'run_ids', coalesce(done.run_ids, '[]'),
               'added', coalesce(done.added, 0), 'reorganized', coalesce(done.reorganized, 0))
      FROM topic_visits v
     CROSS JOIN LATERAL (
            SELECT jsonb_agg(DISTINCT a.run_id) AS run_ids,
                   sum(cardinality(a.source_memory_ids)) FILTER (WHERE a.action_type = 'organize') AS added,
                   count(*) FILTER (WHERE a.action_type = 'restructure') AS reorganized
              FROM dream_actions a
             WHERE a.space_id = t.space_id AND a.status = 'applied' AND a.decided_at > v.visited_at
               AND (a.to_topic_id = t.id OR a.from_topic_id = t.id)) AS done
     WHERE v.topic_id = t.id AND v.user_id = person
$$;

-- A topic as this person sees it.
CREATE FUNCTION topic_json(t topics, person text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
               'id', t.id, 'owner_id', t.owner_id, 'hub_id', t.space_id, 'name', t.name,
               'description', nullif(t.description, ''), 'icon', t.icon, 'position', t.position,
               'pinned', t.pinned, 'user_modified', t.user_modified, 'created_at', rfc3339(t.created_at),
               'updated_at', rfc3339(t.updated_at), 'archived_at', rfc3339(t.archived_at),
               'activity_summary', (
                   SELECT jsonb_build_object(
                              'window_days', 7, 'memory_count', count(*),
                              'contributor_count', count(DISTINCT lately.author_id),
                              'contributors_preview', (
                                  SELECT jsonb_agg(jsonb_build_object(
                                             'user_id', u.id, 'user_name', u.display_name,
                                             'user_avatar_url', u.avatar_url) ORDER BY u.sort_name, u.id)
                                    FROM (SELECT u.id, u.display_name, u.avatar_url, lower(u.display_name) AS sort_name
                                            FROM users u WHERE u.id = ANY (array_agg(DISTINCT lately.author_id))
                                           ORDER BY lower(u.display_name), u.id LIMIT 3) AS u))
                     FROM (SELECT m.author_id FROM memories m
                            WHERE m.space_id = t.space_id AND m.topic_id = t.id AND m.state <> 'archived'
                              AND m.created_at > now() - interval '7 days' LIMIT 1000) AS lately)))
           || jsonb_build_object('parent_id', t.parent_id,
                                 'lifecycle', jsonb_build_object('delta_since_visit', topic_delta(t, person)))
$$;

-- What dreams did to a memory and propose to do with it, as far as its hub knows.
CREATE OR REPLACE FUNCTION memory_lifecycle(memory uuid) RETURNS json LANGUAGE sql STABLE AS $$
    WITH said AS MATERIALIZED (
        SELECT a.status, a.position, coalesce(a.decided_at, a.created_at) AS at, json_build_object(
                   'run_id', a.run_id, 'action_type', a.action_type,
                   'at', rfc3339(coalesce(a.decided_at, a.created_at)),
                   'from_topic', (SELECT json_build_object('id', t.id, 'name', t.name, 'icon', t.icon)
                                    FROM topics t WHERE t.space_id = a.space_id AND t.id = a.from_topic_id),
                   'to_topic', (SELECT json_build_object('id', t.id, 'name', t.name, 'icon', t.icon)
                                  FROM topics t WHERE t.space_id = a.space_id AND t.id = a.to_topic_id),
                   'reason', a.reason) AS ref
          FROM memories m JOIN dream_actions a ON a.source_memory_ids @> ARRAY[m.id] AND a.space_id = m.space_id
         WHERE m.id = memory AND a.action_type <> 'contradiction' AND a.status IN ('applied', 'waiting'))
    SELECT json_build_object(
        'pending_dream_action', (SELECT ref FROM said WHERE status = 'waiting' ORDER BY at DESC, position DESC LIMIT 1),
        'dream_history', coalesce((
            SELECT json_agg(ref ORDER BY at DESC, position DESC)
              FROM (SELECT ref, at, position FROM said WHERE status = 'applied'
                     ORDER BY at DESC, position DESC LIMIT 10) AS latest), '[]'))
$$;

-- Memories and topics of a hub by their name now; what is not there any more has none.
CREATE FUNCTION memory_name(hub uuid, wanted text) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('id', wanted, 'title', coalesce(
        (SELECT m.title FROM memories m WHERE m.space_id = hub AND m.id = wanted::uuid), '(no longer here)'))
$$;
CREATE FUNCTION topic_name(hub uuid, wanted text) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT json_build_object('id', t.id, 'name', t.name, 'memory_count', t.memory_count)
           FROM topics t WHERE t.space_id = hub AND t.id = wanted::uuid),
        json_build_object('id', wanted, 'name', '(no longer here)'))
$$;

-- What a decision in the inbox is about, as that is called now.
CREATE FUNCTION review_json(hub uuid, kind text, payload jsonb) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT CASE kind
           WHEN 'review_contradiction' THEN json_build_object(
               'memory_a', memory_name(hub, payload ->> 'memory_a'), 'memory_b', memory_name(hub, payload ->> 'memory_b'),
               'similarity', round(a.similarity::numeric, 4), 'reason', a.reason)
           WHEN 'review_topic_merge' THEN json_build_object(
               'target_topic', topic_name(hub, payload ->> 'target_topic'),
               'source_topics', json_build_array(topic_name(hub, payload ->> 'source_topic')), 'reason', a.reason)
           WHEN 'review_topic_restructure' THEN json_build_object(
               'parent_topic', topic_name(hub, payload ->> 'parent_topic'),
               'child_topic', topic_name(hub, payload ->> 'child_topic'), 'reason', a.reason)
           END
      FROM (SELECT) AS always LEFT JOIN dream_actions a ON a.space_id = hub AND a.id = (payload ->> 'action_id')::uuid
     WHERE kind LIKE 'review\_%'
$$;

-- What waits in a hub for this person, and what has been going on in it lately.
CREATE OR REPLACE FUNCTION hub_pulse(hub uuid, person text, rank text)
RETURNS TABLE (pending_review integer, dream_topics integer, team_activity integer) LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM notifications n
             WHERE n.space_id = hub AND n.recipient_user_id = person AND n.bucket = 'action'
               AND n.status = 'pending' AND coalesce(n.expires_at > now(), true))::integer,
           coalesce((SELECT CASE WHEN r.status IN ('completed', 'partial_failed') THEN r.topics_restructured END
                       FROM dream_runs r WHERE r.space_id = hub AND r.status <> 'skipped'
                      ORDER BY r.started_at DESC, r.id DESC LIMIT 1), 0),
           -- Of a busy day it is enough to know that it was busy.
           (SELECT count(*) FROM (SELECT FROM memories
                                   WHERE space_id = hub AND created_at > now() - interval '1 day'
                                   LIMIT 1000) AS lately)::integer
$$;

CREATE FUNCTION dream_run_json(r dream_runs) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_strip_nulls(json_build_object(
        'id', r.id, 'owner_id', coalesce(r.asked_by, s.owner_id), 'hub_id', r.space_id, 'mode', r.mode,
        'status', r.status, 'started_at', rfc3339(r.started_at), 'finished_at', rfc3339(r.finished_at),
        'memories_scanned', r.memories_scanned, 'duplicates_merged', r.duplicates_merged,
        'contradictions_found', r.contradictions_found, 'memories_archived', r.memories_archived,
        'memories_organized', r.memories_organized, 'topics_restructured', r.topics_restructured,
        'phase_metrics', r.phase_metrics, 'phase_budgets', r.phase_budgets, 'report', r.report,
        'last_heartbeat_at', rfc3339(r.heartbeat_at)))
      FROM spaces s WHERE s.id = r.space_id
$$;

-- What a run did and proposed, in its order; without what rules keep for themselves.
CREATE FUNCTION dream_actions_json(hub uuid, run uuid, most integer) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT coalesce(json_agg(json_strip_nulls(json_build_object(
               'id', a.id, 'run_id', a.run_id, 'action_type', a.action_type, 'status', a.status,
               'automatic', a.automatic, 'confidence', round(a.confidence::numeric, 4),
               'similarity', round(a.similarity::numeric, 4), 'reason', a.reason, 'evidence', a.evidence - 'hashes',
               'source_memory_ids', a.source_memory_ids, 'result_memory_id', a.result_memory_id,
               'from_topic_id', a.from_topic_id, 'to_topic_id', a.to_topic_id,
               'created_at', rfc3339(a.created_at), 'decided_at', rfc3339(a.decided_at),
               'decided_by', a.decided_by, 'undone_at', rfc3339(a.undone_at))) ORDER BY a.position), '[]')
      FROM (SELECT * FROM dream_actions WHERE space_id = hub AND run_id = run ORDER BY position LIMIT most) AS a
$$;
