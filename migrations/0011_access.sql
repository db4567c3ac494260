-- Azure RBAC: which principal has which role in a scope and in all that is in it.
CREATE TABLE role_assignments (
    -- The lower-cased ID of the assignment.
    key             text COLLATE "C" PRIMARY KEY,
    arm_id          text NOT NULL,
    name            uuid NOT NULL,
    -- A lower-cased ID; empty for everything.
    scope           text COLLATE "C" NOT NULL,
    scope_arm_id    text NOT NULL,
    principal_id    uuid NOT NULL,
    principal_type  text NOT NULL,
    role_id         uuid NOT NULL,
    description     text,
    created_at      timestamptz NOT NULL,
    created_by      uuid NOT NULL,
    updated_at      timestamptz NOT NULL,
    updated_by      uuid NOT NULL,
    CONSTRAINT keys_are_lower CHECK (key = lower(key) AND scope = lower(scope)),
    CONSTRAINT role_assignments_once UNIQUE (scope, principal_id, role_id)
);
CREATE INDEX role_assignments_by_principal ON role_assignments (principal_id);

-- Replicas keep what they read until they are told. A row a time: most statements change none.
CREATE FUNCTION notify_role_assignment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('role_assignments', coalesce(NEW.principal_id, OLD.principal_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER role_assignments_changed AFTER INSERT OR UPDATE OR DELETE ON role_assignments
    FOR EACH ROW EXECUTE FUNCTION notify_role_assignment();

-- A resource of the same name that comes later is another one: access to it must be granted anew.
CREATE FUNCTION forget_role_assignments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM role_assignments a USING gone WHERE a.scope = gone.key;
    RETURN NULL;
END $$;
CREATE TRIGGER resources_deleted AFTER DELETE ON resources REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_role_assignments();

-- Whether a resource is one of these scopes or in one; true without scopes. For lists of those who may see a part only.
CREATE FUNCTION within(key text, scopes text[]) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT scopes IS NULL OR EXISTS (SELECT FROM unnest(scopes) s WHERE key = s OR starts_with(key, s || '/'))
$$;

-- Who did, or tried to do, what to which resource. Written before it is done; the status when it is answered, so that a row
-- without one tells of a process that died in between.
CREATE TABLE audit_events (
    id              uuid PRIMARY KEY,
    at              timestamptz NOT NULL,
    object_id       uuid NOT NULL,
    caller          text NOT NULL,
    caller_type     text NOT NULL,
    app_id          text,
    action          text NOT NULL,
    resource        text NOT NULL,
    allowed         boolean NOT NULL,
    status          integer,
    correlation_id  text NOT NULL
);
CREATE INDEX audit_events_by_time ON audit_events (at);
CREATE INDEX audit_events_by_resource ON audit_events (lower(resource), at);
CREATE INDEX audit_events_by_caller ON audit_events (object_id, at);

-- Whoever began an operation may follow it to its end, even when what it deletes took the right to read it along.
ALTER TABLE operations ADD COLUMN begun_by uuid;
