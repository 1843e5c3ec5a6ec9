-- depends: 0010_memories
-- The directions of memories, for recall by meaning. Empty without a model.

CREATE EXTENSION IF NOT EXISTS vector;

-- One for each piece that is found for itself. In a table of its own: it comes later than the memory, by a job,
-- and a change of the memory's other columns leaves it alone. `version` is the memory's that it was made of.
CREATE TABLE memory_vectors (
    space_id  uuid NOT NULL,
    memory_id uuid NOT NULL,
    chunk     smallint NOT NULL,
    model     text NOT NULL,
    version   integer NOT NULL,
    vector    halfvec(384) NOT NULL,
    PRIMARY KEY (memory_id, chunk),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX memory_vectors_of_a_hub ON memory_vectors (space_id, memory_id);
-- Their vectors stay, and are passed over.
CREATE INDEX memories_put_away ON memories (space_id, id) WHERE state <> 'active';

-- The vectors of a small hub are compared one by one. A large one has an index of its own, made by a job: one for
-- all hubs would have to be searched far beyond what a hub's members may see before enough of it is theirs.
CREATE FUNCTION vector_index_name(hub uuid, model text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'memory_vectors_' || replace(hub::text, '-', '') || '_' || left(md5(model), 8)
$$;

-- Whether there is one that is whole: the catalog knows best.
CREATE FUNCTION has_vector_index(hub uuid, model text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (SELECT FROM pg_index i
                    WHERE i.indexrelid = to_regclass(vector_index_name(hub, model)) AND i.indisvalid)
$$;

-- The pieces of a hub that are nearest in meaning, of memories that fit, by the hub's index. Only whoever may read
-- the hub is to be told. Where so few fit that the index would have to be walked far, all that fit are compared.
-- The index is used only where hub and model are known when the statement is planned: hence a plan each time.
CREATE FUNCTION nearest_by_index(hub uuid, of_model text, sought halfvec, with_archived boolean, of_topic uuid,
                                 with_tags text[], since timestamptz, until timestamptz, most integer)
RETURNS TABLE (memory_id uuid, chunk smallint, distance float8)
LANGUAGE plpgsql STABLE ROWS 100 SET plan_cache_mode = force_custom_plan SET enable_sort = off AS $$
DECLARE
    memories_found uuid[];
    chunks_found smallint[];
    distances_found float8[];
BEGIN
    PERFORM set_config('hnsw.ef_search', '100', true), set_config('hnsw.iterative_scan', 'relaxed_order', true);
    SELECT array_agg(near.memory_id), array_agg(near.chunk), array_agg(near.distance)
      INTO memories_found, chunks_found, distances_found
      FROM (SELECT walked.memory_id, walked.chunk, walked.distance
              FROM (SELECT v.memory_id, v.chunk, v.vector <=> sought AS distance FROM memory_vectors v
                     WHERE v.space_id = hub AND v.model = of_model
                     ORDER BY v.vector <=> sought LIMIT 10 * most) AS walked
             -- One after the other, so that no more are walked than are wanted.
             CROSS JOIN LATERAL (
                SELECT FROM memories m
                 WHERE m.id = walked.memory_id AND m.space_id = hub
                   AND (m.state = 'active' OR with_archived AND m.state <> 'processing')
                   AND (of_topic IS NULL OR m.topic_id = of_topic) AND m.tags @> with_tags
                   AND (since IS NULL OR m.created_at >= since) AND (until IS NULL OR m.created_at < until)
                OFFSET 0) AS fits
             LIMIT most) AS near;
    IF cardinality(memories_found) >= most THEN
        RETURN QUERY SELECT * FROM unnest(memories_found, chunks_found, distances_found);
        RETURN;
    END IF;
    RETURN QUERY
        SELECT v.memory_id, v.chunk, v.vector <=> sought
          FROM memories m JOIN memory_vectors v ON v.memory_id = m.id AND v.space_id = hub AND v.model = of_model
         WHERE m.space_id = hub
           AND (m.state = 'active' OR with_archived AND m.state <> 'processing')
           AND (of_topic IS NULL OR m.topic_id = of_topic) AND m.tags @> with_tags
           AND (since IS NULL OR m.created_at >= since) AND (until IS NULL OR m.created_at < until)
         -- As a sum, since no index knows that.
         ORDER BY (v.vector <=> sought) + 0 LIMIT most;
END $$;
