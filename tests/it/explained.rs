//! A run explains itself: why each part waits, how far members are, and who did what.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::world::{Options, World, members, upgrade_to};

const LATE: Duration = Duration::from_secs(90);

async fn explained(world: &World, run: &str) -> Value {
    let answer = world.get(&format!("{run}?api-version=2026-06-01&explain=true")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["properties"]["status"].clone()
}

async fn explained_until(world: &World, run: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + LATE;
    loop {
        let status = explained(world, run).await;
        if holds(&status) {
            return status;
        }
        assert!(std::time::Instant::now() < deadline, "not {what}: {status:#}\n{}", world.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A member by its name: those whose windows are closed come last in a group.
fn member<'a>(status: &'a Value, name: &str) -> &'a Value {
    members(status).into_iter().find(|member| member["name"] == name).unwrap_or(&Value::Null)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_parts_say_why_and_what_to_do() {
    let world = World::start().await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a"), ("m2", 2, "a"), ("m3", 3, "b")]).await;
    // A window that opens once a week, and closed two hours ago.
    let week = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(6);
    let zoned = week.to_zoned(jiff::tz::TimeZone::UTC);
    let window = json!({"maintenanceWindow": {"schedule": {"weekly": {"intervalWeeks": 1, "dayOfWeek": zoned.strftime("%A").to_string()}},
        "durationHours": 4, "startTime": zoned.strftime("%H:%M").to_string(), "utcOffset": "+00:00"}});
    world.emulator("PUT", "/emulator/clusters/aks-1/maintenance/aksManagedAutoUpgradeSchedule", Some(window)).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-2"}, "action": {"hangOperation": true}})).await;
    let stages = json!([
        {"name": "first", "maxConcurrency": "2", "groups": [{"name": "a", "maxConcurrency": "2"}]},
        {"name": "second", "beforeGates": [{"type": "Approval", "displayName": "look first"}], "groups": [{"name": "b"}]},
    ]);
    let properties = json!({"strategy": {"stages": stages}, "managedClusterUpdate": upgrade_to("Full", "1.33.2")});
    let run = format!("{fleet}/updateRuns/r");
    assert_eq!(world.put(&run, json!({"properties": properties})).await.status, 201);
    let before = explained(&world, &run).await;
    assert_eq!(before["explanation"], "The update run begins when somebody starts it.");
    assert_eq!(world.post(&format!("{run}/start"), None).await.status, 200);
    let both = |status: &Value| {
        let state = |name: &str| text(&member(status, name)["status"], "state");
        (state("m1"), state("m2"), state("m3")) == ("Pending", "Running", "NotStarted")
            && text(member(status, "m2"), "message").contains("since")
    };
    let status = explained_until(&world, &run, "waiting", both).await;
    let waits = "1 member waits for a maintenance window; the next opens at ";
    assert!(text(&status, "explanation").contains(waits), "{status:#}");
    let (first, second) = (&status["stages"][0], &status["stages"][1]);
    assert!(text(&first["groups"][0], "explanation").starts_with("1 member is in progress."), "{first:#}");
    assert_eq!(second["explanation"], "Begins when stage 'first' has finished.");
    assert_eq!(text(member(&status, "m3"), "explanation"), "Begins when group 'b' begins.");
    let step = text(member(&status, "m2"), "message");
    assert!(step.starts_with("Step 1 of ") && step.contains("control plane to Kubernetes 1.33.2, since 20"), "{step}");
    let plain = world.get(&run).await.body.to_string();
    assert!(!plain.contains("\"explanation\"") && !plain.contains("\"actions\""), "only for who asks: {plain}");

    // When no member is in progress, Pending parts have their reason in every answer.
    world.emulator("POST", "/emulator/operations/release", None).await;
    let status = world.reaches(&run, "Pending", LATE).await;
    for part in [&status["status"], &status["stages"][0]["status"], &status["stages"][0]["groups"][0]["status"]] {
        assert_eq!(part["error"]["code"], "MembersPending", "{status:#}");
        assert!(text(&part["error"], "message").contains(waits), "{part:#}");
    }
    let targets = json!({"targets": [{"type": "Member", "name": "m1"}]});
    assert_eq!(world.post(&format!("{run}/skip"), Some(targets)).await.status, 200);
    let gate = |status: &Value| text(&status["stages"][1]["beforeGates"][0]["status"], "state") == "Pending";
    let status = explained_until(&world, &run, "at the gate", gate).await;
    assert!(text(&status, "explanation").contains("for the approval of gate 'look first' ("), "{status:#}");
    let id = text(&status["stages"][1]["beforeGates"][0], "gateId").to_owned();
    assert_eq!(world.patch(&id, json!({"properties": {"state": "Completed"}})).await.status, 200);
    world.reaches(&run, "Completed", LATE).await;

    let actions = explained(&world, &run).await["actions"].as_array().unwrap().clone();
    let done: Vec<&str> = actions.iter().map(|action| text(action, "action")).collect();
    assert_eq!(done, ["Start", "Skip", "CompleteGate"], "{actions:?}");
    assert_eq!(actions[1]["targets"], json!(["m1"]));
    assert!(id.ends_with(actions[2]["targets"][0].as_str().unwrap()));
    assert!(actions.iter().all(|action| !text(action, "principal").is_empty() && !text(action, "time").is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_about_an_outage_goes_when_it_is_over() {
    let world = World::start_with(Options { upgrade_seconds: 0.3, ..Options::default() }).await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    world.fault(json!({"match": {"method": "PUT", "cluster": "aks-1"}, "action": {"hangOperation": true}})).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("ControlPlaneOnly", "1.33.2")});
    let run = world.start_run(&fleet, "r", properties).await;
    let says = |part: &'static str| move |status: &Value| text(members(status)[0], "message").contains(part);
    world.until(&run, LATE, "in progress", says("Step 1 of 1: control plane")).await;
    let fault = json!({"match": {"path": "/operations/"}, "times": 1000, "action": {"status": 503}});
    world.fault(fault).await;
    world.until(&run, LATE, "an outage", says("AKS cannot be called")).await;
    world.emulator("DELETE", "/emulator/faults", None).await;
    let status = world.until(&run, LATE, "over", |s| text(members(s)[0], "message").starts_with("Step 1 of 1")).await;
    assert_eq!(members(&status)[0]["status"]["state"], "Running");
    world.emulator("POST", "/emulator/operations/release", None).await;
    let status = world.reaches(&run, "Completed", LATE).await;
    assert!(members(&status)[0]["message"].is_null(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_version_says_when_it_is_checked_again() {
    let world =
        World::start_with(Options { env: vec![("FLEET_OFFER_RECHECK_SECONDS", "7".to_owned())], ..Options::default() })
            .await;
    let fleet = world.fleet_of("f", &[("m1", 1, "a")]).await;
    let properties = json!({"managedClusterUpdate": upgrade_to("Full", "1.33.4")});
    let run = world.start_run(&fleet, "r", properties).await;
    let status = world.reaches(&run, "Pending", LATE).await;
    let error = &members(&status)[0]["status"]["error"];
    assert_eq!(error["code"], "KubernetesVersionNotAvailable");
    assert!(text(error, "message").contains("checks again every 7 s"), "{error}");
}

/// The codes of `docs/states.md` are those of the sources.
#[test]
fn the_table_of_states_has_every_code_and_no_other() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/states.md")).unwrap();
    let is_code = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphabetic())
            && text.chars().next().is_some_and(|c| c.is_ascii_uppercase())
            && text.chars().filter(char::is_ascii_uppercase).count() > 1
            && text.chars().any(|c| c.is_ascii_lowercase())
    };
    let mut listed = std::collections::BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cell = row.split('|').nth(1).unwrap_or_default();
        listed.extend(cell.split('`').skip(1).step_by(2).filter(|text| is_code(text)).map(str::to_owned));
    }
    // A state in the first column is not a code.
    listed.remove("NotStarted");
    // The API itself refuses the change of a run that was started.
    listed.remove("UpdateRunAlreadyStarted");
    let (mut used, mut everything) = (std::collections::BTreeSet::new(), String::new());
    for room in ["src/rollout", "src/jobs", "src/engine", "src/upstreams"] {
        sources(&root.join(room), &mut |text| {
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            everything.push_str(text);
            let constant = |name: &str| {
                let found = text.split(&format!("const {name}: &str = \"")).nth(1)?;
                found.split('"').next().map(str::to_owned)
            };
            for call in ["ErrorDetail::new(", "conflict(", "transient("] {
                for after in text.split(call).skip(1) {
                    let after = after.trim_start();
                    let code = match after.strip_prefix('"') {
                        Some(literal) => literal.split('"').next().map(str::to_owned),
                        None => after.split([',', ')']).next().and_then(|name| constant(name.trim())),
                    };
                    used.extend(code.filter(|code| is_code(code)));
                }
            }
        });
    }
    // Codes of auto-upgrade profiles, joins and pass-through are documented elsewhere. The last two occur in `details` only.
    for elsewhere in [
        "CatalogueNotAvailable",
        "ClusterInAnotherTenant",
        "FeatureNotAvailable",
        "InternalServerError",
        "InvalidUpdateStrategy",
        "UpdateStrategyNotFound",
        "NotFound",
    ] {
        used.remove(elsewhere);
    }
    let missing: Vec<_> = used.difference(&listed).collect();
    let stale: Vec<_> = listed.iter().filter(|code| !everything.contains(&format!("\"{code}\""))).collect();
    assert!(missing.is_empty(), "not in docs/states.md: {missing:?}");
    assert!(stale.is_empty(), "in docs/states.md, and in no source: {stale:?}");
}

fn sources(dir: &std::path::Path, each: &mut impl FnMut(&str)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, each);
        } else if name.ends_with(".rs") && !["tests.rs", "rules.rs", "simulation.rs"].contains(&name.as_str()) {
            each(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
