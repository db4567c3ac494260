-- Every resource type shares one envelope, so that uniqueness, parents, cascades, conditions and paging are solved once.
-- Bodies are jsonb; what is hot, large or contended is normalised out of them in tables of its own.

CREATE TABLE resources (
    id                  uuid PRIMARY KEY,
    -- The lower-cased resource ID: ARM compares IDs without case.
    key                 text NOT NULL UNIQUE,
    -- The resource ID in the spelling of its creation.
    arm_id              text NOT NULL,
    type                text NOT NULL,
    name                text NOT NULL,
    parent_id           uuid REFERENCES resources (id) ON DELETE CASCADE,
    subscription        text NOT NULL,
    resource_group      text NOT NULL,
    location            text,
    tags                jsonb,
    identity            jsonb,
    properties          jsonb NOT NULL,
    -- Facts the service keeps for itself; never shown as they are.
    observed            jsonb NOT NULL DEFAULT '{}',
    provisioning_state  text NOT NULL,
    etag                uuid NOT NULL,
    last_operation_id   uuid,
    last_operation_error jsonb,
    created_at          timestamptz NOT NULL,
    created_by          text NOT NULL,
    created_by_type     text NOT NULL,
    modified_at         timestamptz NOT NULL,
    modified_by         text NOT NULL,
    modified_by_type    text NOT NULL,
    CONSTRAINT key_is_lower CHECK (key = lower(key)),
    CONSTRAINT scope_is_lower CHECK (subscription = lower(subscription) AND resource_group = lower(resource_group))
);

-- Lists: children of a parent; a type in a resource group; a type in a subscription. Pages go by key.
CREATE INDEX resources_by_parent ON resources (parent_id, type, key);
CREATE INDEX resources_by_group ON resources (subscription, resource_group, type, key);
CREATE INDEX resources_by_subscription ON resources (subscription, type, key);

-- ARM asynchronous operations. They outlive their resource, so the ID is kept and not referenced.
CREATE TABLE operations (
    id              uuid PRIMARY KEY,
    subscription    text NOT NULL,
    location        text NOT NULL,
    resource_arm_id text NOT NULL,
    verb            text NOT NULL CHECK (verb IN ('PUT', 'PATCH', 'DELETE', 'POST')),
    status          text NOT NULL CHECK (status IN ('InProgress', 'Succeeded', 'Failed', 'Canceled')),
    start_time      timestamptz NOT NULL,
    end_time        timestamptz,
    error           jsonb,
    CONSTRAINT ended CHECK ((status = 'InProgress') = (end_time IS NULL)),
    CONSTRAINT failed_says_why CHECK (status <> 'Failed' OR error IS NOT NULL)
);
CREATE INDEX operations_ended ON operations (end_time) WHERE end_time IS NOT NULL;

-- A cluster is a member of at most one fleet, once.
CREATE TABLE memberships (
    cluster_key text PRIMARY KEY CHECK (cluster_key = lower(cluster_key)),
    fleet_id    uuid NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    member_id   uuid NOT NULL UNIQUE REFERENCES resources (id) ON DELETE CASCADE
);
CREATE INDEX memberships_by_fleet ON memberships (fleet_id);

-- Secrets that all replicas must share, made by whoever comes first.
CREATE TABLE service_keys (
    purpose text PRIMARY KEY,
    secret  bytea NOT NULL
);
