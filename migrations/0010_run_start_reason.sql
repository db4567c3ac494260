-- A run that was told to start and cannot yet (the images of a Consistent run could not be asked for) says why: still
-- NotStarted, with the reason as its error.
ALTER TABLE update_runs
    DROP CONSTRAINT update_runs_sound,
    ADD CONSTRAINT update_runs_sound CHECK (
        update_status_is_sound(state, start_time, completed_time, CASE WHEN state <> 'NotStarted' THEN error END));
