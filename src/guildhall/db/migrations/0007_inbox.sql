-- depends: 0006_hubs
-- What people are told: decisions that wait for them, and receipts of what happened.

-- To one person ("user"), or to all members of a space ("hub"), or to those with a role ("hub_member"). No
-- names are kept: who and which space it is about is read when it is shown.
CREATE TABLE notifications (
    id                uuid PRIMARY KEY,
    audience          text NOT NULL CHECK (audience IN ('user', 'hub', 'hub_member')),
    space_id          uuid REFERENCES spaces ON DELETE CASCADE,
    recipient_user_id text REFERENCES users ON DELETE CASCADE,
    -- The recipient again where only a member may know of it: it goes with the membership.
    member_user_id    text,
    hub_member_role   text,
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
    CONSTRAINT a_user_is_named CHECK ((audience = 'user') = (recipient_user_id IS NOT NULL)),
    CONSTRAINT members_are_of_a_space CHECK (audience = 'user' OR space_id IS NOT NULL),
    CONSTRAINT a_role_is_named CHECK ((audience = 'hub_member') = (hub_member_role IS NOT NULL)),
    CONSTRAINT bound_to_the_recipient CHECK (member_user_id IS NULL OR member_user_id = recipient_user_id),
    CONSTRAINT resolved_somehow CHECK (status <> 'resolved' OR resolution IS NOT NULL)
);
CREATE INDEX notifications_of_a_person ON notifications (recipient_user_id, created_at DESC, id DESC);
CREATE INDEX notifications_of_a_space ON notifications (space_id, created_at DESC, id DESC);
CREATE INDEX notifications_of_a_member ON notifications (space_id, member_user_id)
    WHERE member_user_id IS NOT NULL;
CREATE INDEX notifications_to_expire ON notifications (expires_at) WHERE status = 'pending';

-- What each member has seen and put away of what all members are told.
CREATE TABLE notification_marks (
    notification_id uuid NOT NULL REFERENCES notifications ON DELETE CASCADE,
    user_id         text NOT NULL REFERENCES users ON DELETE CASCADE,
    seen_at         timestamptz,
    dismissed_at    timestamptz,
    PRIMARY KEY (notification_id, user_id)
);
CREATE INDEX notification_marks_of_a_person ON notification_marks (user_id);

-- All that the caller may know of now, as it is for them: what is for members only while they are one, what is
-- out of time as expired, what is told to all as they themselves have marked it.
CREATE FUNCTION inbox(caller text, caller_issuer text, caller_session text)
RETURNS TABLE (id uuid, audience text, space_id uuid, space_kind text, recipient_user_id text, hub_member_role text,
               kind text, bucket text, status text, resolution text, priority smallint, source_kind text,
               source_id text, person_id text, payload jsonb, created_at timestamptz, expires_at timestamptz,
               resolved_at timestamptz, seen_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT n.id, n.audience, n.space_id, s.kind, n.recipient_user_id, n.hub_member_role, n.kind, n.bucket,
           CASE WHEN n.status = 'pending' AND n.expires_at <= now() THEN 'expired' ELSE n.status END,
           n.resolution, n.priority, n.source_kind, n.source_id, n.person_id, n.payload, n.created_at,
           n.expires_at, n.resolved_at, n.seen_at
      FROM me(caller, caller_issuer, caller_session) AS asking
      JOIN notifications n ON n.recipient_user_id = asking.user_id
      LEFT JOIN spaces s ON s.id = n.space_id
     WHERE reaches(caller_session, n.space_id) AND s.deleted_at IS NULL
       AND (n.kind NOT IN ('hub_ownership_transfer', 'community_ownership_transfer')
            OR EXISTS (SELECT FROM members m WHERE m.space_id = n.space_id AND m.user_id = asking.user_id
                          AND m.status = 'active'))
    UNION ALL
    SELECT n.id, n.audience, n.space_id, s.kind, n.recipient_user_id, n.hub_member_role, n.kind, n.bucket,
           CASE WHEN n.status = 'pending' AND n.expires_at <= now() THEN 'expired'
                WHEN n.status = 'pending' AND marked.dismissed_at IS NOT NULL THEN 'dismissed'
                ELSE n.status END,
           n.resolution, n.priority, n.source_kind, n.source_id, n.person_id, n.payload, n.created_at,
           n.expires_at, coalesce(n.resolved_at, marked.dismissed_at), marked.seen_at
      FROM me(caller, caller_issuer, caller_session) AS asking
      JOIN members m ON m.user_id = asking.user_id AND m.status = 'active'
      JOIN spaces s ON s.id = m.space_id AND s.deleted_at IS NULL
      JOIN notifications n ON n.space_id = m.space_id AND n.audience <> 'user'
       AND coalesce(n.hub_member_role = m.role, true)
      LEFT JOIN notification_marks marked
        ON marked.notification_id = n.id AND marked.user_id = asking.user_id
     WHERE reaches(caller_session, n.space_id)
$$;

-- What waits in a hub for this person, and what has been going on in it lately.
CREATE OR REPLACE FUNCTION hub_pulse(hub uuid, person text, rank text)
RETURNS TABLE (pending_review integer, dream_topics integer, team_activity integer) LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM notifications n
             WHERE n.space_id = hub AND n.bucket = 'action' AND n.status = 'pending'
               AND coalesce(n.expires_at > now(), true)
               AND CASE WHEN n.audience = 'user' THEN n.recipient_user_id = person
                        ELSE coalesce(n.hub_member_role = rank, true) END)::integer, 0, 0
$$;
