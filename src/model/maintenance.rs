//! Maintenance configurations of a cluster (`managedClusters/maintenanceConfigurations`), as AKS returns them.
//!
//! Parsing is tolerant: every answer is a configuration, and one with an unreadable window has an error. An unreadable window
//! permits no upgrade.

use jiff::{
    civil::{Date, Time, Weekday},
    tz::Offset,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::calendar::{Schedule, WeekIndex, Window};

/// A maintenance configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub struct MaintenanceConfiguration {
    /// Name, which determines the purpose; empty if AKS sent none.
    pub name: String,
    /// Its `maintenanceWindow`.
    pub window: Result<Window, Unreadable>,
}

/// Why a window is unreadable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl From<Value> for MaintenanceConfiguration {
    fn from(wire: Value) -> Self {
        let name = wire.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let window = match wire.pointer("/properties/maintenanceWindow") {
            Some(Value::Object(window)) => read(window),
            None | Some(Value::Null) => Err(Unreadable("it has no maintenanceWindow".to_owned())),
            Some(_) => Err(wrong("maintenanceWindow", "an object")),
        };
        Self { name, window }
    }
}

type Read<T> = Result<T, Unreadable>;

fn wrong(what: &str, should: &str) -> Unreadable {
    Unreadable(format!("{what} is not {should}"))
}

fn read(window: &Map<String, Value>) -> Read<Window> {
    let schedule = schedule(window.get("schedule"))?;
    let start_date = match given(window, "startDate") {
        None => None,
        Some(date) => Some(read_date(date).ok_or_else(|| wrong("startDate", "a date such as 2026-04-14"))?),
    };
    let start_time = given(window, "startTime").and_then(Value::as_str).and_then(read_time);
    let start_time = start_time.ok_or_else(|| wrong("startTime", "a time such as 09:30"))?;
    let offset = match given(window, "utcOffset") {
        None => Offset::UTC,
        Some(offset) => {
            let offset = offset.as_str().and_then(read_offset);
            offset.ok_or_else(|| wrong("utcOffset", "an offset such as +05:30"))?
        }
    };
    let hours = number(window, "durationHours")?;
    let closed = match given(window, "notAllowedDates") {
        None => Vec::new(),
        Some(spans) => {
            let spans = spans.as_array().and_then(|spans| spans.iter().map(read_span).collect());
            spans.ok_or_else(|| wrong("notAllowedDates", "a list of dates from start to end"))?
        }
    };
    Window::new(schedule, start_date, start_time, hours, offset, &closed).map_err(|error| Unreadable(error.to_string()))
}

fn schedule(schedule: Option<&Value>) -> Read<Schedule> {
    let kinds = ["daily", "weekly", "absoluteMonthly", "relativeMonthly"];
    let of_kind = |kind: &'static str| Some((kind, schedule?.get(kind)?.as_object()?));
    let mut given = kinds.into_iter().filter_map(of_kind);
    let (Some((kind, schedule)), None) = (given.next(), given.next()) else {
        return Err(wrong("schedule", &format!("exactly one of {}", kinds.join(", "))));
    };
    match kind {
        "daily" => Ok(Schedule::Daily { interval_days: number(schedule, "intervalDays")? }),
        "weekly" => Ok(Schedule::Weekly {
            interval_weeks: number(schedule, "intervalWeeks")?,
            day_of_week: day_of_week(schedule)?,
        }),
        "absoluteMonthly" => Ok(Schedule::AbsoluteMonthly {
            interval_months: number(schedule, "intervalMonths")?,
            day_of_month: number(schedule, "dayOfMonth")?,
        }),
        _ => Ok(Schedule::RelativeMonthly {
            interval_months: number(schedule, "intervalMonths")?,
            week_index: week_index(schedule)?,
            day_of_week: day_of_week(schedule)?,
        }),
    }
}

/// Returns the value unless it is `null`.
fn given<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn number<T: TryFrom<u64>>(object: &Map<String, Value>, name: &str) -> Read<T> {
    let number = object.get(name).and_then(Value::as_u64).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| wrong(name, "a number that it can be"))
}

fn day_of_week(schedule: &Map<String, Value>) -> Read<Weekday> {
    let day = match schedule.get("dayOfWeek").and_then(Value::as_str).unwrap_or_default() {
        "Sunday" => Weekday::Sunday,
        "Monday" => Weekday::Monday,
        "Tuesday" => Weekday::Tuesday,
        "Wednesday" => Weekday::Wednesday,
        "Thursday" => Weekday::Thursday,
        "Friday" => Weekday::Friday,
        "Saturday" => Weekday::Saturday,
        _ => return Err(wrong("dayOfWeek", "one of Sunday to Saturday")),
    };
    Ok(day)
}

fn week_index(schedule: &Map<String, Value>) -> Read<WeekIndex> {
    let index = match schedule.get("weekIndex").and_then(Value::as_str).unwrap_or_default() {
        "First" => WeekIndex::First,
        "Second" => WeekIndex::Second,
        "Third" => WeekIndex::Third,
        "Fourth" => WeekIndex::Fourth,
        "Last" => WeekIndex::Last,
        _ => return Err(wrong("weekIndex", "one of First, Second, Third, Fourth and Last")),
    };
    Ok(index)
}

fn read_date(date: &Value) -> Option<Date> {
    Date::strptime("%Y-%m-%d", date.as_str()?).ok()
}

fn read_time(text: &str) -> Option<Time> {
    if text.len() == 5 { Time::strptime("%H:%M", text).ok() } else { None }
}

fn read_offset(text: &str) -> Option<Offset> {
    let time = read_time(text.strip_prefix(['+', '-'])?)?;
    let seconds = i32::from(time.hour()) * 3600 + i32::from(time.minute()) * 60;
    Offset::from_seconds(if text.starts_with('-') { -seconds } else { seconds }).ok()
}

fn read_span(span: &Value) -> Option<(Date, Date)> {
    Some((read_date(span.get("start")?)?, read_date(span.get("end")?)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::calendar::State;

    fn read(window: Value) -> MaintenanceConfiguration {
        let name = "aksManagedAutoUpgradeSchedule";
        serde_json::from_value(json!({"id": "/i", "name": name, "properties": {"maintenanceWindow": window}})).unwrap()
    }

    fn opens(window: Value, after: &str) -> String {
        match read(window).window.unwrap().at(after.parse().unwrap()) {
            State::Closed { opens: Some(opens) } => opens.to_string(),
            state => format!("{state:?}"),
        }
    }

    #[test]
    fn windows_recorded_from_aks_are_read() {
        let weekly = json!({"schedule": {"weekly": {"intervalWeeks": 3, "dayOfWeek": "Friday"}}, "durationHours": 8,
            "utcOffset": "+05:30", "startDate": "2123-01-01", "startTime": "00:00"});
        assert_eq!(opens(weekly, "2026-01-01T00:00:00Z"), "2122-12-31T18:30:00Z");
        let relative = json!({"schedule": {"relativeMonthly": {"intervalMonths": 1, "weekIndex": "Last", "dayOfWeek": "Tuesday"}},
            "durationHours": 12, "utcOffset": "-08:00", "startDate": "2123-01-01", "startTime": "09:00"});
        assert_eq!(opens(relative, "2026-01-01T00:00:00Z"), "2123-01-26T17:00:00Z");
        let daily = json!({"durationHours": 4, "schedule": {"daily": {"intervalDays": 3}}, "startDate": "2023-01-01",
            "notAllowedDates": [{"end": "2023-02-25", "start": "2023-02-18"}], "startTime": "09:30", "utcOffset": "-07:00"});
        assert_eq!(opens(daily, "2023-02-18T00:00:00Z"), "2023-02-27T16:30:00Z");
    }

    #[test]
    fn a_configuration_without_properties_is_read() {
        let bare = json!({"schedule": {"daily": null, "absoluteMonthly": {"intervalMonths": 1, "dayOfMonth": 31}},
            "durationHours": 4, "utcOffset": null, "startDate": null, "startTime": "00:00", "notAllowedDates": null, "x": 1});
        assert_eq!(opens(bare, "2026-02-01T00:00:00Z"), "2026-03-31T00:00:00Z");
    }

    #[test]
    fn an_unreadable_window_has_an_error() {
        let good = json!({"schedule": {"daily": {"intervalDays": 1}}, "durationHours": 4, "startTime": "00:00"});
        assert!(read(good.clone()).window.is_ok());
        for (path, value, expected) in [
            ("/schedule", json!({}), "schedule is not exactly one of daily"),
            ("/schedule", json!({"hourly": {}}), "schedule is not exactly one of daily"),
            (
                "/schedule",
                json!({"daily": {"intervalDays": 1}, "weekly": {"intervalWeeks": 1, "dayOfWeek": "Monday"}}),
                "exactly one",
            ),
            ("/schedule", json!({"daily": {"intervalDays": "1"}}), "intervalDays"),
            ("/schedule", json!({"daily": {"intervalDays": 0}}), "at least 1"),
            ("/schedule", json!({"weekly": {"intervalWeeks": 1, "dayOfWeek": "Funday"}}), "dayOfWeek"),
            ("/schedule", json!({"absoluteMonthly": {"intervalMonths": 1, "dayOfMonth": 32}}), "between 1 and 31"),
            (
                "/schedule",
                json!({"relativeMonthly": {"intervalMonths": 1, "weekIndex": "Fifth", "dayOfWeek": "Monday"}}),
                "weekIndex",
            ),
            ("/durationHours", json!(-4), "durationHours"),
            ("/durationHours", json!(25), "between 1 and 24 hours"),
            ("/durationHours", json!(u64::MAX), "durationHours"),
            ("/startTime", json!("24:00"), "startTime"),
            ("/startTime", json!(null), "startTime"),
            ("/startDate", json!("2026-02-30"), "startDate"),
            ("/startDate", json!(20260230), "startDate"),
            ("/utcOffset", json!("Z"), "utcOffset"),
            ("/utcOffset", json!("+99:00"), "utcOffset"),
            ("/notAllowedDates", json!([{"start": "2026-01-01"}]), "notAllowedDates"),
            ("/notAllowedDates", json!([{"start": "2026-01-02", "end": "2026-01-01"}]), "before it starts"),
            ("/notAllowedDates", json!({}), "notAllowedDates"),
        ] {
            let mut window = good.clone();
            window[&path[1..]] = value.clone();
            let why = read(window).window.unwrap_err().to_string();
            assert!(why.contains(expected), "{path} {value}: {why}");
        }
        for odd in [json!(null), json!(7), json!([])] {
            assert!(read(odd).window.unwrap_err().to_string().contains("maintenanceWindow"));
        }
        for odd in [json!(null), json!("x"), json!({"name": 7, "properties": []})] {
            let odd: MaintenanceConfiguration = serde_json::from_value(odd).unwrap();
            assert!(odd.name.is_empty() && odd.window.is_err());
        }
    }
}
