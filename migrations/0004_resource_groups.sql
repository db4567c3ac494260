-- Resource groups are resources: what is in one has it for a parent. Those that fleets are in already exist from now on.
INSERT INTO resources (id, key, arm_id, type, name, subscription, resource_group, location, properties, provisioning_state,
        etag, created_at, created_by, created_by_type, modified_at, modified_by, modified_by_type)
    SELECT DISTINCT ON (subscription, resource_group) gen_random_uuid(),
        '/subscriptions/' || subscription || '/resourcegroups/' || resource_group,
        '/subscriptions/' || subscription || '/resourceGroups/' || resource_group,
        'Microsoft.Resources/resourceGroups', resource_group, subscription, resource_group, location, '{}', 'Succeeded',
        gen_random_uuid(), created_at, created_by, created_by_type, modified_at, modified_by, modified_by_type
    FROM resources WHERE type = 'Microsoft.ContainerService/fleets' ORDER BY subscription, resource_group, created_at;

UPDATE resources r SET parent_id = g.id FROM resources g
    WHERE r.type = 'Microsoft.ContainerService/fleets' AND g.type = 'Microsoft.Resources/resourceGroups'
      AND g.subscription = r.subscription AND g.resource_group = r.resource_group;

-- Tracked resources of a subscription or a resource group, of whatever type: the generic list.
CREATE INDEX resources_tracked ON resources (subscription, resource_group, key)
    WHERE location IS NOT NULL AND type <> 'Microsoft.Resources/resourceGroups';
CREATE INDEX resources_tracked_by_subscription ON resources (subscription, key)
    WHERE location IS NOT NULL AND type <> 'Microsoft.Resources/resourceGroups';
