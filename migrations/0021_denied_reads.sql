-- Denied reads of a principal are counted: one row for each action, resource and hour. A caller that asks again and again fills no
-- table. Other events have a row each, with no hour.
ALTER TABLE audit_events
    ADD COLUMN requests bigint NOT NULL DEFAULT 1,
    ADD COLUMN last_at  timestamptz,
    ADD COLUMN hour     timestamptz;
CREATE UNIQUE INDEX audit_events_denied_reads ON audit_events (object_id, hour, action, lower(resource)) WHERE hour IS NOT NULL;
