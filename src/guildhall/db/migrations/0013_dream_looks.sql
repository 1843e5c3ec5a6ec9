-- depends: 0012_dreams
-- Which memories dreams have compared with all others of their hub, so that in a large one each has its turn.

CREATE TABLE dream_looks (
    space_id  uuid NOT NULL,
    memory_id uuid NOT NULL,
    phase     text NOT NULL CHECK (phase IN ('merge', 'contradiction')),
    -- When the look began; what was changed since wants another one.
    looked_at timestamptz NOT NULL,
    -- A digest of the words in their order, by which copies find each other however common their words are.
    words     bytea CHECK (length(words) = 16),
    PRIMARY KEY (memory_id, phase),
    FOREIGN KEY (space_id, memory_id) REFERENCES memories (space_id, id) ON UPDATE CASCADE ON DELETE CASCADE
);
CREATE INDEX dream_looks_of_a_hub ON dream_looks (space_id, memory_id);
CREATE INDEX dream_looks_by_words ON dream_looks (space_id, words) WHERE words IS NOT NULL;

ALTER TABLE dream_runs
    -- Whether there was more to compare than one run takes on.
    ADD COLUMN more_to_compare boolean NOT NULL DEFAULT false;
