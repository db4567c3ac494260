-- Progress of update runs, one row a node, so that a member's change touches a constant number of rows in a run of any
-- size. The status document is assembled on read. States are ARM's; every writer holds the lock of its update_runs row.

CREATE DOMAIN update_state AS text COLLATE "C"
    CHECK (VALUE IN ('NotStarted', 'Running', 'Stopping', 'Stopped', 'Skipped', 'Failed', 'Pending', 'Completed'));

-- What is begun has a start, what has ended has an end, what failed says why.
CREATE FUNCTION update_status_is_sound(state text, start_time timestamptz, completed_time timestamptz, error jsonb)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (completed_time IS NOT NULL) = (state IN ('Completed', 'Skipped', 'Failed'))
       AND (state <> 'NotStarted' OR (start_time IS NULL AND error IS NULL))
       AND (state IN ('NotStarted', 'Skipped') OR start_time IS NOT NULL)
       AND (state <> 'Failed' OR error IS NOT NULL);

CREATE TABLE update_runs (
    run_id          uuid PRIMARY KEY REFERENCES resources (id) ON DELETE CASCADE,
    fleet_id        uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    state           update_state NOT NULL,
    start_time      timestamptz,
    completed_time  timestamptz,
    error           jsonb,
    stop_requested  boolean NOT NULL DEFAULT false,
    -- Node images chosen for the whole run, frozen at its first start.
    selected_images jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(selected_images) = 'array'),
    CONSTRAINT update_runs_sound CHECK (update_status_is_sound(state, start_time, completed_time, error))
);
CREATE INDEX update_runs_by_fleet ON update_runs (fleet_id);

CREATE TABLE run_stages (
    run_id               uuid NOT NULL REFERENCES update_runs (run_id) ON DELETE CASCADE,
    stage_index          integer NOT NULL CHECK (stage_index >= 0),
    name                 text NOT NULL,
    max_concurrency      integer NOT NULL CHECK (max_concurrency > 0),
    max_allowed_failures integer NOT NULL CHECK (max_allowed_failures >= 0),
    state                update_state NOT NULL,
    start_time           timestamptz,
    completed_time       timestamptz,
    error                jsonb,
    wait_seconds         integer CHECK (wait_seconds > 0),
    wait_state           update_state CHECK (wait_state IN ('NotStarted', 'Running', 'Completed', 'Skipped')),
    wait_start_time      timestamptz,
    wait_completed_time  timestamptz,
    PRIMARY KEY (run_id, stage_index),
    CONSTRAINT run_stages_named UNIQUE (run_id, name),
    CONSTRAINT run_stages_sound CHECK (update_status_is_sound(state, start_time, completed_time, error)),
    CONSTRAINT run_stages_wait CHECK ((wait_seconds IS NULL) = (wait_state IS NULL)),
    CONSTRAINT run_stages_wait_sound CHECK (
        CASE WHEN wait_state IS NULL THEN wait_start_time IS NULL AND wait_completed_time IS NULL
             ELSE update_status_is_sound(wait_state, wait_start_time, wait_completed_time, NULL) END)
);

CREATE TABLE run_groups (
    run_id               uuid NOT NULL,
    -- Position in the run, not in the stage.
    group_index          integer NOT NULL CHECK (group_index >= 0),
    stage_index          integer NOT NULL,
    name                 text NOT NULL,
    max_concurrency      integer NOT NULL CHECK (max_concurrency > 0),
    max_allowed_failures integer NOT NULL CHECK (max_allowed_failures >= 0),
    state                update_state NOT NULL,
    start_time           timestamptz,
    completed_time       timestamptz,
    error                jsonb,
    -- Members by state: what a step is decided on instead of the members themselves.
    not_started          integer NOT NULL CHECK (not_started >= 0),
    running              integer NOT NULL CHECK (running BETWEEN 0 AND max_concurrency),
    pending              integer NOT NULL CHECK (pending >= 0),
    stopped              integer NOT NULL CHECK (stopped >= 0),
    skipped              integer NOT NULL CHECK (skipped >= 0),
    failed               integer NOT NULL CHECK (failed >= 0),
    completed            integer NOT NULL CHECK (completed >= 0),
    PRIMARY KEY (run_id, group_index),
    FOREIGN KEY (run_id, stage_index) REFERENCES run_stages ON DELETE CASCADE,
    CONSTRAINT run_groups_named UNIQUE (run_id, name),
    CONSTRAINT run_groups_sound CHECK (update_status_is_sound(state, start_time, completed_time, error))
);
-- Cascades from a stage.
CREATE INDEX run_groups_by_stage ON run_groups (run_id, stage_index);

CREATE TABLE run_members (
    run_id              uuid NOT NULL,
    -- Position in the run: the order in which members are tried.
    member_index        integer NOT NULL CHECK (member_index >= 0),
    group_index         integer NOT NULL,
    name                text NOT NULL,
    cluster_resource_id text NOT NULL,
    state               update_state NOT NULL CHECK (state <> 'Stopping'),
    start_time          timestamptz,
    completed_time      timestamptz,
    error               jsonb,
    message             text,
    -- How often the member was given a slot. What its job says holds for one attempt only.
    attempt             integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- The AKS operation of the latest attempt.
    operation_id        text,
    -- How far its job is with the cluster; the job's own business.
    upgrade             jsonb,
    PRIMARY KEY (run_id, member_index),
    FOREIGN KEY (run_id, group_index) REFERENCES run_groups ON DELETE CASCADE,
    CONSTRAINT run_members_sound CHECK (update_status_is_sound(state, start_time, completed_time, error)),
    CONSTRAINT run_members_pending_says_why CHECK (state <> 'Pending' OR error IS NOT NULL),
    CONSTRAINT run_members_skipped_says_why CHECK (state <> 'Skipped' OR message IS NOT NULL),
    CONSTRAINT run_members_begun_is_attempted CHECK (attempt > 0 OR start_time IS NULL)
) WITH (fillfactor = 80);
-- The head of a group's queue, and bulk changes of a group's members in one state.
CREATE INDEX run_members_by_state ON run_members (run_id, group_index, state, member_index);
-- A member by name in one run, and the runs of a member.
CREATE INDEX run_members_by_name ON run_members (name, run_id);

CREATE TABLE run_gates (
    -- Name of the gate resource, given in advance, so that reaching a gate twice makes one.
    gate_id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id         uuid NOT NULL,
    stage_index    integer NOT NULL,
    -- Null: of the stage itself.
    group_index    integer,
    timing         text NOT NULL CHECK (timing IN ('Before', 'After')),
    gate_index     integer NOT NULL CHECK (gate_index >= 0),
    display_name   text,
    gate_type      text NOT NULL,
    state          update_state NOT NULL CHECK (state IN ('NotStarted', 'Pending', 'Completed', 'Skipped')),
    start_time     timestamptz,
    completed_time timestamptz,
    FOREIGN KEY (run_id, stage_index) REFERENCES run_stages ON DELETE CASCADE,
    FOREIGN KEY (run_id, group_index) REFERENCES run_groups ON DELETE CASCADE,
    CONSTRAINT run_gates_placed UNIQUE NULLS NOT DISTINCT (run_id, stage_index, group_index, timing, gate_index),
    CONSTRAINT run_gates_sound CHECK (update_status_is_sound(state, start_time, completed_time, NULL))
);
CREATE INDEX run_gates_by_group ON run_gates (run_id, group_index) WHERE group_index IS NOT NULL;

-- One active member upgrade per cluster in the whole system, whichever run and replica it belongs to.
CREATE TABLE cluster_locks (
    cluster_key  text PRIMARY KEY CHECK (cluster_key = lower(cluster_key)),
    run_id       uuid NOT NULL,
    member_index integer NOT NULL,
    acquired_at  timestamptz NOT NULL,
    FOREIGN KEY (run_id, member_index) REFERENCES run_members ON DELETE CASCADE
);
CREATE INDEX cluster_locks_by_member ON cluster_locks (run_id, member_index);
