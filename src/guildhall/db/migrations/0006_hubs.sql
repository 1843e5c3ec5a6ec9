-- depends: 0005_jobs
-- Hubs: what they have beside every other space, their slugs, and the one that each person is born with.

ALTER TABLE spaces
    ADD COLUMN is_personal               boolean NOT NULL DEFAULT false,
    ADD COLUMN plan                      text,
    ADD COLUMN icon                      text,
    ADD COLUMN accent                    text CHECK (accent IN ('violet', 'blue', 'green', 'amber', 'rose', 'slate')),
    ADD COLUMN allow_contributor_topics  boolean NOT NULL DEFAULT true,
    ADD COLUMN allow_contributor_dreams  boolean NOT NULL DEFAULT true,
    ADD COLUMN contributor_delete_policy text NOT NULL DEFAULT 'own'
                                         CHECK (contributor_delete_policy IN ('none', 'own', 'any')),
    ADD COLUMN header_aurora_mode        text CHECK (header_aurora_mode IN ('none', 'signature', 'time')),
    -- What was set here; the rest is as it comes.
    ADD COLUMN settings                  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
    -- Memories that are not archived, those of them without a topic, and topics that are not archived.
    ADD COLUMN memory_count              integer NOT NULL DEFAULT 0 CHECK (memory_count >= 0),
    ADD COLUMN unsorted_count            integer NOT NULL DEFAULT 0 CHECK (unsorted_count >= 0),
    ADD COLUMN topic_count               integer NOT NULL DEFAULT 0 CHECK (topic_count >= 0),
    ADD COLUMN frozen_at                 timestamptz,
    ADD CONSTRAINT a_personal_hub_is_for_one CHECK (NOT is_personal OR (kind = 'hub' AND member_count <= 1));
CREATE UNIQUE INDEX one_personal_hub_per_person ON spaces (owner_id) WHERE is_personal;
-- A hub's members in the order they are listed, so that a long list is read a part at a time.
CREATE INDEX members_of_a_hub ON members (space_id, rank, joined_at, user_id) WHERE kind = 'hub';

-- Every slug of a hub, in use or reserved: the one place where two hubs meet over a name, so that a slug that
-- is being given up and claimed at once goes to one of them.
CREATE TABLE hub_slugs (
    slug           text COLLATE "C" PRIMARY KEY,
    space_id       uuid NOT NULL REFERENCES spaces ON DELETE CASCADE,
    -- Null for the slug in use; a former one leads to its hub until then, and is for nobody else.
    reserved_until timestamptz
);
CREATE UNIQUE INDEX a_hub_has_one_slug ON hub_slugs (space_id) WHERE reserved_until IS NULL;
CREATE INDEX hub_slugs_of_a_hub ON hub_slugs (space_id);

-- An id that sorts by the time it was made: milliseconds, then chance. The two bits make version 4 version 7.
CREATE FUNCTION uuid7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_bit(set_bit(overlay(
               uuid_send(gen_random_uuid())
               PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
               FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Nobody is without a hub of their own, however their account came about: a person and their hub are one change.
-- Its slug is the person's id; where a team came to bear that first, the hub's own id, which no team can bear.
CREATE FUNCTION make_personal_hubs(people text[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    WITH wanted AS MATERIALIZED (SELECT uuid7() AS id, user_id FROM unnest(people) AS user_id),
    claimed AS (
        INSERT INTO hub_slugs (slug, space_id) SELECT user_id, id FROM wanted
            ON CONFLICT (slug) DO NOTHING RETURNING space_id),
    otherwise AS (
        INSERT INTO hub_slugs (slug, space_id) SELECT id::text, id FROM wanted
         WHERE id NOT IN (SELECT space_id FROM claimed)),
    made AS (
        INSERT INTO spaces (id, kind, is_personal, owner_id, name, slug, accent)
        SELECT id, 'hub', true, user_id, 'Memory Hub',
               CASE WHEN id IN (SELECT space_id FROM claimed) THEN user_id ELSE id::text END, 'violet'
          FROM wanted)
    INSERT INTO members (space_id, kind, user_id, role) SELECT id, 'hub', user_id, 'owner' FROM wanted
$$;
CREATE FUNCTION people_get_a_hub() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make_personal_hubs(ARRAY(SELECT id FROM new_rows WHERE status <> 'erased'));
    RETURN NULL;
END $$;
CREATE TRIGGER people_get_a_hub AFTER INSERT ON users REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION people_get_a_hub();
DO $$ BEGIN PERFORM make_personal_hubs(ARRAY(SELECT id FROM users WHERE status <> 'erased')); END $$;

CREATE FUNCTION erased_people_lose_their_hub() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM spaces WHERE owner_id = NEW.id AND is_personal;
    RETURN NULL;
END $$;
CREATE TRIGGER erased_people_lose_their_hub AFTER UPDATE ON users FOR EACH ROW
    WHEN (NEW.status = 'erased' AND OLD.status <> 'erased')
    EXECUTE FUNCTION erased_people_lose_their_hub();

-- An invite is worth what its maker may do: with their right it ends for good, and getting the right back
-- does not wake links that people have forgotten.
CREATE FUNCTION invites_end_with_their_right() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE invites SET revoked_at = now() FROM changed_rows AS changed
         WHERE invites.space_id = changed.space_id AND invites.invited_by = changed.user_id
           AND invites.accepted_at IS NULL AND invites.revoked_at IS NULL;
    ELSE
        UPDATE invites SET revoked_at = now() FROM changed_rows AS changed JOIN new_rows USING (space_id, user_id)
         WHERE changed.role IN ('owner', 'admin') AND changed.status = 'active'
           AND (new_rows.role NOT IN ('owner', 'admin') OR new_rows.status <> 'active')
           AND invites.space_id = changed.space_id AND invites.invited_by = changed.user_id
           AND invites.accepted_at IS NULL AND invites.revoked_at IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER invites_end_with_a_membership AFTER DELETE ON members REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION invites_end_with_their_right();
CREATE TRIGGER invites_end_with_a_rank AFTER UPDATE ON members
    REFERENCING OLD TABLE AS changed_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION invites_end_with_their_right();

ALTER TABLE invites
    -- When a mail was last put in the queue, and when one was sent to say that the end is near.
    ADD COLUMN enqueued_at timestamptz,
    ADD COLUMN reminded_at timestamptz;
CREATE INDEX invites_open_in_a_space ON invites (space_id) WHERE accepted_at IS NULL AND revoked_at IS NULL;

-- Whether a credential reaches this hub of its person. A session reaches them all, and so does a key that is
-- not for certain hubs: in two steps, so that the planner sees through the first for these.
CREATE FUNCTION is_listed(caller_session text, space uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM api_key_hubs WHERE key_session = caller_session AND space_id = is_listed.space)
$$;
CREATE FUNCTION reaches(caller_session text, space uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT caller_session IS NULL OR caller_session NOT LIKE 'hubs:%' OR is_listed(caller_session, space)
$$;

-- The hub of an id, or of a slug it has or had; whether there is such a hub is not looked at for an id.
CREATE FUNCTION hub_named(given text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN given ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN given::uuid
                ELSE (SELECT hub_slugs.space_id FROM hub_slugs
                       WHERE hub_slugs.slug = given AND coalesce(hub_slugs.reserved_until > now(), true)) END
$$;

-- The caller's place in a hub given by id or, where that is null, by a slug it has or had. One row for a live
-- account, all null but the caller where there is no such hub or the caller is not in it.
CREATE FUNCTION hub_seat(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_slug text)
RETURNS TABLE (user_id text, space_id uuid, role text, name text, owner_id text, is_personal boolean,
               slug text, member_count integer, visited_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, s.id, m.role, s.name, s.owner_id, s.is_personal, s.slug, s.member_count, m.visited_at
      FROM me(caller, caller_issuer, caller_session) AS asking
      -- The kind is asked of the membership, which has the same, so that no plan begins with all hubs.
      LEFT JOIN (members m JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL)
        ON m.user_id = asking.user_id AND m.kind = 'hub' AND m.status = 'active' AND reaches(caller_session, m.space_id)
       AND m.space_id = coalesce(wanted, (SELECT hub_slugs.space_id FROM hub_slugs
                                           WHERE hub_slugs.slug = wanted_slug
                                             AND coalesce(hub_slugs.reserved_until > now(), true)))
$$;

-- What waits in a hub for this person, and what has been going on in it lately.
CREATE FUNCTION hub_pulse(hub uuid, person text, rank text)
RETURNS TABLE (pending_review integer, dream_topics integer, team_activity integer) LANGUAGE sql STABLE AS $$
    SELECT 0, 0, 0
$$;

-- As hub_seat, with the hub locked first, so that the rank is the one that holds until the transaction ends.
-- Somebody who is not in the hub does not get to lock it.
CREATE FUNCTION lock_hub(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_slug text)
RETURNS TABLE (user_id text, space_id uuid, role text, name text, owner_id text, is_personal boolean,
               slug text, member_count integer, visited_at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    hub uuid := (SELECT seat.space_id FROM hub_seat(caller, caller_issuer, caller_session, wanted, wanted_slug) AS seat);
BEGIN
    PERFORM FROM spaces WHERE spaces.id = hub FOR NO KEY UPDATE;
    RETURN QUERY SELECT * FROM hub_seat(caller, caller_issuer, caller_session, hub, NULL);
END $$;

-- Count the team hubs on the free plan that the caller owns; the count holds until the transaction ends, since
-- whoever adds one takes the same lock.
CREATE FUNCTION lock_owned_hubs(caller text, caller_issuer text, caller_session text)
RETURNS TABLE (user_id text, owned integer)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('owned hubs of ' || caller, 0));
    RETURN QUERY
        SELECT asking.user_id, (SELECT count(*) FROM spaces WHERE spaces.owner_id = asking.user_id
                                   AND deleted_at IS NULL AND kind = 'hub' AND NOT is_personal
                                   AND plan = 'hub_free_team')::integer
          FROM me(caller, caller_issuer, caller_session) AS asking;
END $$;
