-- depends: 0003_groups_and_posts
-- What the service itself keeps: backlog, uploads, repeats, limits, deliveries.

CREATE TABLE backlog_items (
    id           uuid PRIMARY KEY,
    title        text NOT NULL,
    type         text NOT NULL CHECK (type IN ('feature', 'bug', 'enhancement', 'question')),
    priority     text NOT NULL CHECK (priority IN ('high', 'medium', 'low')),
    session      text NOT NULL CHECK (session IN ('api', 'web', 'mobile', 'onboarding', 'account-portal')),
    description  text,
    api_endpoint text,
    status       text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in-progress', 'done')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz
);
CREATE INDEX backlog_items_newest ON backlog_items (created_at DESC, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE uploads (
    id           uuid PRIMARY KEY,
    user_id      text NOT NULL REFERENCES users,
    name         text NOT NULL UNIQUE,
    filename     text NOT NULL,
    content_type text NOT NULL,
    size_bytes   bigint NOT NULL,
    purpose      text NOT NULL CHECK (purpose IN ('avatar', 'logo', 'cover', 'attachment')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- When its one PUT began, and when all of it was stored.
    claimed_at   timestamptz,
    stored_at    timestamptz
);
CREATE INDEX uploads_of_a_user ON uploads (user_id);
CREATE TRIGGER uploads_refuse_the_erased BEFORE INSERT ON uploads
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

CREATE TABLE exports (
    id           uuid PRIMARY KEY,
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    requested_at timestamptz NOT NULL DEFAULT now(),
    ready_at     timestamptz,
    blob         text
);
CREATE INDEX exports_of_a_user ON exports (user_id, requested_at DESC);
CREATE TRIGGER exports_refuse_the_erased BEFORE INSERT ON exports
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- What a POST with an Idempotency-Key answered; committed with its effect. Answers hold tokens and personal
-- data, so they are sealed under a key that is not in the database. `spaces` are those an answer is about and the
-- person was in: it is theirs to read again while they are in all of them.
CREATE TABLE idempotency_keys (
    scope      bytea PRIMARY KEY,
    body_hash  bytea NOT NULL,
    answer     bytea NOT NULL,
    spaces     uuid[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Token buckets for costly actions, exact over all processes. A bucket holds `level` tokens as of `updated_at`.
CREATE TABLE rate_buckets (
    key        bytea PRIMARY KEY,
    level      double precision NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX rate_buckets_by_age ON rate_buckets (updated_at);

-- Take one token from each bucket, all or none. One row where that cannot be: the seconds to wait, and for which
-- of the buckets, counted from 1.
-- `capacities` are tokens, `periods` the seconds in which an empty bucket fills. Refusal writes nothing.
CREATE FUNCTION take_tokens(keys bytea[], capacities double precision[], periods double precision[])
RETURNS TABLE (wait_s double precision, nth integer) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment timestamptz;
BEGIN
    -- Rows must exist to be locked; locking in order of the keys keeps two callers from waiting for each other.
    INSERT INTO rate_buckets (key, level, updated_at)
    SELECT k, c, clock_timestamp() FROM unnest(keys, capacities) AS wanted (k, c) ORDER BY k
        ON CONFLICT (key) DO NOTHING;
    PERFORM FROM rate_buckets WHERE key = ANY (keys) ORDER BY key FOR UPDATE;
    moment := clock_timestamp();
    SELECT (1 - now_level) * p / c, n INTO wait_s, nth
      FROM (SELECT n, p, c, least(c, level + extract(epoch FROM moment - updated_at) * c / p) AS now_level
              FROM unnest(keys, capacities, periods) WITH ORDINALITY AS wanted (k, c, p, n)
              JOIN rate_buckets ON key = k) AS levels
     ORDER BY (1 - now_level) * p / c DESC LIMIT 1;
    IF wait_s > 0 THEN
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE rate_buckets
       SET level = least(c, level + extract(epoch FROM moment - updated_at) * c / p) - 1, updated_at = moment
      FROM unnest(keys, capacities, periods) AS wanted (k, c, p)
     WHERE key = k;
END $$;

-- Deliveries of webhooks already taken, so that a repeat changes nothing.
CREATE TABLE webhook_deliveries (
    id          text PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);

-- One row of facts about this installation.
CREATE TABLE installation (
    only_one     boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    -- After a restore nothing is sent until the operator says so.
    sending_held boolean NOT NULL DEFAULT false
);
INSERT INTO installation DEFAULT VALUES;

-- Workers that live: each says so every few seconds.
CREATE TABLE workers (
    id      uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Whose turn it is to make a community's channels match, and up to which version they do. `again` asks whoever
-- has the turn, or takes the next, to look once more. No reference to `spaces`: a row outlives its space until
-- the channels are gone.
CREATE TABLE chat_spaces (
    space_id     uuid PRIMARY KEY,
    holder       uuid,
    held_until   timestamptz,
    again        boolean NOT NULL DEFAULT false,
    done_version bigint
);
CREATE INDEX chat_spaces_to_do ON chat_spaces (space_id) WHERE again;

-- Every channel of ours at the chat service, written before it is made. One that is not `trusted` may differ
-- from what `chat_members` says, and is read whole before it is believed again.
CREATE TABLE chat_channels (
    id       uuid PRIMARY KEY,
    type     text NOT NULL CHECK (type IN ('guildhall-space', 'guildhall-group')),
    space_id uuid NOT NULL REFERENCES chat_spaces ON DELETE CASCADE,
    name     text,
    image    text,
    trusted  boolean NOT NULL DEFAULT true
);
CREATE INDEX chat_channels_of_a_space ON chat_channels (space_id);

-- Who is in each channel as far as we know; a null role means that a call about this person has not been
-- answered, so they may be in or out.
CREATE TABLE chat_members (
    channel_id uuid NOT NULL REFERENCES chat_channels ON DELETE CASCADE,
    user_id    text NOT NULL,
    role       text,
    PRIMARY KEY (channel_id, user_id)
);
CREATE INDEX chat_members_by_user ON chat_members (user_id);
