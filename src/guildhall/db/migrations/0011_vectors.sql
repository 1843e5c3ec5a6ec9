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
