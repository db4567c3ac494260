-- Events of update runs: written with the changes that they tell of, delivered to webhooks afterwards.

-- Whom the workers deliver to: as their configuration says. What is secret about a webhook is not here, nor is its address.
CREATE TABLE webhooks (
    name    text COLLATE "C" PRIMARY KEY,
    -- Types of event that it wants; null: all.
    types   text[],
    -- What was recorded before is not for it.
    since   timestamptz NOT NULL DEFAULT now()
);

-- The order of events in a run. Outlives the run, whose deletion is told of, too.
CREATE TABLE event_streams (
    run_id          uuid PRIMARY KEY,
    last_sequence   bigint NOT NULL CHECK (last_sequence > 0),
    last_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX event_streams_by_time ON event_streams (last_at);

-- Whoever writes events holds their stream's row until the commit: sequences are committed in order and without gaps.
CREATE TABLE events (
    run_id      uuid NOT NULL,
    sequence    bigint NOT NULL CHECK (sequence > 0),
    -- What receivers know the event by, however often it comes.
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    type        text NOT NULL,
    subject     text NOT NULL,
    at          timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    data        jsonb NOT NULL,
    PRIMARY KEY (run_id, sequence)
);
CREATE INDEX events_by_time ON events (recorded_at);

-- How far each webhook is with each run.
CREATE TABLE event_deliveries (
    run_id      uuid NOT NULL REFERENCES event_streams ON DELETE CASCADE,
    webhook     text COLLATE "C" NOT NULL,
    -- The sequence up to which all was delivered or given up.
    delivered   bigint NOT NULL DEFAULT 0,
    -- Consecutive failures, the latest reason, and when to try again.
    failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_error  text,
    not_before  timestamptz,
    PRIMARY KEY (run_id, webhook),
    CONSTRAINT event_deliveries_failed_says_why CHECK (failures = 0 OR last_error IS NOT NULL)
);

-- What was given up, until somebody has it delivered again. The event itself stays as long.
CREATE TABLE event_dead_letters (
    webhook     text COLLATE "C" NOT NULL,
    run_id      uuid NOT NULL,
    sequence    bigint NOT NULL,
    attempts    integer NOT NULL,
    error       text NOT NULL,
    dead_at     timestamptz NOT NULL DEFAULT now(),
    -- Somebody asked for it: deliver it again.
    replay_at   timestamptz,
    PRIMARY KEY (webhook, run_id, sequence)
);
CREATE INDEX event_dead_letters_by_time ON event_dead_letters (dead_at);
CREATE INDEX event_dead_letters_by_event ON event_dead_letters (run_id, sequence);
