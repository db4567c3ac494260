//! A cluster belongs to at most one member, also when members join and leave concurrently.

use fleet_manager::{
    arm::ResourceId,
    database::Pool,
    store::memberships::{self, Holder},
};
use uuid::Uuid;

use crate::harness::{eventually, postgres::database};

fn cluster() -> ResourceId {
    ResourceId::in_group("s", "rg", "Microsoft.ContainerService", "managedClusters", "c")
}

async fn resource(pool: &Pool, parent: Option<Uuid>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        "INSERT INTO resources (id, key, arm_id, type, name, parent_id, subscription, resource_group, properties,
             provisioning_state, etag, created_at, created_by, created_by_type, modified_at, modified_by,
             modified_by_type)
         VALUES ($1, $2, $2, 't', 'n', $3, 's', 'rg', '{}', 'Succeeded', $1, now(), '', '', now(), '', '')",
    )
    .bind(id)
    .bind(format!("/{id}"))
    .bind(parent)
    .execute(pool)
    .await
    .unwrap();
    id
}

#[tokio::test]
async fn a_cluster_has_one_holder_and_taking_it_again_is_harmless() {
    let db = database().await;
    let fleet = resource(&db.pool, None).await;
    let (first, second) = (resource(&db.pool, Some(fleet)).await, resource(&db.pool, Some(fleet)).await);
    let mut conn = db.pool.acquire().await.unwrap();
    for _ in 0..2 {
        assert_eq!(memberships::take(&mut conn, &cluster(), fleet, first).await.unwrap(), None);
    }
    let holder = Holder { fleet, member_arm_id: format!("/{first}") };
    assert_eq!(memberships::take(&mut conn, &cluster(), fleet, second).await.unwrap(), Some(holder));
}

#[tokio::test]
async fn a_holder_that_leaves_while_its_cluster_is_taken_leaves_it_to_the_taker() {
    let db = database().await;
    let fleet = resource(&db.pool, None).await;
    let (leaving, joining) = (resource(&db.pool, Some(fleet)).await, resource(&db.pool, Some(fleet)).await);
    let mut conn = db.pool.acquire().await.unwrap();
    memberships::take(&mut conn, &cluster(), fleet, leaving).await.unwrap();

    // The lock stops the joining member after its INSERT has found the cluster taken, and before it reads which member has the cluster.
    let mut tx = db.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE resources IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await.unwrap();
    let taken = tokio::spawn(async move { memberships::take(&mut conn, &cluster(), fleet, joining).await.unwrap() });
    eventually("the taker waits", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'resources'::regclass";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&db.pool).await.unwrap() == 1
    })
    .await;
    sqlx::query("DELETE FROM memberships WHERE member_id = $1").bind(leaving).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(taken.await.unwrap(), None);
    let holder: Option<Uuid> =
        sqlx::query_scalar("SELECT member_id FROM memberships").fetch_optional(&db.pool).await.unwrap();
    assert_eq!(holder, Some(joining), "the taker was told that it has the cluster");
}
