//! Resources: the catalogue, shapes of bodies and errors, deletion, maintenance configurations.

use axum::http::Method;
use serde_json::json;

use super::{Bench, RG1, three_pools};
use crate::config::Config;

#[test]
fn the_catalogue_is_a_function_of_the_seed() {
    let clusters = |seed, clusters| {
        let mut bench = Bench::new(Config { seed, clusters, ..Config::default() });
        ["aks-1", "aks-2", "aks-12"].map(|name| bench.cluster(name))
    };
    assert_eq!(clusters(7, 12), clusters(7, 500), "however many there are");
    assert_ne!(clusters(7, 12), clusters(8, 12));
    for cluster in clusters(3, 12) {
        let properties = &cluster["properties"];
        assert!(["1.32.5", "1.32.7"].contains(&properties["kubernetesVersion"].as_str().unwrap()));
        assert!((1..=3).contains(&properties["agentPoolProfiles"].as_array().unwrap().len()));
        assert_eq!(cluster["identity"]["tenantId"], "11111111-1111-1111-1111-111111111111");
    }
}

#[test]
fn bodies_have_the_keys_of_the_recordings() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let cluster = bench.cluster("three");
    let id = "/subscriptions/00000000-0000-0000-0000-000000000001/resourcegroups/rg1/providers/Microsoft.ContainerService/managedClusters/three";
    assert_eq!((&cluster["id"], &cluster["type"]), (&json!(id), &json!("Microsoft.ContainerService/ManagedClusters")));
    for key in ["location", "name", "identity", "sku", "eTag"] {
        assert!(cluster.get(key).is_some(), "{key}");
    }
    let recorded = "provisioningState powerState kubernetesVersion currentKubernetesVersion dnsPrefix fqdn azurePortalFQDN \
                    agentPoolProfiles linuxProfile servicePrincipalProfile nodeResourceGroup enableRBAC networkProfile maxAgentPools \
                    identityProfile disableLocalAccounts securityProfile storageProfile oidcIssuerProfile workloadAutoScalerProfile";
    for key in recorded.split_whitespace() {
        assert!(cluster["properties"].get(key).is_some(), "{key}");
    }
    let recorded = "name count vmSize osDiskSizeGB osDiskType kubeletDiskType workloadRuntime maxPods type enableAutoScaling \
                    provisioningState powerState orchestratorVersion currentOrchestratorVersion enableNodePublicIP mode \
                    enableEncryptionAtHost enableUltraSSD osType osSKU nodeImageVersion upgradeSettings enableFIPS networkProfile";
    for key in recorded.split_whitespace() {
        assert!(cluster["properties"]["agentPoolProfiles"][2].get(key).is_some(), "{key}");
    }
    assert_eq!(cluster["properties"]["agentPoolProfiles"][2]["osSKU"], "Windows2022");
    let pool = bench.get(&format!("{url}/agentPools/win"));
    assert_eq!(
        (&pool["id"], &pool["type"]),
        (&json!(format!("{id}/agentPools/win")), &json!("Microsoft.ContainerService/managedClusters/agentPools"))
    );
    assert!(pool["properties"]["nodeImageVersion"].as_str().unwrap().starts_with("AKSWindows-2022-containerd-20348."));

    let profile = bench.get(&format!("{url}/upgradeProfiles/default"));
    assert_eq!(profile["id"], format!("{id}/upgradeprofiles/default"));
    assert!(profile["properties"]["agentPoolProfiles"].is_null());
    let control_plane = &profile["properties"]["controlPlaneProfile"];
    assert_eq!(control_plane["upgrades"][0], json!({"kubernetesVersion": "1.33.5"}), "newest first");
    let versions = bench.get("/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/eastus/kubernetesVersions");
    let minors = versions["values"].as_array().unwrap();
    let find = |minor: &str| minors.iter().find(|value| value["version"] == minor).unwrap();
    assert_eq!(find("1.33")["patchVersions"]["1.33.2"]["upgrades"], json!(["1.33.5", "1.34.0", "1.34.1"]));
    assert_eq!((&find("1.33")["isDefault"], &find("1.35")["isPreview"]), (&json!(true), &json!(true)));
    assert!(find("1.33").get("isPreview").is_none());
    let sweden = bench.get("/subscriptions/00000000-0000-0000-0000-000000000001/providers/Microsoft.ContainerService/locations/swedencentral/kubernetesVersions");
    assert!(!sweden.to_string().contains("1.34"), "lag");
    let available = bench.get(&format!("{url}/availableAgentPoolVersions"));
    let offered = available["properties"]["agentPoolVersions"].as_array().unwrap();
    assert_eq!(offered.last().unwrap()["kubernetesVersion"], "1.32.7");
    let kubeconfigs = bench.post(&format!("{url}/listClusterUserCredential")).body;
    assert_eq!(kubeconfigs["kubeconfigs"][0]["name"], "clusterUser");
}

#[test]
fn errors_have_the_codes_of_arm() {
    let mut bench = Bench::new(Config::default());
    let mut get = |url: &str| {
        let answered = bench.send(Method::GET, url, None);
        (answered.status, answered.body["error"]["code"].as_str().unwrap_or("").to_owned())
    };
    let known = "/subscriptions/00000000-0000-0000-0000-000000000001";
    let provider = "providers/Microsoft.ContainerService/managedClusters";
    assert_eq!(get(&format!("{RG1}/none")), (404, "ResourceNotFound".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/agentPools/none")), (404, "ResourceNotFound".into()));
    assert_eq!(get(&format!("{known}/resourceGroups/none/{provider}/aks-1")), (404, "ResourceGroupNotFound".into()));
    assert_eq!(
        get(&format!("/subscriptions/00000000-0000-0000-0000-000000000009/{provider}")),
        (404, "SubscriptionNotFound".into())
    );
    assert_eq!(get(&format!("/subscriptions/x/{provider}")), (400, "InvalidSubscriptionId".into()));
    assert_eq!(get(&format!("{RG1}?x=1")), (400, "MissingApiVersionParameter".into()));
    assert_eq!(get(&format!("{RG1}?api-version=newest")), (400, "InvalidApiVersionParameter".into()));
    assert_eq!(get(&format!("{RG1}?api-version=2018-03-31")), (400, "NoRegisteredProviderFound".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/stop")), (405, "MethodNotAllowed".into()));
    assert_eq!(get(&format!("{RG1}/aks-1/unheardOf")), (404, "InvalidResourceType".into()));
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), json!([])).code(), (400, "InvalidRequestContent"));
    let number = json!({"properties": {"kubernetesVersion": 1.33}});
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), number).code(), (400, "InvalidRequestContent"));
    assert_eq!(bench.post(&format!("{RG1}/aks-1/agentPools/nodepool1")).headers["allow"], "GET, PUT, DELETE");
    let moved = json!({"location": "westeurope", "properties": {}});
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), moved).code(), (409, "InvalidResourceLocation"));
    let dropped = json!({"location": "eastus", "properties": {"agentPoolProfiles": []}});
    assert_eq!(bench.put(&format!("{RG1}/aks-1"), dropped).code(), (400, "InvalidParameter"));
    assert_eq!(bench.send(Method::DELETE, &format!("{RG1}/none"), None).status, 204);
}

#[test]
fn deletion_is_asynchronous_and_the_last_system_pool_stays() {
    let mut bench = Bench::new(Config::default());
    let url = three_pools(&mut bench);
    let delete = |bench: &mut Bench, url: &str| bench.send(Method::DELETE, url, None);
    assert_eq!(delete(&mut bench, &format!("{url}/agentPools/sys")).code(), (400, "OperationNotAllowed"));
    assert_eq!(delete(&mut bench, &format!("{url}/agentPools/win")).status, 202);
    bench.at(20.0);
    assert_eq!(bench.get(&format!("{url}/agentPools"))["value"].as_array().unwrap().len(), 2);
    let deleted = delete(&mut bench, &url);
    assert_eq!(deleted.status, 202);
    assert_eq!(bench.cluster("three")["properties"]["provisioningState"], "Deleting");
    bench.at(40.0);
    assert_eq!(bench.send(Method::GET, &url, None).code(), (404, "ResourceNotFound"));
    assert_eq!(bench.operation(&deleted)["status"], "Succeeded", "operations outlive their cluster");
}

#[test]
fn maintenance_configurations_are_checked_and_completed() {
    let mut bench = Bench::new(Config::default());
    let url = format!("{RG1}/aks-1/maintenanceConfigurations");
    assert_eq!(bench.get(&url), json!({"value": []}));
    let window = |hours: u32| {
        json!({"properties": {"maintenanceWindow": {
            "schedule": {"weekly": {"intervalWeeks": 3, "dayOfWeek": "Friday"}}, "durationHours": hours, "startTime": "00:00",
        }}})
    };
    let put = bench.put(&format!("{url}/aksmanagedautoupgradeschedule"), window(8));
    assert_eq!(put.status, 200);
    assert_eq!(put.body["name"], "aksManagedAutoUpgradeSchedule");
    assert!(put.body["id"].as_str().unwrap().contains("/resourceGroups/"));
    let kept = &put.body["properties"]["maintenanceWindow"];
    assert_eq!((&kept["startDate"], &kept["utcOffset"]), (&json!("2026-11-20"), &json!("+00:00")));
    assert_eq!(bench.get(&url)["value"][0], put.body);
    assert_eq!(bench.put(&format!("{url}/aksManagedNodeOSUpgradeSchedule"), window(3)).status, 400);
    assert_eq!(bench.put(&format!("{url}/mine"), window(8)).status, 400);
    let two = json!({"properties": {"maintenanceWindow": {
        "schedule": {"daily": {"intervalDays": 1}, "weekly": {"intervalWeeks": 1, "dayOfWeek": "Friday"}}, "durationHours": 4, "startTime": "00:00",
    }}});
    assert_eq!(bench.put(&format!("{url}/default"), two).status, 400);
    let delete = format!("{url}/aksManagedAutoUpgradeSchedule");
    assert_eq!(bench.send(Method::DELETE, &delete, None).status, 200);
    assert_eq!(bench.send(Method::DELETE, &delete, None).status, 204);
}
