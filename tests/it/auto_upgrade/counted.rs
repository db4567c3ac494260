//! The number of calls to AKS depends on regions and image families, not on the number of profiles.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use fleet_manager::{
    arm::ResourceId,
    config::StoppedClusters,
    database::Pool,
    engine,
    jobs::{self, upgrade::Policy},
    model::maintenance::MaintenanceConfiguration,
    model::managed_cluster::{ManagedCluster, NodeImage, NodePoolSnapshot, OfferedVersion, UpgradeAction},
    model::provisioning_state::ProvisioningState,
    store::{
        auto_upgrade,
        resources::{self, Author, ByService, Draft, Parent},
    },
    upstreams::{
        Upstreams,
        azure::{
            Accepted, Azure, AzureOptions, Freshness, ManagedClusters, PoolUpgradeProfile, Progress, Seen, TimeLeft,
            UpstreamError, budget::Class,
        },
    },
    work::{Settings, Workers},
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::harness::{postgres::database, world::SUBSCRIPTION};

/// AKS with two clusters in two regions, of two image families each.
#[derive(Default)]
struct Counting {
    lists: AtomicUsize,
    versions: AtomicUsize,
    profiles: AtomicUsize,
    others: AtomicUsize,
}

impl Counting {
    fn total(&self) -> usize {
        [&self.lists, &self.versions, &self.profiles, &self.others].map(|n| n.load(Ordering::SeqCst)).iter().sum()
    }

    fn unexpected<T>(&self) -> Result<T, UpstreamError> {
        self.others.fetch_add(1, Ordering::SeqCst);
        Err(UpstreamError::Garbage("not asked for here".to_owned()))
    }
}

#[async_trait::async_trait]
impl ManagedClusters for Counting {
    async fn get(&self, _: &ResourceId) -> Result<Seen, UpstreamError> {
        self.unexpected()
    }

    async fn prepare(&self, _: &ResourceId, _: &[UpgradeAction]) -> Result<(), UpstreamError> {
        self.unexpected()
    }

    async fn begin(
        &self,
        _: &ResourceId,
        _: &Seen,
        _: &UpgradeAction,
        _: TimeLeft<'_>,
    ) -> Result<Accepted, UpstreamError> {
        self.unexpected()
    }

    async fn poll(&self, _: &str, _: &str) -> Result<Progress, UpstreamError> {
        self.unexpected()
    }

    async fn list(&self, _: &str) -> Result<Vec<ManagedCluster>, UpstreamError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let pool = |name: &str, family: &str| json!({"name": name, "osType": "Linux", "orchestratorVersion": "1.33.2", "nodeImageVersion": format!("{family}-202508.20.1")});
        let cluster = |n: usize, location: &str| {
            let properties = json!({"provisioningState": "Succeeded", "kubernetesVersion": "1.33.2",
                "agentPoolProfiles": [pool("a", "U"), pool("b", "A")]});
            serde_json::from_value(json!({"id": World::cluster(n), "location": location, "properties": properties}))
                .unwrap()
        };
        Ok(vec![cluster(1, "eastus"), cluster(2, "westeurope")])
    }

    async fn pool_upgrade_profile(&self, _: &ResourceId, pool: &str) -> Result<PoolUpgradeProfile, UpstreamError> {
        self.profiles.fetch_add(1, Ordering::SeqCst);
        let family = if pool == "a" { "U" } else { "A" };
        let newest = NodeImage::new(format!("{family}-202509.1.0"));
        Ok(PoolUpgradeProfile { latest_node_image: Some(newest), recently_used: Vec::new() })
    }

    async fn snapshots(&self, _: &str) -> Result<Vec<NodePoolSnapshot>, UpstreamError> {
        self.unexpected()
    }
    async fn take_snapshot(&self, _: &ResourceId, _: &str, _: &ResourceId) -> Result<(), UpstreamError> {
        self.unexpected()
    }
    async fn delete_snapshot(&self, _: &ResourceId) -> Result<(), UpstreamError> {
        self.unexpected()
    }
    async fn kubernetes_versions(&self, _: &str, _: &str) -> Result<Vec<OfferedVersion>, UpstreamError> {
        self.versions.fetch_add(1, Ordering::SeqCst);
        let offer = |text: &str| OfferedVersion {
            version: text.parse().unwrap(),
            preview: false,
            long_term_only: false,
            long_term: false,
            upgrades: Vec::new(),
        };
        Ok(["1.32.7", "1.33.2"].map(offer).to_vec())
    }

    async fn maintenance_configurations(
        &self,
        _: &ResourceId,
        _: Freshness,
    ) -> Result<Vec<MaintenanceConfiguration>, UpstreamError> {
        self.unexpected()
    }

    fn left(&self, _: Class, _: &str) -> f64 {
        1.0
    }
}

async fn resource(pool: &Pool, id: &str, kind: &str, parent: Option<Uuid>, properties: Value) -> Uuid {
    let draft = Draft {
        location: None,
        tags: None,
        identity: None,
        properties,
        provisioning_state: ProvisioningState::Succeeded,
        operation: None,
    };
    let author = Author { name: "test", kind: "User" };
    let mut conn = pool.acquire().await.unwrap();
    let (id, parent) = (id.parse().unwrap(), parent.map(Parent::of));
    let made = resources::insert(&mut conn, &ByService(&id), kind, parent, &draft, author, Timestamp::now()).await;
    made.unwrap().unwrap().id
}

/// Returns the number of calls of some rounds with some profiles, one of them `Continuous`.
async fn calls(profiles: usize, looks: usize) -> (usize, usize) {
    let db = database().await;
    let fleet_id =
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets/f");
    let fleet = resource(&db.pool, &fleet_id, "Microsoft.ContainerService/fleets", None, json!({})).await;
    for n in 1..=2 {
        let cluster = World::cluster(n);
        let member = resource(
            &db.pool,
            &format!("{fleet_id}/members/m{n}"),
            "Microsoft.ContainerService/fleets/members",
            Some(fleet),
            json!({"clusterResourceId": cluster}),
        )
        .await;
        sqlx::query("INSERT INTO memberships (cluster_key, fleet_id, member_id) VALUES (lower($1), $2, $3)")
            .bind(cluster)
            .bind(fleet)
            .bind(member)
            .execute(&db.pool)
            .await
            .unwrap();
    }
    let channels = ["Rapid", "Stable", "NodeImage", "SecurityPatch"];
    for n in 0..profiles {
        let mut properties = json!({"channel": channels[n % channels.len()]});
        if n == 0 {
            properties["reconcile"] = json!("Continuous");
        }
        let kind = "Microsoft.ContainerService/fleets/autoUpgradeProfiles";
        let id = format!("{fleet_id}/autoUpgradeProfiles/p{n}");
        let profile = resource(&db.pool, &id, kind, Some(fleet), properties).await;
        auto_upgrade::create(&mut db.pool.acquire().await.unwrap(), profile, fleet).await.unwrap();
        engine::auto_upgrade::watch(&mut db.pool.acquire().await.unwrap(), fleet).await.unwrap();
    }
    let clusters = Arc::new(Counting::default());
    let options = AzureOptions { catalogue_age: Duration::from_secs(1), maintenance_age: Duration::from_secs(60) };
    let upstreams = Upstreams::new(Azure::new(clusters.clone(), options));
    let minute = Duration::from_secs(60);
    let policy = Policy { stopped: StoppedClusters::Fail, offer_recheck: minute, window_recheck: minute };
    let interval = Duration::from_millis(200);
    let workers =
        Workers::new(db.pool.clone(), Settings::new("test"), jobs::handlers(&db.pool, &upstreams, policy, interval));
    let stop = CancellationToken::new();
    let working = tokio::spawn(workers.unwrap().run(stop.clone()));
    eventually("so many looks", async || clusters.lists.load(Ordering::SeqCst) >= looks).await;
    stop.cancel();
    working.await.unwrap();
    assert_eq!(clusters.others.load(Ordering::SeqCst), 0, "nothing else was asked");
    (clusters.total(), clusters.lists.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_profiles_cost_as_many_calls_as_one() {
    // One list of clusters; in each of two regions one read of the versions, and one of the newest image of each of two families.
    let a_look = 1 + 2 * (1 + 2);
    for profiles in [1, 1_000] {
        let (calls, looks) = calls(profiles, 4).await;
        assert_eq!(calls, looks * a_look, "{profiles} profiles, {looks} looks");
    }
}
