-- Identities were stored as callers wrote them. What is kept is the type and the resource IDs; a system-assigned identity gets a principal.
UPDATE resources SET identity = jsonb_strip_nulls(jsonb_build_object(
    'type', identity -> 'type',
    'principalId', CASE WHEN identity ->> 'type' LIKE 'SystemAssigned%' THEN gen_random_uuid() END,
    'userAssignedIdentities', CASE
        WHEN identity ->> 'type' LIKE '%UserAssigned' AND jsonb_typeof(identity -> 'userAssignedIdentities') = 'object'
        THEN (SELECT jsonb_object_agg(id, '{}'::jsonb) FROM jsonb_object_keys(identity -> 'userAssignedIdentities') id)
    END
))
WHERE identity IS NOT NULL;
