-- A start is visible at once: the run is Running (or Pending, with the reason) from the request on, and its members are chosen
-- afterwards by a job. Until then it is being started.
ALTER TABLE update_runs ADD COLUMN starting boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT update_runs_starting CHECK (NOT starting OR state IN ('Running', 'Pending'));
