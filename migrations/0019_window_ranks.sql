-- In which order the members of a group are given free slots: by their maintenance windows as they are now, and then by index.
ALTER TABLE run_members
    -- 0: open; 1: opens soon; 2: no window, or nobody has asked yet; 3: closed for longer.
    ADD COLUMN window_rank smallint NOT NULL DEFAULT 2 CHECK (window_rank BETWEEN 0 AND 3),
    -- When the rank is to be looked at again.
    ADD COLUMN window_ranked_until timestamptz NOT NULL DEFAULT '-infinity';

-- The head of a group's queue, and bulk changes of a group's members in one state.
CREATE INDEX run_members_by_rank ON run_members (run_id, group_index, state, window_rank, member_index);
DROP INDEX run_members_by_state;
-- Members in a group's queue whose rank is to be looked at first.
CREATE INDEX run_members_to_rank ON run_members (run_id, group_index, window_ranked_until) WHERE state = 'NotStarted';
