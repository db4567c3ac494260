//! Migrations: from any older state with data in it to that of a new database, and back to an older program.

use std::path::Path;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions as _, Executor as _, PgConnection};

use crate::harness::{
    postgres::{database, empty_database},
    world::World,
};

/// Rows in every table, by the migration that makes the tables. Each runs on any state from that migration on.
const ROWS: &[(i64, &str)] = &[
    (
        1,
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, location, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by, modified_by_type)
         SELECT id::uuid, lower(path), path, type, name, parent::uuid, 's', 'rg', location, properties::jsonb, 'Succeeded',
             gen_random_uuid(), now(), 'a', 'User', now(), 'a', 'User'
         FROM (VALUES
             ('00000000-0000-0000-0000-000000000001', '/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/fleets/f',
              'Microsoft.ContainerService/fleets', 'f', NULL, 'eastus', '{}'),
             ('00000000-0000-0000-0000-000000000002', '/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/fleets/f/members/m',
              'Microsoft.ContainerService/fleets/members', 'm', '00000000-0000-0000-0000-000000000001', NULL, '{\"clusterResourceId\": \"/c\"}'),
             ('00000000-0000-0000-0000-000000000003', '/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/fleets/f/updateRuns/r',
              'Microsoft.ContainerService/fleets/updateRuns', 'r', '00000000-0000-0000-0000-000000000001', NULL,
              '{\"managedClusterUpdate\": {\"upgrade\": {\"type\": \"Full\"}}}'))
             AS v (id, path, type, name, parent, location, properties);
         INSERT INTO operations (id, subscription, location, resource_arm_id, verb, status, start_time)
         VALUES (gen_random_uuid(), 's', 'eastus', '/x', 'PUT', 'InProgress', now());
         INSERT INTO memberships VALUES ('/c', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002');
         INSERT INTO service_keys VALUES ('p', 'secret')",
    ),
    (
        2,
        "INSERT INTO jobs (kind, subject, run_at) VALUES ('waits', '1', now());
         INSERT INTO jobs (kind, subject, attempt, lease_owner, lease_until) VALUES ('goes', '1', 1, 'me', now());
         INSERT INTO jobs (kind, subject, failures, last_error, failed_at) VALUES ('failed', '1', 3, 'why', now())",
    ),
    (
        3,
        "INSERT INTO update_runs (run_id, fleet_id, state, start_time)
         VALUES ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'Running', now());
         INSERT INTO run_stages (run_id, stage_index, name, max_concurrency, max_allowed_failures, state, start_time)
         VALUES ('00000000-0000-0000-0000-000000000003', 0, 's', 1, 0, 'Running', now());
         INSERT INTO run_groups (run_id, group_index, stage_index, name, max_concurrency, max_allowed_failures, state, start_time,
             not_started, running, pending, stopped, skipped, failed, completed)
         VALUES ('00000000-0000-0000-0000-000000000003', 0, 0, 'g', 1, 0, 'Running', now(), 0, 1, 0, 0, 0, 0, 0);
         INSERT INTO run_members (run_id, member_index, group_index, name, cluster_resource_id, state, start_time, attempt)
         VALUES ('00000000-0000-0000-0000-000000000003', 0, 0, 'm', '/c', 'Running', now(), 1);
         INSERT INTO run_gates (run_id, stage_index, timing, gate_index, gate_type, state)
         VALUES ('00000000-0000-0000-0000-000000000003', 0, 'After', 0, 'Approval', 'NotStarted');
         INSERT INTO cluster_locks VALUES ('/c', '00000000-0000-0000-0000-000000000003', 0, now())",
    ),
];

/// What a schema consists of, one line each: tables with their columns in order, constraints, indexes, functions, triggers.
const SCHEMA: &str = "
    SELECT format('column %s.%s %s %s %s %s', table_name, ordinal_position, column_name, data_type, is_nullable,
               coalesce(column_default, generation_expression)) FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT format('constraint %s.%s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1";

async fn migrator() -> Migrator {
    Migrator::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")).await.unwrap()
}

async fn schema(conn: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(SCHEMA).fetch_all(conn).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_database_of_any_age_becomes_what_a_new_one_is() {
    let new = database().await;
    let wanted = schema(&mut new.options.connect().await.unwrap()).await;
    assert!(wanted.iter().any(|line| line.starts_with("index ")) && wanted.len() > 100, "{wanted:?}");
    let all = migrator().await;
    let versions: Vec<i64> = all.iter().map(|migration| migration.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    for version in &versions {
        let old = empty_database().await;
        let mut conn = old.options.connect().await.unwrap();
        all.run_to(*version, &mut conn).await.unwrap();
        for (_, rows) in ROWS.iter().filter(|(since, _)| since <= version) {
            conn.execute(sqlx::raw_sql(*rows)).await.unwrap_or_else(|error| panic!("rows at {version}: {error}"));
        }
        all.run(&mut conn).await.unwrap_or_else(|error| panic!("from {version}: {error}"));
        assert_eq!(schema(&mut conn).await, wanted, "from {version}");
        let runs: i64 =
            sqlx::query_scalar("SELECT count(*) FROM resources WHERE name = 'r'").fetch_one(&mut conn).await.unwrap();
        assert_eq!(runs, 1, "from {version}: rows stay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_on_a_newer_schema_that_still_allows_it() {
    let mut world = World::start().await;
    let change = async |statement: &'static str| {
        sqlx::query(statement).execute(world.pool()).await.unwrap();
    };
    change(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999900, 'of a newer program', true, '', 0)",
    )
    .await;
    let serves = world.command().arg("migrate").output().unwrap();
    assert!(serves.status.success(), "{serves:?}");
    change("UPDATE schema_requirements SET least_known_migration = 999900").await;
    world.kill();
    let refused = world.command().arg("migrate").output().unwrap();
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && stderr.contains("999900") && stderr.contains("newer"), "{stderr}");
}
