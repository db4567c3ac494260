-- Who started, stopped and skipped what in an update run, and who approved its gates: for whoever reads the run later.
CREATE TABLE run_actions (
    action_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         uuid NOT NULL REFERENCES update_runs (run_id) ON DELETE CASCADE,
    at             timestamptz NOT NULL,
    action         text NOT NULL,
    principal      text NOT NULL,
    principal_type text NOT NULL,
    targets        text[] NOT NULL
);
CREATE INDEX run_actions_by_run ON run_actions (run_id, action_id);
