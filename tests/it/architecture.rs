//! Who may use whom, and what the pure rooms may not touch. Read from the sources, so that a wrong `use` fails here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Room → rooms it may use. `config` has settings and no behaviour.
const MAY_USE: &[(&str, &[&str])] = &[
    ("arm", &[]),
    ("work", &[]),
    ("calendar", &[]),
    ("model", &["calendar", "arm"]),
    ("rollout", &["model", "calendar", "arm"]),
    ("autoupgrade", &["model", "arm"]),
    ("identity", &["arm"]),
    ("upstreams", &["model", "arm"]),
    ("webhooks", &["rollout", "model", "arm"]),
    ("store", &["rollout", "autoupgrade", "model", "arm", "work", "webhooks"]),
    ("config", &["identity", "model", "arm", "webhooks"]),
    ("telemetry", &["config"]),
    ("jobs", &["store", "work", "rollout", "autoupgrade", "upstreams", "webhooks", "model", "arm", "config"]),
    ("api", &["jobs", "store", "work", "rollout", "autoupgrade", "identity", "model", "arm"]),
    (
        "app",
        &["api", "jobs", "store", "work", "upstreams", "webhooks", "identity", "config", "local", "arm", "telemetry"],
    ),
    ("local", &["identity", "model", "arm", "config"]),
    ("cli", &["app", "api", "local", "config", "telemetry", "identity", "model", "arm"]),
];

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
    "async fn",
];

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![src.join(room), src.join(format!("{room}.rs"))];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() && path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            // What follows is for tests, which may do more.
            let text = text.split("#[cfg(test)]\nmod").next().unwrap().to_owned();
            let is_test = path.components().any(|part| part.as_os_str() == "tests")
                || path.file_stem().is_some_and(|stem| {
                    let stem = stem.to_string_lossy();
                    stem.ends_with("_tests") || stem == "simulation"
                });
            if !is_test {
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "there is no room {room}");
    found
}

/// Rooms named right after `crate::`, in paths and in braces.
fn used(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => _ = rooms.insert(names(rest)),
            Some(inner) => {
                let mut depth = 0;
                let mut fresh = true;
                for (at, c) in inner.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        c if fresh && depth == 0 && c.is_alphabetic() => {
                            rooms.insert(names(&inner[at..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

#[test]
fn dependencies_point_one_way() {
    let rooms: BTreeSet<&str> = MAY_USE.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in MAY_USE {
        for (path, text) in sources(room) {
            for used in used(&text) {
                let sound = used == *room || !rooms.contains(used.as_str()) || allowed.contains(&used.as_str());
                assert!(sound, "{} is in `{room}`, which may not use `{used}`", path.display());
            }
        }
    }
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    for room in PURE {
        for (path, text) in sources(room) {
            let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            for word in IMPURE {
                assert!(!code.contains(word), "{} is in the pure room `{room}`, but has `{word}`", path.display());
            }
        }
    }
}

#[test]
fn generic_rooms_do_not_name_the_domain() {
    for (room, words) in
        [("work", &["fleet", "cluster", " member"][..]), ("arm", &["fleets/", "updateRun", "managedCluster"])]
    {
        for (path, text) in sources(room) {
            let text = text.to_lowercase();
            for word in words {
                assert!(!text.contains(&word.to_lowercase()), "{} says `{word}`", path.display());
            }
        }
    }
}

#[test]
fn the_emulator_shares_nothing_with_the_service() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("emulator/Cargo.toml");
    assert!(!fs::read_to_string(manifest).unwrap().contains("fleet-manager"));
}
