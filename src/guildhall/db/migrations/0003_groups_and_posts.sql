-- depends: 0002_spaces
-- Groups are parts of a community with members of their own; posts belong to the community or to one group.

CREATE TABLE groups (
    id           uuid NOT NULL UNIQUE,
    space_id     uuid NOT NULL,
    kind         text NOT NULL DEFAULT 'community' CHECK (kind = 'community'),
    name         text NOT NULL,
    description  text,
    is_private   boolean NOT NULL DEFAULT false,
    -- Not a reference: the group outlives its maker's membership.
    created_by   text NOT NULL,
    member_count integer NOT NULL DEFAULT 0 CHECK (member_count >= 0),
    post_count   integer NOT NULL DEFAULT 0 CHECK (post_count >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, kind) REFERENCES spaces (id, kind) ON DELETE CASCADE
);
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id ON groups FOR EACH ROW
    WHEN (OLD.space_id <> NEW.space_id) EXECUTE FUNCTION refuse_change();

CREATE TABLE group_members (
    space_id  uuid NOT NULL,
    group_id  uuid NOT NULL,
    user_id   text NOT NULL,
    role      text NOT NULL CHECK (role IN ('admin', 'member')),
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (space_id, group_id, user_id),
    FOREIGN KEY (space_id, group_id) REFERENCES groups (space_id, id) ON DELETE CASCADE,
    FOREIGN KEY (space_id, user_id) REFERENCES members (space_id, user_id) ON DELETE CASCADE
);
CREATE INDEX group_members_by_member ON group_members (space_id, user_id);
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id, group_id, user_id ON group_members FOR EACH ROW
    WHEN ((OLD.space_id, OLD.group_id, OLD.user_id) IS DISTINCT FROM (NEW.space_id, NEW.group_id, NEW.user_id))
    EXECUTE FUNCTION refuse_change();

-- Counters are moved by what changed: a count made anew would miss rows of whoever counts at the same time.
CREATE FUNCTION groups_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    step integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    UPDATE spaces SET group_count = group_count + step * changed.n, version = version + 1
      FROM (SELECT space_id, count(*) AS n FROM changed_rows GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    RETURN NULL;
END $$;
CREATE TRIGGER groups_are_counted_in AFTER INSERT ON groups REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION groups_are_counted();
CREATE TRIGGER groups_are_counted_out AFTER DELETE ON groups REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION groups_are_counted();
-- Only what people see in a list of groups; the counters change with their own rows.
CREATE FUNCTION group_changes_the_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET version = version + 1 WHERE id = NEW.space_id;
    RETURN NULL;
END $$;
CREATE TRIGGER group_changes_the_version AFTER UPDATE OF name, description, is_private ON groups
    FOR EACH ROW EXECUTE FUNCTION group_changes_the_version();

CREATE FUNCTION group_members_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    step integer := CASE TG_OP WHEN 'INSERT' THEN 1 WHEN 'DELETE' THEN -1 ELSE 0 END;
BEGIN
    IF step <> 0 THEN
        UPDATE groups SET member_count = member_count + step * changed.n
          FROM (SELECT space_id, group_id, count(*) AS n FROM changed_rows GROUP BY space_id, group_id) AS changed
         WHERE (groups.space_id, groups.id) = (changed.space_id, changed.group_id);
    END IF;
    UPDATE spaces SET version = version + 1 WHERE id IN (SELECT space_id FROM changed_rows);
    RETURN NULL;
END $$;
CREATE TRIGGER group_members_are_counted_in AFTER INSERT ON group_members REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION group_members_are_counted();
CREATE TRIGGER group_members_are_counted_out AFTER DELETE ON group_members REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION group_members_are_counted();
CREATE TRIGGER group_members_change_the_version AFTER UPDATE ON group_members REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION group_members_are_counted();

CREATE TABLE posts (
    id          uuid NOT NULL UNIQUE,
    space_id    uuid NOT NULL,
    group_id    uuid,
    kind        text NOT NULL DEFAULT 'community' CHECK (kind = 'community'),
    author_id   text NOT NULL REFERENCES users,
    title       text,
    content     text NOT NULL,
    attachments text[] NOT NULL DEFAULT '{}' CHECK (cardinality(attachments) <= 10),
    is_pinned   boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    edited_at   timestamptz,
    PRIMARY KEY (space_id, id),
    FOREIGN KEY (space_id, kind) REFERENCES spaces (id, kind) ON DELETE CASCADE,
    FOREIGN KEY (space_id, group_id) REFERENCES groups (space_id, id) ON DELETE CASCADE
);
CREATE TRIGGER rows_stay BEFORE UPDATE OF space_id, group_id ON posts FOR EACH ROW
    WHEN ((OLD.space_id, OLD.group_id) IS DISTINCT FROM (NEW.space_id, NEW.group_id))
    EXECUTE FUNCTION refuse_change();
CREATE INDEX posts_of_a_community ON posts (space_id, is_pinned DESC, created_at DESC, id DESC)
    WHERE group_id IS NULL;
CREATE INDEX posts_of_a_group ON posts (space_id, group_id, is_pinned DESC, created_at DESC, id DESC)
    WHERE group_id IS NOT NULL;
CREATE INDEX posts_by_author ON posts (author_id, space_id);
CREATE INDEX posts_by_attachment ON posts USING gin (attachments) WHERE cardinality(attachments) > 0;

CREATE FUNCTION posts_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    step integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    UPDATE spaces
       SET post_count = post_count + step * changed.of_the_space,
           version = version + 1,
           last_active_at = CASE TG_OP WHEN 'INSERT' THEN greatest(last_active_at, now()) ELSE last_active_at END
      FROM (SELECT space_id, count(*) FILTER (WHERE group_id IS NULL) AS of_the_space
              FROM changed_rows GROUP BY space_id) AS changed
     WHERE spaces.id = changed.space_id;
    UPDATE groups SET post_count = post_count + step * changed.n
      FROM (SELECT space_id, group_id, count(*) AS n FROM changed_rows
             WHERE group_id IS NOT NULL GROUP BY space_id, group_id) AS changed
     WHERE (groups.space_id, groups.id) = (changed.space_id, changed.group_id);
    RETURN NULL;
END $$;
CREATE TRIGGER posts_are_counted_in AFTER INSERT ON posts REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION posts_are_counted();
CREATE TRIGGER posts_are_counted_out AFTER DELETE ON posts REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION posts_are_counted();
CREATE FUNCTION post_changes_the_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET version = version + 1 WHERE id = NEW.space_id;
    RETURN NULL;
END $$;
CREATE TRIGGER post_changes_the_version AFTER UPDATE ON posts
    FOR EACH ROW EXECUTE FUNCTION post_changes_the_version();

-- The caller's place in one feed: the community's own, or that of `wanted_group`. One row for a live account;
-- `sees` says whether the feed is theirs to read, `group_role` whether they belong to the group.
-- Plain SQL, as the two below, so that the planner sees through it.
CREATE FUNCTION feed_seat(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_group uuid)
RETURNS TABLE (user_id text, space_id uuid, is_private boolean, role text, version bigint, post_count integer,
               group_role text, sees boolean)
LANGUAGE sql STABLE AS $$
    SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.version,
           CASE WHEN wanted_group IS NULL THEN seat.post_count ELSE g.post_count END,
           gm.role,
           seat.role IS NOT NULL AND (wanted_group IS NULL OR (
               g.id IS NOT NULL AND (NOT g.is_private OR gm.role IS NOT NULL OR seat.role IN ('owner', 'admin'))))
      FROM community_seat(caller, caller_issuer, caller_session, wanted, NULL) AS seat
      LEFT JOIN groups g ON g.space_id = seat.space_id AND g.id = wanted_group
      LEFT JOIN group_members gm
        ON gm.space_id = g.space_id AND gm.group_id = g.id AND gm.user_id = seat.user_id
$$;

-- The caller's place in a group. One row for a live account; `sees` is false for a group that is missing,
-- private, or of a community the caller is no member of.
CREATE FUNCTION group_seat(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, role text, group_id uuid, is_private boolean, group_role text,
               version bigint, sees boolean)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, s.id, m.role, g.id, g.is_private, gm.role, s.version,
           m.role IS NOT NULL AND (NOT g.is_private OR gm.role IS NOT NULL OR m.role IN ('owner', 'admin'))
      FROM me(caller, caller_issuer, caller_session) AS asking
      LEFT JOIN (groups g JOIN spaces s ON s.id = g.space_id AND s.deleted_at IS NULL) ON g.id = wanted
      LEFT JOIN members m ON m.space_id = s.id AND m.user_id = asking.user_id AND m.status = 'active'
      LEFT JOIN group_members gm
        ON gm.space_id = g.space_id AND gm.group_id = g.id AND gm.user_id = m.user_id
$$;

-- The caller's place before a post. One row for a live account; `sees` is false for a post that is missing
-- or in a feed that is not theirs to read.
CREATE FUNCTION post_seat(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, role text, group_id uuid, group_role text, post_id uuid,
               author_id text, sees boolean)
LANGUAGE sql STABLE AS $$
    SELECT asking.user_id, s.id, m.role, p.group_id, gm.role, p.id, p.author_id,
           m.role IS NOT NULL AND (
               p.group_id IS NULL OR NOT g.is_private OR gm.role IS NOT NULL OR m.role IN ('owner', 'admin'))
      FROM me(caller, caller_issuer, caller_session) AS asking
      LEFT JOIN (posts p JOIN spaces s ON s.id = p.space_id AND s.deleted_at IS NULL) ON p.id = wanted
      LEFT JOIN members m ON m.space_id = s.id AND m.user_id = asking.user_id AND m.status = 'active'
      LEFT JOIN groups g ON g.space_id = p.space_id AND g.id = p.group_id
      LEFT JOIN group_members gm
        ON gm.space_id = g.space_id AND gm.group_id = g.id AND gm.user_id = m.user_id
$$;

-- The same three for whoever is about to write: they lock the space, and only then look. Who sees nothing
-- there does not get to lock it, as in lock_space(). `moment` is a time after the lock was had, so that what is
-- written later in a space also has a later time.
CREATE FUNCTION lock_feed(
    caller text, caller_issuer text, caller_session text, wanted uuid, wanted_group uuid)
RETURNS TABLE (user_id text, space_id uuid, is_private boolean, role text, group_role text, sees boolean,
               moment timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.group_role, seat.sees, clock_timestamp()
      INTO user_id, space_id, is_private, role, group_role, sees, moment
      FROM feed_seat(caller, caller_issuer, caller_session, wanted, wanted_group) AS seat;
    IF sees THEN
        PERFORM FROM spaces WHERE spaces.id = wanted FOR NO KEY UPDATE;
        RETURN QUERY
            SELECT seat.user_id, seat.space_id, seat.is_private, seat.role, seat.group_role, seat.sees,
                   clock_timestamp()
              FROM feed_seat(caller, caller_issuer, caller_session, wanted, wanted_group) AS seat;
    ELSIF user_id IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END $$;

CREATE FUNCTION lock_group(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, role text, group_id uuid, is_private boolean, group_role text,
               version bigint, sees boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT seat.* INTO user_id, space_id, role, group_id, is_private, group_role, version, sees
      FROM group_seat(caller, caller_issuer, caller_session, wanted) AS seat;
    IF sees THEN
        PERFORM FROM spaces WHERE spaces.id = space_id FOR NO KEY UPDATE;
        RETURN QUERY SELECT * FROM group_seat(caller, caller_issuer, caller_session, wanted);
    ELSIF user_id IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END $$;

CREATE FUNCTION lock_post(caller text, caller_issuer text, caller_session text, wanted uuid)
RETURNS TABLE (user_id text, space_id uuid, role text, group_id uuid, group_role text, post_id uuid,
               author_id text, sees boolean)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT seat.* INTO user_id, space_id, role, group_id, group_role, post_id, author_id, sees
      FROM post_seat(caller, caller_issuer, caller_session, wanted) AS seat;
    IF sees THEN
        PERFORM FROM spaces WHERE spaces.id = space_id FOR NO KEY UPDATE;
        RETURN QUERY SELECT * FROM post_seat(caller, caller_issuer, caller_session, wanted);
    ELSIF user_id IS NOT NULL THEN
        RETURN NEXT;
    END IF;
END $$;
