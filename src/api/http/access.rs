//! Role assignments at hand: what every request asks, without a query as long as nothing changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    database::Pool,
    identity::{
        Access, Caller, Grant,
        roles::{OWNER, Role},
    },
    store::{StoreError, role_assignments},
    work::{Heard, listen},
};

/// Most principals that are remembered; then all are forgotten.
const MOST_PRINCIPALS: usize = 10_000;

/// How old what is remembered gets, should a proxy before the database swallow what is told.
const OLDEST: Duration = Duration::from_secs(300);

/// What principals are granted. Remembered only while changes are heard of.
#[derive(Debug, Default)]
pub struct AccessCache {
    owners: Vec<Uuid>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether changes are heard of.
    listening: bool,
    /// Grows with each change, so that what was read before one is not kept after it.
    generation: u64,
    grants: HashMap<Uuid, (Instant, Arc<[Grant]>)>,
}

impl State {
    fn forget(&mut self, principal: Option<Uuid>) {
        self.generation += 1;
        match principal {
            Some(principal) => _ = self.grants.remove(&principal),
            None => self.grants.clear(),
        }
    }
}

impl AccessCache {
    /// With these principals as owners of everything, whatever the assignments say.
    #[must_use]
    pub fn new(owners: Vec<Uuid>) -> Self {
        Self { owners, state: Mutex::default() }
    }

    /// Owners of everything.
    #[must_use]
    pub fn owners(&self) -> &[Uuid] {
        &self.owners
    }

    /// What a caller is granted: to it, and to its groups. At most one query, on an index.
    pub async fn of(&self, caller: &Caller, pool: &Pool) -> Result<Access, StoreError> {
        let mut grants = Vec::with_capacity(1);
        let principals = || std::iter::once(caller.object_id).chain(caller.groups.iter().copied());
        if principals().any(|principal| self.owners.contains(&principal)) {
            grants.push([Grant { scope: String::new(), role: OWNER }].into());
        }
        let mut missing = Vec::new();
        let generation = {
            let state = self.state();
            for principal in principals() {
                match state.grants.get(&principal) {
                    Some((read, known)) if read.elapsed() < OLDEST => grants.push(Arc::clone(known)),
                    // A token may name a group twice: the second time nothing would be left to find.
                    _ if missing.contains(&principal) => {}
                    _ => missing.push(principal),
                }
            }
            state.generation
        };
        if missing.is_empty() {
            return Ok(Access::new(grants));
        }
        let mut found = role_assignments::of_principals(pool, &missing).await?;
        let read = missing.into_iter().map(|principal| {
            let assigned = found.remove(&principal).unwrap_or_default();
            (principal, assigned.into_iter().filter_map(grant).collect::<Arc<[Grant]>>())
        });
        let read: Vec<_> = read.collect();
        grants.extend(read.iter().map(|(_, granted)| Arc::clone(granted)));
        let mut state = self.state();
        if state.listening && state.generation == generation {
            if state.grants.len() + read.len() > MOST_PRINCIPALS {
                state.grants.clear();
            }
            let now = Instant::now();
            state.grants.extend(read.into_iter().map(|(principal, granted)| (principal, (now, granted))));
        }
        Ok(Access::new(grants))
    }

    /// Forgets what a principal is granted, as it has changed.
    pub fn forget(&self, principal: Uuid) {
        self.state().forget(Some(principal));
    }

    /// Hears of changes by all replicas, for ever.
    pub async fn listen(&self, pool: &Pool) {
        listen(pool, role_assignments::CHANNEL, |heard| {
            let mut state = self.state();
            match heard {
                Heard::Connected => state.listening = true,
                Heard::Lost => state.listening = false,
                Heard::Said(_) => {}
            }
            let principal = match heard {
                Heard::Said(text) => text.parse().ok(),
                Heard::Connected | Heard::Lost => None,
            };
            state.forget(principal);
        })
        .await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn grant((scope, role): (String, Uuid)) -> Option<Grant> {
    let known = Role::with_id(role);
    if known.is_none() {
        tracing::warn!(%role, scope, "an assignment is of a role that this version does not know: it grants nothing");
    }
    Some(Grant { scope, role: known? })
}
