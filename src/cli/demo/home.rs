//! The demo's data directory: emptied at the start, if it is the demo's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Says that a directory is a demo's and may be emptied.
const MARKER: &str = ".fleet-manager-demo";
/// How deep below the data directory a PostgreSQL may have its own.
const DEPTH: usize = 3;
/// Longest that a PostgreSQL left behind may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the directory, and empties it unless told to keep what is there. A directory that has something else in it
/// than an earlier demo's data is refused.
pub(super) fn prepare(directory: &Path, keep: bool) -> anyhow::Result<()> {
    let shown = directory.display();
    let marker = directory.join(MARKER);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    if entries > 0 && !marker.exists() {
        bail!("{shown} has something else than a demo's data in it: choose another --data-dir");
    }
    if entries > 0 && !keep {
        end_postgres(directory)?;
        fs::remove_dir_all(directory).with_context(|| format!("cannot empty {shown}"))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {shown}"))?;
    fs::write(&marker, "This directory is emptied by `fleet-manager demo`.\n")
        .with_context(|| format!("cannot write {}", marker.display()))
}

/// Ends the PostgreSQL of a demo that was killed; its data is about to go.
fn end_postgres(directory: &Path) -> anyhow::Result<()> {
    for file in find(directory, "postmaster.pid", DEPTH) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else { continue };
        let is_postgres = || {
            // Empty for a process that has ended and was not waited for.
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("postgres"))
        };
        let started = Instant::now();
        while is_postgres() {
            if started.elapsed() > PATIENCE {
                bail!("PostgreSQL (process {pid}) of an earlier demo does not end");
            }
            let asked = Command::new("sh").args(["-c", &format!("kill -QUIT {pid} 2>&1")]).output();
            asked.with_context(|| format!("cannot end PostgreSQL (process {pid}) of an earlier demo"))?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

fn find(directory: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            found.push(path);
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(find(&path, name, depth - 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empties_its_own_directory_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("a/demo");
        prepare(&home, false).unwrap();
        fs::create_dir(home.join("postgres")).unwrap();
        fs::write(home.join("postgres/postmaster.pid"), "4194304\n").unwrap();
        prepare(&home, true).unwrap();
        assert!(home.join("postgres").exists());
        prepare(&home, false).unwrap();
        assert!(!home.join("postgres").exists());

        fs::write(root.path().join("precious"), "").unwrap();
        for keep in [true, false] {
            let refusal = prepare(root.path(), keep).unwrap_err().to_string();
            assert!(refusal.contains("something else"), "{refusal}");
        }
        assert!(root.path().join("precious").exists());
        assert!(prepare(&root.path().join("precious"), false).is_err());
    }
}
