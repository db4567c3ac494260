-- Gates that open by themselves: when, as the strategy says it.
ALTER TABLE run_gates
    ADD COLUMN schedule jsonb,
    ADD CONSTRAINT run_gates_typed CHECK (gate_type IN ('Approval', 'ScheduledStart')),
    ADD CONSTRAINT run_gates_scheduled_before CHECK (
        (schedule IS NOT NULL) = (gate_type = 'ScheduledStart') AND (schedule IS NULL OR timing = 'Before'));
