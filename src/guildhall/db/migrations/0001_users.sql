-- People, how they signed in, and who is asking.

CREATE TABLE users (
    id             text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
    issuer         text NOT NULL,
    status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'erased')),
    display_name   text NOT NULL,
    avatar_url     text,
    bio            text,
    phone_number   text,
    email          text,
    email_key      text GENERATED ALWAYS AS (lower(email COLLATE "C")) STORED,
    email_verified boolean NOT NULL DEFAULT false,
    -- Fields the person set here, which a sync from the identity provider leaves alone.
    own_fields     text[] NOT NULL DEFAULT '{}',
    -- Which state of the identity provider's record was last taken over, in its own milliseconds.
    record_at      bigint,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    erased_at      timestamptz,
    CONSTRAINT erased_means_nothing_personal CHECK (
        status <> 'erased'
        OR (num_nonnulls(avatar_url, bio, phone_number, email) = 0 AND erased_at IS NOT NULL)
    )
);
CREATE INDEX users_by_email ON users (email_key) WHERE email_verified;

-- The embedded issuer's own accounts: one person per verified address.
CREATE TABLE email_logins (
    email_key text PRIMARY KEY,
    user_id   text NOT NULL UNIQUE REFERENCES users ON DELETE CASCADE
);

CREATE TABLE sign_in_codes (
    id         uuid PRIMARY KEY,
    email_key  text NOT NULL UNIQUE,
    email      text NOT NULL,
    code_hash  bytea NOT NULL,
    attempts   smallint NOT NULL DEFAULT 0,
    -- Where whoever asked wants to be led with a code to exchange, rather than be given a session at once.
    redirect   text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE TABLE sessions (
    id           text PRIMARY KEY,
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    -- How often the session was refreshed, which tells the one good refresh token from those before it.
    -- Null where there is none.
    refreshes    integer CHECK (refreshes >= 0),
    label        text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    refreshed_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX sessions_of_a_user ON sessions (user_id);

-- An erased person gets nothing new, also from requests that began before: they are run again and then refused.
-- The row is locked as a reference to it would lock it, so that erasure comes wholly before or wholly after.
CREATE FUNCTION refuse_the_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM users WHERE id = NEW.user_id FOR KEY SHARE;
    IF EXISTS (SELECT FROM users WHERE id = NEW.user_id AND status = 'erased') THEN
        RAISE EXCEPTION 'this person was erased' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sessions_refuse_the_erased BEFORE INSERT ON sessions
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- What a program on the person's machine exchanges for a session, once, after they signed in elsewhere.
CREATE TABLE exchange_codes (
    code_hash  bytea PRIMARY KEY,
    user_id    text NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL
);
CREATE INDEX exchange_codes_of_a_user ON exchange_codes (user_id);
CREATE TRIGGER exchange_codes_refuse_the_erased BEFORE INSERT ON exchange_codes
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- What a person has set for themselves; the rest is as it comes.
CREATE TABLE person_settings (
    user_id    text PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    settings   jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER person_settings_refuse_the_erased BEFORE INSERT ON person_settings
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- How often a person did what is counted, by calendar months of UTC.
CREATE TABLE usage_months (
    user_id  text NOT NULL REFERENCES users ON DELETE CASCADE,
    month    date NOT NULL CHECK (extract(day FROM month) = 1),
    pushes   integer NOT NULL DEFAULT 0 CHECK (pushes >= 0),
    recalls  integer NOT NULL DEFAULT 0 CHECK (recalls >= 0),
    asks     integer NOT NULL DEFAULT 0 CHECK (asks >= 0),
    PRIMARY KEY (user_id, month)
);
CREATE TRIGGER usage_months_refuse_the_erased BEFORE INSERT ON usage_months
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();
CREATE FUNCTION this_month() RETURNS date LANGUAGE sql STABLE AS $$
    SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date
$$;

-- What lets an agent act for its person, with no more rights than were named when it was made. Of the key
-- itself only a hash is kept. A key that a key made ends with it.
CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    -- Limited to the hubs in `api_key_hubs`, also when none of them is left.
    limited      boolean NOT NULL,
    -- Stands where a session's id would, so that every statement that asks for a live session asks for a live key.
    session      text NOT NULL GENERATED ALWAYS AS (CASE WHEN limited THEN 'hubs:' ELSE 'key:' END || id::text) STORED,
    name         text NOT NULL,
    prefix       text NOT NULL,
    key_hash     bytea NOT NULL UNIQUE,
    -- What was asked for, in the words it was asked in, and the atoms of permission that came of it.
    scopes       text[] NOT NULL,
    atoms        text[] NOT NULL,
    trust_level  text NOT NULL CHECK (trust_level IN ('public', 'standard', 'elevated', 'admin')),
    agent_name   text,
    standalone   boolean NOT NULL DEFAULT false,
    made_by      uuid REFERENCES api_keys ON DELETE SET NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    UNIQUE (session),
    UNIQUE (session, user_id),
    CONSTRAINT an_agent_does_not_stand_alone CHECK (agent_name IS NULL OR NOT standalone)
);
CREATE INDEX api_keys_of_a_user ON api_keys (user_id, created_at);
CREATE INDEX api_keys_by_maker ON api_keys (made_by);
CREATE TRIGGER api_keys_refuse_the_erased BEFORE INSERT ON api_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- The agents that keys were named for, as their person wants them shown.
CREATE TABLE agents (
    id           uuid PRIMARY KEY,
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE,
    agent_name   text NOT NULL,
    display_name text NOT NULL,
    icon         text NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (user_id, agent_name)
);
CREATE TRIGGER agents_refuse_the_erased BEFORE INSERT ON agents
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();

-- Who is asking: one row for a live account with a live session or key, none otherwise. Every statement that
-- serves a person starts from it, so that disabling, erasing, signing out and revoking act on the next request.
-- `caller_session` is null for sessions that the issuer itself keeps.
CREATE FUNCTION me(caller text, caller_issuer text, caller_session text) RETURNS TABLE (user_id text)
LANGUAGE sql STABLE AS $$
    SELECT users.id FROM users
     WHERE users.id = caller AND users.issuer = caller_issuer AND users.status = 'active'
       AND (caller_session IS NULL OR EXISTS (
            SELECT FROM sessions
             WHERE sessions.id = caller_session AND sessions.user_id = caller
               AND sessions.revoked_at IS NULL AND sessions.expires_at > now())
            OR EXISTS (
            SELECT FROM api_keys
             WHERE api_keys.session = caller_session AND api_keys.user_id = caller
               AND api_keys.revoked_at IS NULL AND coalesce(api_keys.expires_at > now(), true)))
$$;

-- The one spelling of a time on the wire.
CREATE FUNCTION rfc3339(moment timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- For triggers that keep facts which no row may lose; the trigger's name is reported as the constraint's.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'new row for relation "%" violates "%"', TG_TABLE_NAME, TG_NAME
        USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
END $$;
