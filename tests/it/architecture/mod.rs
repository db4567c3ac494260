//! Dependencies between rooms, circles between modules, and what rooms must not contain. These tests read the sources, so that a
//! wrong `use` fails.

mod sources;

use std::{collections::BTreeSet, fs, path::Path};

use self::sources::{Crate, Module};

/// Room → rooms that it may use, from the bottom to the top: a room uses rooms above it in this list only.
const MAY_USE: &[(&str, &[&str])] = &[
    // Pure.
    ("arm", &[]),
    ("calendar", &[]),
    ("model", &["calendar", "arm"]),
    ("rollout", &["model", "calendar", "arm"]),
    ("autoupgrade", &["model", "arm"]),
    // State, and the world outside.
    ("database", &[]),
    ("transport", &[]),
    ("work", &["database"]),
    ("identity", &["transport", "arm"]),
    ("upstreams", &["transport", "model", "arm"]),
    ("webhooks", &["transport", "rollout", "model", "arm"]),
    ("store", &["database", "identity", "rollout", "autoupgrade", "model", "arm", "work", "webhooks"]),
    // Settings; no behaviour.
    ("config", &["identity", "model", "arm", "webhooks"]),
    ("telemetry", &["config"]),
    // Work.
    ("engine", &["database", "store", "work", "rollout", "autoupgrade", "webhooks", "model", "arm"]),
    (
        "jobs",
        &[
            "database",
            "engine",
            "store",
            "work",
            "rollout",
            "autoupgrade",
            "upstreams",
            "webhooks",
            "model",
            "arm",
            "config",
        ],
    ),
    // Edges.
    (
        "api",
        &["database", "engine", "store", "work", "rollout", "autoupgrade", "identity", "transport", "model", "arm"],
    ),
    ("local", &["identity", "model", "arm", "config"]),
    (
        "app",
        &[
            "api",
            "jobs",
            "engine",
            "store",
            "work",
            "database",
            "upstreams",
            "webhooks",
            "identity",
            "transport",
            "config",
            "local",
            "arm",
            "telemetry",
        ],
    ),
    ("cli", &["app", "api", "local", "config", "telemetry", "identity", "model", "arm"]),
];

/// Modules that use each other in a circle now. Add none; remove a circle's modules here when you remove the circle.
const IN_A_CIRCLE: &[&str] = &["jobs::upgrade", "jobs::upgrade::windows"];

/// Rooms without async, database, network, clock, environment and randomness: the same input gives the same output.
const PURE: &[&str] = &["arm", "calendar", "model", "rollout", "autoupgrade"];
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "reqwest",
    "axum",
    "std::fs",
    "std::net",
    "std::env",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "rand::",
    "async",
];

/// Rooms and modules that may have SQL: the store, the job engine, and what creates a database on a private server.
const SQL: &[&str] = &["store", "work", "local::database"];

/// Modules of request handlers that may load a resource without a proof that the caller may read it, and why. These modules lock the
/// resource until the transaction ends; they neither change nor show it.
const BY_SERVICE: &[(&str, &str)] = &[
    ("api::front_door::authorization::assignments", "the scope of a new assignment must exist"),
    ("api::resources::handlers", "the fleet of a new resource must exist, and must not be in deletion"),
    ("api::resources::profiles", "a profile's fleet and strategy must exist; access to the strategy is checked before"),
    ("api::resources::runs", "a run copies its strategy; access to the strategy is checked before"),
];

fn source() -> Crate {
    Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The first name of a module's path.
fn room(path: &str) -> &str {
    path.split("::").next().unwrap()
}

/// The modules of a room, each with its path.
fn modules_of<'a>(source: &'a Crate, wanted: &'a str) -> impl Iterator<Item = (&'a str, &'a Module)> {
    source.modules().filter(move |(path, _)| room(path) == wanted)
}

#[test]
fn each_room_uses_only_rooms_below_it() {
    let source = source();
    for (path, module) in source.modules().filter(|(path, _)| !path.is_empty()) {
        let found = MAY_USE.iter().find(|(name, _)| *name == room(path));
        let (_, allowed) =
            found.unwrap_or_else(|| panic!("the room of {path} is not in MAY_USE: where does it belong?"));
        for used in source.used_by(path) {
            let may = room(&used) == room(path) || allowed.contains(&room(&used));
            assert!(may, "{} is in `{}`, which may not use `{used}`", module.file.display(), room(path));
        }
    }
}

#[test]
fn the_list_of_rooms_has_no_circle_and_no_room_that_is_gone() {
    let source = source();
    for (at, (name, allowed)) in MAY_USE.iter().enumerate() {
        assert!(modules_of(&source, name).next().is_some(), "there is no room `{name}`");
        for used in *allowed {
            assert!(MAY_USE[..at].iter().any(|(below, _)| below == used), "`{used}` is not below `{name}`");
        }
    }
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let source = source();
    let circles = source.circles();
    let known: BTreeSet<&str> = IN_A_CIRCLE.iter().copied().collect();
    for circle in &circles {
        let new: Vec<&String> = circle.iter().filter(|path| !known.contains(path.as_str())).collect();
        assert!(new.is_empty(), "{new:?} are in a circle: {}", edges(&source, circle));
    }
    let left: BTreeSet<&str> = circles.iter().flatten().map(String::as_str).collect();
    let gone: Vec<&&str> = known.difference(&left).collect();
    assert!(gone.is_empty(), "no longer in a circle, to be removed from IN_A_CIRCLE: {gone:?}");
}

/// The uses among the modules of a circle, one line each.
fn edges(source: &Crate, circle: &[String]) -> String {
    let line = |path: &String| {
        let used: Vec<String> = source.used_by(path).into_iter().filter(|used| circle.contains(used)).collect();
        format!("\n{path} uses {}", used.join(", "))
    };
    circle.iter().map(line).collect()
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    let source = source();
    for name in PURE {
        for (path, module) in modules_of(&source, name) {
            for word in IMPURE {
                assert!(!module.names(word), "{path} is in the pure room `{name}`, but has `{word}`");
            }
        }
    }
}

#[test]
fn sql_is_in_the_store_and_the_job_engine_only() {
    let source = source();
    for (path, module) in source.modules().filter(|(path, _)| !SQL.contains(path) && !SQL.contains(&room(path))) {
        for word in ["query", "query_as", "query_scalar", "QueryBuilder", "raw_sql"] {
            assert!(!module.names(&format!("sqlx::{word}")), "{path} has `sqlx::{word}`");
        }
        for literal in &module.strings {
            let sql = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "UPDATE ", " DATABASE "]
                .iter()
                .find(|word| literal.contains(**word));
            assert!(sql.is_none(), "{path} has SQL: {literal}");
        }
    }
}

/// The engine asks `rollout` what a run does next; the store writes the answer. A type of `rollout` is no decision.
#[test]
fn the_store_names_types_of_rollout_and_none_of_its_functions() {
    let source = source();
    let modules: BTreeSet<&str> = modules_of(&source, "rollout").map(|(path, _)| path).collect();
    for (path, module) in modules_of(&source, "store") {
        for name in module.names_after("rollout::") {
            let (parent, item) = name.rsplit_once("::").unwrap_or(("", name));
            let of_module = parent.is_empty() || modules.contains(format!("rollout::{parent}").as_str());
            let is_module = modules.contains(format!("rollout::{name}").as_str());
            let is_function = of_module && !is_module && !item.starts_with(char::is_uppercase) && item != "self";
            assert!(!is_function, "{path} decides with `rollout::{name}`: that belongs into `engine`");
        }
    }
}

#[test]
fn the_service_uses_its_own_right_in_named_places_only() {
    let source = source();
    let outside = |path: &str| !["store", "engine", "jobs"].contains(&room(path));
    let users = source.modules().filter(|(path, module)| outside(path) && module.names("ByService"));
    let mut found = BTreeSet::new();
    for (path, module) in users {
        found.insert(path);
        for line in module.text.lines().filter(|line| line.contains("ByService(")) {
            assert!(line.contains("get_for_share("), "{path} does more than hold a resource by `ByService`: {line}");
        }
    }
    for (path, module) in source.modules().filter(|(path, _)| outside(path)) {
        assert!(!module.names("RowByService"), "{path} knows resources by their rows: load them by the proof first");
    }
    let named: BTreeSet<&str> = BY_SERVICE.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, named, "request handlers load and change resources by the proof that the caller may do so");
}

#[test]
fn each_migration_has_a_number_of_its_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".sql") {
            let number = name.split('_').next().unwrap().to_owned();
            assert!(numbers.insert(number), "{name} has the number of another migration: take the next free one");
        }
    }
}

/// The sample fleet is a client of a local service only, and trusts nothing but the authority of that service.
#[test]
fn http_clients_are_set_up_in_one_place() {
    let source = source();
    for (path, module) in source.modules().filter(|(path, _)| !["transport", "local::sample"].contains(path)) {
        for word in ["Client::builder", "Client::new", "ClientBuilder"] {
            assert!(!module.names(word), "{path} has `{word}`: use `transport::client`");
        }
    }
}

#[test]
fn generic_rooms_do_not_name_the_domain() {
    let source = source();
    for (name, words) in
        [("work", &["fleet", "cluster", " member"][..]), ("arm", &["fleets/", "updateRun", "managedCluster"])]
    {
        for (path, module) in modules_of(&source, name) {
            let text = module.text.to_lowercase();
            for word in words {
                assert!(!text.contains(&word.to_lowercase()), "{path} says `{word}`");
            }
        }
    }
}

#[test]
fn the_emulator_shares_nothing_with_the_service() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator/Cargo.toml");
    assert!(!fs::read_to_string(manifest).unwrap().contains("fleet-manager"));
}
