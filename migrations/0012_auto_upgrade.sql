-- What AKS offers in a region to a subscription, and since when: looked at once for all profiles.
CREATE TABLE catalogues (
    subscription text COLLATE "C" NOT NULL CHECK (subscription = lower(subscription)),
    location     text COLLATE "C" NOT NULL,
    offers       jsonb NOT NULL,
    seen_at      timestamptz NOT NULL,
    PRIMARY KEY (subscription, location)
);

-- How the looks at a subscription's catalogues go.
CREATE TABLE catalogue_watches (
    subscription  text COLLATE "C" PRIMARY KEY CHECK (subscription = lower(subscription)),
    looked_at     timestamptz,
    failing_since timestamptz,
    error         jsonb,
    CONSTRAINT catalogue_watches_say_why CHECK ((failing_since IS NULL) = (error IS NULL))
);

-- What the same look saw of a member's cluster: its region, versions and images.
ALTER TABLE memberships ADD COLUMN seen jsonb;

-- The past of an auto-upgrade profile, and the status that it shows.
CREATE TABLE auto_upgrade_profiles (
    profile_id   uuid PRIMARY KEY REFERENCES resources (id) ON DELETE CASCADE,
    fleet_id     uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    -- Releases before do not concern it.
    armed_at     timestamptz NOT NULL,
    -- What was triggered last: only something later is triggered again.
    target       jsonb,
    triggered_at timestamptz,
    status       text CHECK (status IN ('Succeeded', 'Failed')),
    error        jsonb,
    versions     jsonb NOT NULL DEFAULT '[]',
    message      text,
    CONSTRAINT auto_upgrade_profiles_whole CHECK ((triggered_at IS NULL) = (status IS NULL)),
    CONSTRAINT auto_upgrade_profiles_say_why CHECK (status IS DISTINCT FROM 'Failed' OR error IS NOT NULL)
);
CREATE INDEX auto_upgrade_profiles_by_fleet ON auto_upgrade_profiles (fleet_id);

-- Runs that profiles have started, each once: a run that was deleted is not made again.
CREATE TABLE auto_upgrade_triggers (
    profile_id   uuid NOT NULL REFERENCES auto_upgrade_profiles (profile_id) ON DELETE CASCADE,
    run_name     text NOT NULL,
    run_id       uuid REFERENCES resources (id) ON DELETE SET NULL,
    target       jsonb NOT NULL,
    triggered_at timestamptz NOT NULL,
    PRIMARY KEY (profile_id, run_name)
);
CREATE INDEX auto_upgrade_triggers_by_run ON auto_upgrade_triggers (run_id) WHERE run_id IS NOT NULL;

-- The members that a run is for, by name. Null: all that its strategy picks.
ALTER TABLE update_runs ADD COLUMN only_members text[];
