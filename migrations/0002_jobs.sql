-- Durable jobs: work that must happen survives the process that promised it, and is done by one worker at a time.

CREATE TABLE jobs (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text        COLLATE "C" NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    payload     jsonb       NOT NULL DEFAULT 'null',
    -- Correlation with what caused the job; carried into the log lines of its attempts.
    trace       text,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    -- When to go. Null while an attempt is under way and nobody has asked for another one since, and once failed.
    run_at      timestamptz,
    -- The attempt under way, by the database's clock.
    lease_owner text,
    lease_until timestamptz,
    -- Counts claims and only grows: (id, attempt) is the fencing token.
    attempt     bigint      NOT NULL DEFAULT 0,
    -- The result of the attempt under way is to be dropped.
    cancelled   boolean     NOT NULL DEFAULT false,
    -- Consecutive failures and the latest reason.
    failures    integer     NOT NULL DEFAULT 0,
    last_error  text,
    -- Terminal: given up. Enqueuing the job again revives it.
    failed_at   timestamptz,
    -- When the next claim may take it: a lease that ends frees its job as if it had been scheduled for that moment.
    due_at      timestamptz GENERATED ALWAYS AS (coalesce(lease_until, run_at)) STORED,

    CONSTRAINT jobs_one_per_subject UNIQUE (kind, subject),
    CONSTRAINT jobs_named           CHECK (kind <> '' AND subject <> ''),
    CONSTRAINT jobs_counts          CHECK (attempt >= 0 AND failures >= 0),
    CONSTRAINT jobs_lease_is_whole  CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CONSTRAINT jobs_lease_counted   CHECK (lease_until IS NULL OR attempt > 0),
    CONSTRAINT jobs_has_next_event  CHECK ((failed_at IS NULL) = (lease_until IS NOT NULL OR run_at IS NOT NULL)),
    CONSTRAINT jobs_cancelled_runs  CHECK (NOT cancelled OR lease_until IS NOT NULL),
    CONSTRAINT jobs_failure_reason  CHECK (last_error IS NOT NULL OR (failures = 0 AND failed_at IS NULL))
) WITH (
    -- Rows are short-lived and change with every attempt: clean up early, so that the front of the index stays short.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500
);

-- One index answers "what may be claimed?" and "when is the next one due?", ended leases included.
CREATE INDEX jobs_due ON jobs (due_at, id) WHERE failed_at IS NULL;
