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

CREATE FUNCTION groups_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE spaces SET group_count = (SELECT count(*) FROM groups WHERE groups.space_id = spaces.id),
                      version = version + 1
     WHERE id IN (SELECT space_id FROM changed_rows);
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
BEGIN
    UPDATE groups
       SET member_count = (SELECT count(*) FROM group_members gm
                            WHERE gm.space_id = groups.space_id AND gm.group_id = groups.id)
     WHERE (groups.space_id, groups.id) IN (SELECT changed_rows.space_id, changed_rows.group_id FROM changed_rows);
    UPDATE spaces SET version = version + 1 WHERE id IN (SELECT space_id FROM changed_rows);
    RETURN NULL;
END $$;
CREATE TRIGGER group_members_are_counted_in AFTER INSERT ON group_members REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION group_members_are_counted();
CREATE TRIGGER group_members_are_counted_out AFTER DELETE ON group_members REFERENCING OLD TABLE AS changed_rows
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
CREATE INDEX posts_of_a_community ON posts (space_id, is_pinned DESC, created_at DESC, id DESC)
    WHERE group_id IS NULL;
CREATE INDEX posts_of_a_group ON posts (space_id, group_id, is_pinned DESC, created_at DESC, id DESC)
    WHERE group_id IS NOT NULL;
CREATE INDEX posts_by_author ON posts (author_id);

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
