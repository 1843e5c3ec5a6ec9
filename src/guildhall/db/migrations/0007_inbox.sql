-- depends: 0006_hubs
-- What people are told: decisions that wait for them, and receipts of what happened.

-- Each to one person. Who and which space it is about is read when it is shown. Only what is not for members alone
-- keeps the name its space had then: whoever is not in it learns no other.
CREATE TABLE notifications (
    id                uuid PRIMARY KEY,
    space_id          uuid REFERENCES spaces ON DELETE CASCADE,
    recipient_user_id text NOT NULL REFERENCES users ON DELETE CASCADE,
    -- The recipient again where only a member may know of it: it goes with the membership.
    member_user_id    text,
    kind              text NOT NULL,
    -- "action" waits for a decision, "update" only wants to be seen.
    bucket            text NOT NULL CHECK (bucket IN ('action', 'update')),
    status            text NOT NULL DEFAULT 'pending'
                      CHECK (status IN ('pending', 'resolved', 'dismissed', 'expired')),
    resolution        text,
    priority          smallint NOT NULL DEFAULT 0,
    -- What it came of; telling of the same again updates the row.
    source_kind       text NOT NULL,
    source_id         text NOT NULL,
    -- The other person it is about.
    person_id         text REFERENCES users,
    payload           jsonb NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz,
    resolved_at       timestamptz,
    seen_at           timestamptz,
    UNIQUE (source_kind, source_id),
    FOREIGN KEY (space_id, member_user_id) REFERENCES members (space_id, user_id) ON DELETE CASCADE,
    CONSTRAINT bound_to_the_recipient CHECK (member_user_id IS NULL OR member_user_id = recipient_user_id),
    CONSTRAINT resolved_somehow CHECK (status <> 'resolved' OR resolution IS NOT NULL)
);
CREATE INDEX notifications_of_a_person ON notifications (recipient_user_id, status, created_at DESC, id DESC);
CREATE INDEX notifications_of_a_space
    ON notifications (space_id, recipient_user_id, status, created_at DESC, id DESC);
CREATE INDEX notifications_of_a_member ON notifications (space_id, member_user_id)
    WHERE member_user_id IS NOT NULL;
-- What waits for a decision: of a person in a space, and all that stands and falls with an invite or an offer.
CREATE INDEX notifications_to_decide ON notifications (space_id, recipient_user_id)
    WHERE bucket = 'action' AND status = 'pending';
CREATE INDEX notifications_of_offers ON notifications (space_id)
    WHERE status = 'pending' AND kind IN ('hub_invite', 'community_invite', 'hub_ownership_transfer',
                                          'community_ownership_transfer');
CREATE INDEX notifications_to_expire ON notifications (expires_at) WHERE status = 'pending';

-- A row of the inbox that came or changed, as its events tell of it.
CREATE FUNCTION as_change(n notifications, what text)
RETURNS TABLE (what text, id uuid, space_id uuid, space_kind text, recipient_user_id text, kind text,
               source_kind text, source_id text, resolution text, seen_at text)
LANGUAGE sql STABLE AS $$
    SELECT what, n.id, n.space_id, (SELECT s.kind FROM spaces s WHERE s.id = n.space_id), n.recipient_user_id,
           n.kind, n.source_kind, n.source_id, n.resolution, rfc3339(n.seen_at)
$$;

-- All that the caller may know of now, as it is for them: what is for members only while they are one, what is
-- out of time as expired. `stored_status` is what indexes know, which is "pending" for what is out of time.
-- Who is asking is asked once, beside the rows, so that these can be read in the order of an index.
CREATE FUNCTION inbox(caller text, caller_issuer text, caller_session text)
RETURNS TABLE (id uuid, space_id uuid, space_kind text, recipient_user_id text, kind text, bucket text,
               stored_status text, status text, resolution text, priority smallint, source_kind text,
               source_id text, person_id text, payload jsonb, created_at timestamptz, expires_at timestamptz,
               resolved_at timestamptz, seen_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT n.id, n.space_id, s.kind, n.recipient_user_id, n.kind, n.bucket, n.status,
           CASE WHEN n.status = 'pending' AND n.expires_at <= now() THEN 'expired' ELSE n.status END,
           n.resolution, n.priority, n.source_kind, n.source_id, n.person_id, n.payload, n.created_at,
           n.expires_at, n.resolved_at, n.seen_at
      FROM notifications n LEFT JOIN spaces s ON s.id = n.space_id
     WHERE n.recipient_user_id = caller AND EXISTS (SELECT FROM me(caller, caller_issuer, caller_session))
       AND reaches(caller_session, n.space_id) AND s.deleted_at IS NULL
       AND (n.kind NOT IN ('hub_ownership_transfer', 'community_ownership_transfer')
            OR EXISTS (SELECT FROM members m WHERE m.space_id = n.space_id AND m.user_id = caller
                          AND m.status = 'active'))
$$;

-- Close what waited for a decision and has one, tell what is new, and answer which rows of the inbox came or
-- changed, in that order. `closings` and `notices` are lists of what they are called in Python; in the spaces of
-- `stale` that is closed as well which lost its ground: invites and transfers that ended with somebody's right.
-- One after another, each by key: a join with a list of unknown length makes the planner read whole tables.
CREATE FUNCTION settle_notices(closings jsonb, notices jsonb, stale uuid[])
RETURNS TABLE (what text, id uuid, space_id uuid, space_kind text, recipient_user_id text, kind text,
               source_kind text, source_id text, resolution text, seen_at text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    closing   record;
    notice    record;
    recipient text;
BEGIN
    IF cardinality(stale) > 0 THEN
        closings := closings || (
            SELECT coalesce(jsonb_agg(jsonb_build_object('source_kind', n.source_kind, 'source_id', n.source_id,
                                                         'resolution', 'dismissed')), '[]')
              FROM notifications n
             WHERE n.space_id = ANY (stale) AND n.status = 'pending'
               AND n.kind IN ('hub_invite', 'community_invite', 'hub_ownership_transfer',
                              'community_ownership_transfer')
               AND CASE WHEN n.kind IN ('hub_invite', 'community_invite')
                        THEN NOT EXISTS (SELECT FROM invites i WHERE i.id = n.source_id::uuid
                                            AND i.accepted_at IS NULL AND i.revoked_at IS NULL)
                        WHEN n.kind IN ('hub_ownership_transfer', 'community_ownership_transfer')
                        THEN NOT EXISTS (SELECT FROM transfers t WHERE t.id = n.source_id::uuid
                                            AND t.accepted_at IS NULL AND t.cancelled_at IS NULL)
                   END);
    END IF;
    FOR closing IN
        SELECT * FROM jsonb_to_recordset(closings) AS c (source_kind text, source_id text, resolution text)
    LOOP
        RETURN QUERY
        WITH closed AS (
            UPDATE notifications n
               SET status = 'resolved', resolution = closing.resolution, resolved_at = now()
             WHERE n.source_kind = closing.source_kind AND n.source_id = closing.source_id
               AND n.status = 'pending'
            RETURNING n AS row)
        SELECT c.* FROM closed CROSS JOIN LATERAL as_change(closed.row, 'resolved') AS c;
    END LOOP;
    FOR notice IN
        SELECT * FROM jsonb_to_recordset(notices) AS w (
               id uuid, kind text, bucket text, source_kind text, source_id text, space uuid, to_whom text,
               "user" text, but text, invite uuid, bound boolean, person text, priority smallint, payload jsonb,
               expires_at timestamptz, days integer)
    LOOP
        recipient := CASE notice.to_whom
            WHEN 'owner' THEN (SELECT s.owner_id FROM spaces s WHERE s.id = notice.space)
            WHEN 'inviter' THEN (SELECT i.invited_by FROM invites i WHERE i.id = notice.invite)
            WHEN 'invitee' THEN (
                SELECT coalesce(i.invitee_user_id,
                                (SELECT u.id FROM users u
                                  WHERE u.email_verified AND u.email_key = i.email_key AND u.status = 'active'
                                  ORDER BY u.created_at, u.id LIMIT 1))
                  FROM invites i WHERE i.id = notice.invite)
            ELSE notice."user" END;
        CONTINUE WHEN recipient IS NULL OR recipient IS NOT DISTINCT FROM notice.but
            OR notice.bound AND NOT EXISTS (
                SELECT FROM members m WHERE m.space_id = notice.space AND m.user_id = recipient);
        RETURN QUERY
        WITH told AS (
            INSERT INTO notifications AS n
                   (id, space_id, recipient_user_id, member_user_id, kind, bucket, priority,
                    source_kind, source_id, person_id, payload, expires_at)
            VALUES (notice.id, notice.space, recipient, CASE WHEN notice.bound THEN recipient END,
                    notice.kind, notice.bucket, notice.priority, notice.source_kind, notice.source_id,
                    notice.person,
                    CASE WHEN notice.bound THEN notice.payload
                         ELSE notice.payload || jsonb_build_object('space_name', (
                             SELECT s.name FROM spaces s WHERE s.id = notice.space)) END,
                    coalesce(notice.expires_at, now() + notice.days * interval '1 day'))
            ON CONFLICT (source_kind, source_id) DO UPDATE
               SET recipient_user_id = excluded.recipient_user_id, member_user_id = excluded.member_user_id,
                   kind = excluded.kind, bucket = excluded.bucket, status = 'pending', resolution = NULL,
                   priority = excluded.priority, person_id = excluded.person_id, payload = excluded.payload,
                   created_at = now(), expires_at = excluded.expires_at, resolved_at = NULL, seen_at = NULL
            RETURNING n AS row)
        SELECT c.* FROM told CROSS JOIN LATERAL as_change(told.row, 'created') AS c;
    END LOOP;
END $$;

-- Take an invite for the caller, if they may: find it by id or else by its token's hash, lock its space, look
-- again, use it up, make the member, write it down and tell those concerned. `most` is how many members the
-- space may have; `closings` and `notices` are as settle_notices() takes them, but that what they say of the
-- invite is put in here, where it is known. One row for a live account, as open_invite() gives it, with what else
-- may be in the way; nothing is changed unless `taken`.
CREATE FUNCTION take_invite(
    caller text, caller_issuer text, caller_session text, wanted_id uuid, wanted_hash bytea, wanted_kind text,
    most integer, acting_as text, acting_key uuid, request text, closings jsonb, notices jsonb)
RETURNS TABLE (user_id text, space_id uuid, held_role text, id uuid, role text, status text, expired boolean,
               for_the_caller boolean, has_room boolean, taken boolean, changed jsonb)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    opened record;
    of_it  jsonb;
    room   boolean := true;
    done   boolean := false;
    told   jsonb;
BEGIN
    wanted_id := coalesce(wanted_id, (SELECT i.id FROM invites i WHERE i.token_hash = wanted_hash));
    SELECT * INTO opened FROM open_invite(caller, caller_issuer, caller_session, wanted_id, wanted_kind);
    IF opened.user_id IS NULL THEN
        RETURN;
    END IF;
    IF opened.status = 'open' AND opened.for_the_caller AND opened.held_role IS NULL THEN
        room := (SELECT coalesce(s.member_count < most, true) FROM spaces s WHERE s.id = opened.space_id);
        IF room THEN
            UPDATE invites i SET accepted_at = now(), accepted_by = opened.user_id
             WHERE i.space_id = opened.space_id AND i.id = opened.id AND i.expires_at > clock_timestamp();
            done := FOUND;
        END IF;
    END IF;
    IF done THEN
        INSERT INTO members (space_id, kind, user_id, role)
        VALUES (opened.space_id, wanted_kind, opened.user_id, opened.role);
        PERFORM note_audit('invite.accept', opened.user_id, acting_as, acting_key, opened.space_id,
                           opened.user_id, NULL, jsonb_build_object('role', opened.role, 'invite', opened.id),
                           request);
        of_it := jsonb_build_object('space', opened.space_id, 'invite', opened.id, 'source_id', opened.id,
                                    'payload', jsonb_build_object('role', opened.role));
        told := (SELECT jsonb_agg(to_jsonb(row)) FROM settle_notices(
            (SELECT jsonb_agg(each || of_it) FROM jsonb_array_elements(closings) AS each),
            (SELECT jsonb_agg(each || of_it) FROM jsonb_array_elements(notices) AS each), '{}') AS row);
    END IF;
    RETURN QUERY SELECT opened.user_id, opened.space_id, opened.held_role, opened.id, opened.role, opened.status,
                        opened.expired, opened.for_the_caller, room, done, told;
END $$;

-- What waits in a hub for this person, and what has been going on in it lately.
CREATE OR REPLACE FUNCTION hub_pulse(hub uuid, person text, rank text)
RETURNS TABLE (pending_review integer, dream_topics integer, team_activity integer) LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM notifications n
             WHERE n.space_id = hub AND n.recipient_user_id = person AND n.bucket = 'action'
               AND n.status = 'pending' AND coalesce(n.expires_at > now(), true))::integer, 0, 0
$$;
