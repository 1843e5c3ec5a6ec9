-- depends: 0001_users
-- A space is anything that has members: a community or a hub.

CREATE TABLE spaces (
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('community', 'hub')),
    owner_id        text NOT NULL REFERENCES users,
    owner_role      text NOT NULL GENERATED ALWAYS AS ('owner') STORED,
    name            text NOT NULL,
    slug            text NOT NULL,
    description     text,
    is_private      boolean NOT NULL DEFAULT false,
    logo_url        text,
    cover_image_url text,
    member_count    integer NOT NULL DEFAULT 0 CHECK (member_count >= 0),
    -- Posts of the space itself; those of groups are counted there.
    post_count      integer NOT NULL DEFAULT 0 CHECK (post_count >= 0),
    group_count     integer NOT NULL DEFAULT 0 CHECK (group_count >= 0),
    -- Grows with every change that any list of the space may show.
    version         bigint NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    last_active_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    deleted_by      text,
    PRIMARY KEY (id),
    UNIQUE (id, kind)
);
CREATE UNIQUE INDEX spaces_by_slug ON spaces (kind, slug) WHERE deleted_at IS NULL;
CREATE INDEX spaces_by_owner ON spaces (owner_id);

CREATE TABLE members (
    space_id   uuid NOT NULL,
    user_id    text NOT NULL REFERENCES users,
    kind       text NOT NULL,
    role       text NOT NULL,
    rank       smallint NOT NULL GENERATED ALWAYS AS (
                   CASE role WHEN 'owner' THEN 1 WHEN 'admin' THEN 2
                             WHEN 'moderator' THEN 3 WHEN 'contributor' THEN 3 ELSE 4 END) STORED,
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    -- The person's name as lists sort by it, kept by triggers.
    sort_name  text COLLATE "C" NOT NULL DEFAULT '',
    joined_at  timestamptz NOT NULL DEFAULT now(),
    visited_at timestamptz,
    PRIMARY KEY (space_id, user_id),
    UNIQUE (space_id, user_id, role),
    FOREIGN KEY (space_id, kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    CONSTRAINT members_role_fits_the_space CHECK (
        (kind = 'community' AND role IN ('owner', 'admin', 'moderator', 'member'))
        OR (kind = 'hub' AND role IN ('owner', 'admin', 'contributor', 'viewer'))),
    CONSTRAINT an_owner_is_active CHECK (role <> 'owner' OR status = 'active')
);
CREATE INDEX members_by_user ON members (user_id, space_id);
CREATE INDEX members_by_rank_and_name ON members (space_id, rank, sort_name, user_id);

-- No space without an owner: "none" and "a stranger" cannot be stored. A hub has exactly one.
ALTER TABLE spaces ADD CONSTRAINT spaces_owner_is_an_owner
    FOREIGN KEY (id, owner_id, owner_role) REFERENCES members (space_id, user_id, role)
    DEFERRABLE INITIALLY DEFERRED;
CREATE UNIQUE INDEX a_hub_has_one_owner ON members (space_id) WHERE kind = 'hub' AND role = 'owner';

-- What hangs from a membership, and the counters, rely on its staying where it is and whose it is.
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id, user_id ON members FOR EACH ROW
    WHEN ((OLD.space_id, OLD.user_id) IS DISTINCT FROM (NEW.space_id, NEW.user_id))
    EXECUTE FUNCTION refuse_change();

CREATE FUNCTION member_gets_sort_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT left(lower(display_name), 80) INTO NEW.sort_name FROM users WHERE id = NEW.user_id;
    NEW.sort_name := coalesce(NEW.sort_name, '');
    RETURN NEW;
END $$;
CREATE TRIGGER members_refuse_the_erased BEFORE INSERT ON members
    FOR EACH ROW EXECUTE FUNCTION refuse_the_erased();
CREATE TRIGGER member_gets_sort_name BEFORE INSERT ON members
    FOR EACH ROW EXECUTE FUNCTION member_gets_sort_name();

-- A person's name, picture or bio shows in the lists of each of their spaces, and wherever they wrote, also
-- after they left. Spaces are locked in the order of their ids, as everywhere, so that two such changes cannot
-- wait for each other.
CREATE FUNCTION profile_shows_in_spaces() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    shown uuid[] := ARRAY(SELECT space_id FROM members WHERE user_id = NEW.id
                          UNION SELECT space_id FROM posts WHERE author_id = NEW.id);
BEGIN
    PERFORM FROM spaces WHERE id = ANY (shown) ORDER BY id FOR NO KEY UPDATE;
    UPDATE spaces SET version = version + 1 WHERE id = ANY (shown);
    UPDATE members SET sort_name = left(lower(NEW.display_name), 80) WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER profile_shows_in_spaces AFTER UPDATE ON users FOR EACH ROW
    WHEN (OLD.display_name IS DISTINCT FROM NEW.display_name OR OLD.avatar_url IS DISTINCT FROM NEW.avatar_url
          OR OLD.bio IS DISTINCT FROM NEW.bio OR OLD.status IS DISTINCT FROM NEW.status)
    EXECUTE FUNCTION profile_shows_in_spaces();

CREATE FUNCTION members_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE spaces SET member_count = member_count + changed.n, version = version + 1
          FROM (SELECT space_id, count(*) AS n FROM changed_rows GROUP BY space_id) AS changed
         WHERE spaces.id = changed.space_id;
    ELSIF TG_OP = 'DELETE' THEN
        UPDATE spaces SET member_count = member_count - changed.n, version = version + 1
          FROM (SELECT space_id, count(*) AS n FROM changed_rows GROUP BY space_id) AS changed
         WHERE spaces.id = changed.space_id;
    ELSE
        UPDATE spaces SET version = version + 1
         WHERE id IN (SELECT new_rows.space_id FROM changed_rows JOIN new_rows USING (space_id, user_id)
                       WHERE changed_rows.role <> new_rows.role OR changed_rows.status <> new_rows.status);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER members_are_counted_in AFTER INSERT ON members REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION members_are_counted();
CREATE TRIGGER members_are_counted_out AFTER DELETE ON members REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION members_are_counted();
CREATE TRIGGER members_change_the_version AFTER UPDATE ON members
    REFERENCING OLD TABLE AS changed_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION members_are_counted();

CREATE TABLE invites (
    id              uuid NOT NULL UNIQUE,
    space_id        uuid NOT NULL,
    kind            text NOT NULL,
    role            text NOT NULL,
    email           text,
    email_key       text GENERATED ALWAYS AS (lower(email COLLATE "C")) STORED,
    invitee_user_id text REFERENCES users,
    token_hash      bytea NOT NULL UNIQUE,
    invited_by      text NOT NULL REFERENCES users,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL DEFAULT now() + interval '7 days',
    accepted_at     timestamptz,
    accepted_by     text REFERENCES users,
    revoked_at      timestamptz,
    revoked_by      text REFERENCES users,
    -- When a mail was handed over for delivery last and which attempt that was, and how often it was asked for.
    sent_at         timestamptz,
    sent_attempt    smallint,
    resent_at       timestamptz,
    resends         smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    CONSTRAINT invites_role_fits_the_space CHECK (
        (kind = 'community' AND role IN ('admin', 'moderator', 'member'))
        OR (kind = 'hub' AND role IN ('admin', 'contributor', 'viewer'))),
    -- A dead invite may lose its address, when the person behind it is erased.
    CONSTRAINT an_open_community_invite_has_an_address CHECK (
        kind <> 'community' OR email IS NOT NULL OR accepted_at IS NOT NULL OR revoked_at IS NOT NULL),
    CONSTRAINT accepted_or_revoked CHECK (accepted_at IS NULL OR revoked_at IS NULL),
    CONSTRAINT accepted_by_somebody CHECK ((accepted_at IS NULL) = (accepted_by IS NULL))
);
CREATE UNIQUE INDEX one_open_community_invite_per_address ON invites (space_id, email_key)
    WHERE kind = 'community' AND accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invites_by_address ON invites (email_key) WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invites_by_inviter ON invites (invited_by);

-- An invite means one thing for as long as it exists, and ends once: accepted in time, or revoked.
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id, role, token_hash ON invites FOR EACH ROW
    WHEN ((OLD.space_id, OLD.role, OLD.token_hash) IS DISTINCT FROM (NEW.space_id, NEW.role, NEW.token_hash))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invites_end_once BEFORE UPDATE OF accepted_at, accepted_by, revoked_at ON invites FOR EACH ROW
    WHEN ((OLD.accepted_at IS NOT NULL
           AND (OLD.accepted_at, OLD.accepted_by) IS DISTINCT FROM (NEW.accepted_at, NEW.accepted_by))
          OR (OLD.revoked_at IS NOT NULL AND OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
          OR (OLD.accepted_at IS NULL AND NEW.accepted_at IS NOT NULL
              AND OLD.expires_at <= statement_timestamp()))
    EXECUTE FUNCTION refuse_change();

-- What an invite is worth now. It dies with its space and with its inviter's right to make one like it.
CREATE FUNCTION invite_status(invite invites) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN invite.accepted_at IS NOT NULL THEN 'accepted'
        WHEN invite.revoked_at IS NOT NULL THEN 'revoked'
        WHEN invite.expires_at <= now() THEN 'expired'
        WHEN NOT EXISTS (
            SELECT FROM members JOIN spaces ON spaces.id = members.space_id
                                JOIN users ON users.id = members.user_id AND users.status = 'active'
             WHERE members.space_id = invite.space_id AND members.user_id = invite.invited_by
               AND members.status = 'active' AND members.role IN ('owner', 'admin')
               AND spaces.deleted_at IS NULL) THEN 'revoked'
        ELSE 'open'
    END
$$;

-- Both people of a transfer are members; when either leaves, the transfer goes too.
CREATE TABLE transfers (
    id             uuid NOT NULL UNIQUE,
    space_id       uuid NOT NULL,
    initiated_by   text NOT NULL,
    target_user_id text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL DEFAULT now() + interval '7 days',
    accepted_at    timestamptz,
    cancelled_at   timestamptz,
    cancelled_by   text,
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, initiated_by) REFERENCES members (space_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (space_id, target_user_id) REFERENCES members (space_id, user_id) ON DELETE CASCADE,
    CONSTRAINT not_to_oneself CHECK (initiated_by <> target_user_id),
    CONSTRAINT accepted_or_cancelled CHECK (accepted_at IS NULL OR cancelled_at IS NULL)
);
CREATE UNIQUE INDEX one_open_transfer_per_space ON transfers (space_id)
    WHERE accepted_at IS NULL AND cancelled_at IS NULL;
CREATE TRIGGER transfers_end_once BEFORE UPDATE ON transfers FOR EACH ROW
    WHEN ((OLD.accepted_at, OLD.cancelled_at) IS DISTINCT FROM (NEW.accepted_at, NEW.cancelled_at)
          AND num_nonnulls(OLD.accepted_at, OLD.cancelled_at) > 0)
    EXECUTE FUNCTION refuse_change();

-- The hubs that a limited key is for, in the order they were named. A hub is on the list as long as the person
-- is in it, so leaving it and coming back gives no key back its right.
CREATE TABLE api_key_hubs (
    key_session text NOT NULL,
    space_id    uuid NOT NULL,
    user_id     text NOT NULL,
    position    smallint NOT NULL,
    PRIMARY KEY (key_session, space_id),
    FOREIGN KEY (key_session, user_id) REFERENCES api_keys (session, user_id) ON DELETE CASCADE,
    FOREIGN KEY (space_id, user_id) REFERENCES members (space_id, user_id) ON DELETE CASCADE
);
CREATE INDEX api_key_hubs_by_member ON api_key_hubs (space_id, user_id);

-- A key whose last hub is gone opens nothing, and is over.
CREATE FUNCTION keys_end_with_their_hubs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_keys SET revoked_at = now()
     WHERE session IN (SELECT key_session FROM gone_rows) AND revoked_at IS NULL
       AND NOT EXISTS (SELECT FROM api_key_hubs WHERE key_session = api_keys.session);
    RETURN NULL;
END $$;
CREATE TRIGGER keys_end_with_their_hubs AFTER DELETE ON api_key_hubs REFERENCING OLD TABLE AS gone_rows
    FOR EACH STATEMENT EXECUTE FUNCTION keys_end_with_their_hubs();

-- What was done with power, by whom, to whom: committed with the change, without names or addresses.
CREATE TABLE audit (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT now(),
    action     text NOT NULL,
    actor      text,
    -- Who acted in the actor's name: the agent or the key, or somebody whom the identity provider let in.
    acting_as  text,
    key_id     uuid,
    space_id   uuid,
    target     text,
    before     jsonb,
    after      jsonb,
    request_id text
);
CREATE INDEX audit_of_a_space ON audit (space_id, at);
CREATE INDEX audit_by_age ON audit (at);
CREATE INDEX audit_of_a_key ON audit (key_id) WHERE key_id IS NOT NULL;

-- Beside the person whose key it is stands the agent that acted, by the name it has now.
CREATE FUNCTION note_audit(
    action text, actor text, acting_as text, acting_key uuid, space_id uuid, target text, before jsonb, after jsonb,
    request_id text)
RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO audit (action, actor, acting_as, key_id, space_id, target, before, after, request_id)
    SELECT $1, $2, coalesce($3, 'agent ' || k.agent_name, 'key ' || k.prefix), k.id, $5, $6, $7, $8, $9
      FROM (SELECT) AS one LEFT JOIN api_keys k ON k.id = $4
$$;

-- The caller's place in a community given by id or, where that is null, by slug. One row for a live account:
-- `space_id` is null when there is no such community, `role` when the caller is no member of it.
-- Plain SQL, so that the planner sees through it.
CREATE FUNCTION community_seat(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_slug text)
RETURNS TABLE (user_id text, space_id uuid, name text, is_private boolean, owner_id text, role text,
               version bigint, member_count integer, post_count integer, visited_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, s.id, s.name, s.is_private, s.owner_id, m.role,
           s.version, s.member_count, s.post_count, coalesce(m.visited_at, m.joined_at)
      FROM me(caller, caller_issuer, caller_session) AS asking
      LEFT JOIN spaces s
        ON s.id = coalesce(wanted, (SELECT id FROM spaces WHERE kind = 'community' AND slug = wanted_slug
                                       AND deleted_at IS NULL))
       AND s.kind = 'community' AND s.deleted_at IS NULL
      LEFT JOIN members m ON m.space_id = s.id AND m.user_id = asking.user_id AND m.status = 'active'
$$;

-- The caller's place in a space. One row for a live account, all null but the caller where there is none.
CREATE FUNCTION space_seat(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, kind text, name text, is_private boolean, owner_id text, role text)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, s.id, s.kind, s.name, s.is_private, s.owner_id, m.role
      FROM me(caller, caller_issuer, caller_session) AS asking
      LEFT JOIN spaces s ON s.id = wanted AND s.deleted_at IS NULL
      LEFT JOIN members m ON m.space_id = s.id AND m.user_id = asking.user_id AND m.status = 'active'
$$;

-- Lock a space, then look at the caller's rank in it: in that order, so that the rank is the one that holds
-- until the transaction ends. A function, because each of its statements sees what committed before the lock.
-- Who may not know of the space does not get to lock it: to wait for it would tell that it is there.
CREATE FUNCTION lock_space(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, kind text, name text, is_private boolean, owner_id text, role text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT seat.* INTO user_id, space_id, kind, name, is_private, owner_id, role
      FROM space_seat(caller, caller_issuer, caller_session, wanted) AS seat;
    IF role IS NOT NULL OR (kind = 'community' AND NOT is_private) THEN
        PERFORM FROM spaces WHERE spaces.id = wanted FOR NO KEY UPDATE;
        RETURN QUERY SELECT * FROM space_seat(caller, caller_issuer, caller_session, wanted);
    ELSIF user_id IS NOT NULL THEN
        -- What was seen without the lock: they may be somebody there by now.
        RETURN NEXT;
    END IF;
END $$;

-- Lock the space that an invite opens, then look at the invite and at who holds it. One row for a live account,
-- its invite null where there is none of this id.
CREATE FUNCTION open_invite(
    caller text, caller_issuer text, caller_session text, wanted_id uuid, wanted_kind text)
RETURNS TABLE (user_id text, space_id uuid, held_role text, id uuid, role text, status text, expired boolean,
               for_the_caller boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    wanted uuid := (SELECT i.space_id FROM invites i WHERE i.id = wanted_id AND i.kind = wanted_kind);
    seat   record;
BEGIN
    PERFORM FROM spaces WHERE spaces.id = wanted FOR NO KEY UPDATE;
    SELECT * INTO seat FROM space_seat(caller, caller_issuer, caller_session, wanted);
    RETURN QUERY
        SELECT u.id, wanted, seat.role, i.id, i.role, invite_status(i), i.expires_at <= now(),
               (i.invitee_user_id IS NULL OR i.invitee_user_id = u.id)
               AND (i.email_key IS NULL OR coalesce(u.email_verified AND u.email_key = i.email_key, false))
          FROM users u LEFT JOIN invites i ON i.id = wanted_id AND i.space_id = wanted
         WHERE u.id = seat.user_id;
END $$;
