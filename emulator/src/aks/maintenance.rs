//! Maintenance configurations of a cluster: synchronous, and independent of operations.

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::{Answer, not_allowed};
use crate::call::{Body, Call, Note, Reply};
use crate::cluster::Cluster;
use crate::errors::ArmError;
use crate::world::World;

const NAMES: [&str; 3] = ["default", "aksManagedAutoUpgradeSchedule", "aksManagedNodeOSUpgradeSchedule"];
const WINDOW: &str = "properties.maintenanceWindow";

/// Returns the resource ID, which has `resourceGroups`, unlike that of the cluster (recorded).
fn body(cluster: &Cluster, name: &str, properties: &Value) -> Value {
    let id = format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ContainerService/managedClusters/{}/maintenanceConfigurations/{name}",
        cluster.subscription, cluster.group, cluster.name
    );
    json!({"id": id, "name": name, "properties": properties})
}

/// Handles requests at and below `maintenanceConfigurations`.
pub(super) fn serve(
    world: &mut World,
    call: &Call,
    key: &str,
    rest: &[&str],
    note: &mut Note,
    now: Timestamp,
) -> Answer {
    if call.method == Method::GET {
        world.maintenance_reads += 1;
    }
    let Some(cluster) = world.clusters.get_mut(key) else { return Err(ArmError::not_found("The cluster is gone.")) };
    match (&call.method, rest) {
        (&Method::GET, []) => {
            let value: Vec<Value> =
                cluster.maintenance.values().map(|(name, properties)| body(cluster, name, properties)).collect();
            Ok(Reply::ok(json!({ "value": value })))
        }
        (&Method::GET, [name]) => match cluster.maintenance.get(*name) {
            Some((name, properties)) => Ok(Reply::ok(body(cluster, name, properties))),
            None => Err(ArmError::resource_not_found(
                &cluster.group,
                &format!(
                    "Microsoft.ContainerService/managedClusters/{}/maintenanceConfigurations/{name}",
                    cluster.name
                ),
            )),
        },
        (&Method::PUT, [name]) => {
            let Some(name) = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                let message = format!("Maintenance configuration name '{name}' is not one of {}.", NAMES.join(", "));
                return Err(ArmError::invalid("configName", message));
            };
            let properties = Value::Object(completed(call.properties()?, name, now)?);
            let reply = Reply::ok(body(cluster, name, &properties));
            cluster.maintenance.insert(name.to_lowercase(), (name.to_owned(), properties));
            note.applied = true;
            Ok(reply)
        }
        (&Method::DELETE, [name]) => {
            note.applied = cluster.maintenance.remove(*name).is_some();
            let status = if note.applied { StatusCode::OK } else { StatusCode::NO_CONTENT };
            Ok(Reply::new(status, Body::Empty))
        }
        (_, []) => Err(not_allowed(call, "GET")),
        (_, [_]) => Err(not_allowed(call, "GET, PUT, DELETE")),
        _ => Err(ArmError::unknown_type("managedClusters/maintenanceConfigurations")),
    }
}

/// Checks a window and adds the defaults of AKS: today as the start date, and the offset.
fn completed(mut properties: Map<String, Value>, name: &str, now: Timestamp) -> Result<Map<String, Value>, ArmError> {
    let Some(window) = properties.get_mut("maintenanceWindow").and_then(Value::as_object_mut) else {
        // Only `default` may have the older form, hours of a week.
        let weekly = name == "default" && properties.get("timeInWeek").is_some_and(Value::is_array);
        return if weekly { Ok(properties) } else { Err(ArmError::invalid(WINDOW, "maintenanceWindow is required.")) };
    };
    check_schedule(window.get("schedule"))?;
    if !window.get("durationHours").and_then(Value::as_u64).is_some_and(|hours| (4..=24).contains(&hours)) {
        return Err(ArmError::invalid(WINDOW, "durationHours must be between 4 and 24."));
    }
    let start = window.get("startTime").and_then(Value::as_str).unwrap_or_default();
    if start.len() != 5 || Time::strptime("%H:%M", start).is_err() {
        return Err(ArmError::invalid(WINDOW, "startTime must be between '00:00' and '23:59'."));
    }
    let offset = window.entry("utcOffset").or_insert_with(|| "+00:00".into());
    if !offset.as_str().is_some_and(is_offset) {
        return Err(ArmError::invalid(WINDOW, "utcOffset must match ^(-|\\+)[0-9]{2}:[0-9]{2}$."));
    }
    let today = now.to_zoned(TimeZone::UTC).date().to_string();
    let first_day = window.entry("startDate").or_insert_with(|| today.into());
    if !first_day.as_str().is_some_and(is_date) {
        return Err(ArmError::invalid(WINDOW, "startDate must be a date."));
    }
    let spans = window.get("notAllowedDates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let day = |span: &Value, end: &str| span.get(end).and_then(Value::as_str).is_some_and(is_date);
    if !spans.iter().all(|span| day(span, "start") && day(span, "end")) {
        return Err(ArmError::invalid(WINDOW, "notAllowedDates need a start and an end."));
    }
    Ok(properties)
}

fn is_date(text: &str) -> bool {
    text.parse::<Date>().is_ok()
}

fn is_offset(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['+', '-']) else { return false };
    rest.len() == 5 && Time::strptime("%H:%M", rest).is_ok()
}

/// Checks that there is exactly one of the four kinds of schedule, with an interval within bounds.
fn check_schedule(schedule: Option<&Value>) -> Result<(), ArmError> {
    let bounds =
        [("daily", "intervalDays", 7), ("weekly", "intervalWeeks", 4), ("absoluteMonthly", "intervalMonths", 6)];
    let bounds = bounds.into_iter().chain([("relativeMonthly", "intervalMonths", 6)]);
    let given: Vec<_> =
        bounds.filter_map(|(kind, interval, most)| Some((schedule?.get(kind)?, interval, most))).collect();
    let given: Vec<_> = given.into_iter().filter(|(kind, ..)| !kind.is_null()).collect();
    let [(kind, interval, most)] = given.as_slice() else {
        return Err(ArmError::invalid(
            WINDOW,
            "Exactly one of daily, weekly, absoluteMonthly and relativeMonthly must be given.",
        ));
    };
    if kind.get(interval).and_then(Value::as_u64).is_some_and(|n| (1..=*most).contains(&n)) {
        return Ok(());
    }
    Err(ArmError::invalid(WINDOW, format!("{interval} must be between 1 and {most}.")))
}
