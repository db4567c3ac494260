//! Features of previews, compared with the reconstructed document of the newest preview: scheduled starts and member selectors.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    checker::{Checker, Way},
    document::Contract,
};
use crate::harness::world::{Answer, World, upgrade_to};

const VERSION: &str = "?api-version=2026-06-02-preview";

/// Sends a request, and checks request and response.
async fn call(world: &World, contract: &Contract, method: &str, path: &str, body: Option<Value>) -> Answer {
    let answer = world.call(method, &format!("{path}{VERSION}"), body.clone()).await;
    assert!(answer.status < 300, "{method} {path}: {}", answer.body);
    let operation = contract.operation(method, path).unwrap_or_else(|| panic!("{method} {path}"));
    if let Some(body) = &body {
        let parameters = operation.value["parameters"].as_array().unwrap();
        let parameter = parameters.iter().find(|parameter| parameter["in"] == "body").unwrap();
        let mut checker = Checker::new(contract, Way::Request);
        checker.check(contract.schema(&parameter["schema"]), body, operation.id());
        assert!(checker.findings.is_empty(), "{:#?}", checker.findings);
    }
    let schema = &operation.value["responses"][answer.status.to_string()]["schema"];
    let mut checker = Checker::new(contract, Way::Answer);
    checker.check(contract.schema(schema), &answer.body, operation.id());
    assert!(checker.findings.is_empty(), "{:#?}", checker.findings);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_and_selectors_are_as_the_preview_describes_them() {
    let Some(contract) = Contract::load_preview() else { return };
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "g"), ("m2", 2, "")]).await;
    let at = json!({"startDay": "Friday", "startTime": "18:00", "utcOffset": "-05:00"});
    let gates = json!([{"type": "ScheduledStart", "displayName": "at night", "scheduledStartConfiguration": at}, {"type": "Approval"}]);
    let stages = json!([
        {"name": "s", "memberSelector": {"byLabel": "fleet.azure.com/location,env notin (prod)"}, "maxAllowedFailures": "25%"},
        {"name": "t", "beforeGates": gates, "groups": [{"name": "g", "memberSelector": {"byLabel": "env=prod"}, "beforeGates": gates}]},
        {"name": "u", "beforeGates": gates, "memberSelector": {"byLabel": "fleet.azure.com/member-name=m2"}},
    ]);
    let label = json!({"properties": {"labels": {"env": "prod"}}});
    call(&world, &contract, "PATCH", &format!("{fleet}/members/m1"), Some(label)).await;
    let strategy = format!("{fleet}/updateStrategies/s");
    let body = json!({"properties": {"strategy": {"stages": stages}}});
    let made = call(&world, &contract, "PUT", &strategy, Some(body)).await;
    assert_eq!(made.body["properties"]["strategy"]["stages"], stages, "as it was written");
    let run = format!("{fleet}/updateRuns/r");
    let body = json!({"properties": {"updateStrategyId": strategy, "managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")}});
    call(&world, &contract, "PUT", &run, Some(body)).await;
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    world.reaches(&run, "Pending", Duration::from_secs(30)).await;
    call(&world, &contract, "GET", &run, None).await;
    let gates = call(&world, &contract, "GET", &format!("{fleet}/gates"), None).await.body["value"].clone();
    let scheduled =
        gates.as_array().unwrap().iter().find(|gate| gate["properties"]["gateType"] == "ScheduledStart").unwrap();
    assert!(scheduled["properties"]["scheduledStartProperties"]["absoluteStartTime"].is_string(), "{scheduled}");
    let done = json!({"properties": {"state": "Completed"}});
    call(&world, &contract, "PATCH", scheduled["id"].as_str().unwrap(), Some(done)).await;
}
