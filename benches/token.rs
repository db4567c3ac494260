//! The cost of authentication and authorisation: a cached token, a new one, and the cached roles of a caller. The floor is the
//! SHA-256 of the token, which is the key of the cache.

use std::{borrow::Cow, hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fleet_manager::{
    arm::ResourceId,
    identity::{
        Access, Action, Caller, CallerKind, Grant, Verifier, authorize,
        roles::{BUILT_IN, OWNER},
    },
    local::keys::{self, LocalKey, TokenClaims},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const AUDIENCE: &str = "https://management.azure.com/";

struct ReadFleet;

impl Action for ReadFleet {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Microsoft.ContainerService/fleets/read")
    }
}

fn tokens(criterion: &mut Criterion) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let Ok(key) = LocalKey::load_or_create(directory.path()) else { return };
    let tenant = Uuid::from_u128(1);
    let lifetime = std::time::Duration::from_secs(3600);
    let claims = TokenClaims { audience: AUDIENCE.to_owned(), ..TokenClaims::local_user(tenant, lifetime) };
    let now = Timestamp::now();
    let Ok(token) = key.mint(&claims, now) else { return };
    let header = format!("Bearer {token}");
    let verifier = || {
        Verifier::new(
            vec![key.verification_key()],
            keys::issuer(tenant),
            vec![AUDIENCE.to_owned()],
            tenant,
            "https://localhost/adfs",
        )
    };
    let Ok(asked) = "https://localhost".parse() else { return };
    let warm = verifier();
    assert!(warm.verify(Some(&header), now, &asked).is_ok());
    let mut group = criterion.benchmark_group("token");
    group.bench_function("floor: SHA-256 of the token", |bencher| bencher.iter(|| Sha256::digest(black_box(&token))));
    group.bench_function("seen before (target 50 µs)", |bencher| {
        bencher.iter(|| warm.verify(Some(black_box(&header)), now, &asked));
    });
    group.bench_function("new", |bencher| {
        bencher.iter_batched(
            verifier,
            |cold| cold.verify(Some(black_box(&header)), now, &asked),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn access(criterion: &mut Criterion) {
    let caller = Arc::new(Caller {
        object_id: Uuid::from_u128(2),
        app_id: None,
        name: None,
        kind: CallerKind::User,
        tenant: Uuid::from_u128(1),
        groups: Vec::new(),
    });
    let fleet = ResourceId::in_group("s", "g99", "Microsoft.ContainerService", "fleets", "f");
    let grants = |count: u32| -> Access {
        let grants = (0..count).map(|n| Grant {
            scope: format!("/subscriptions/s/resourcegroups/g{n}"),
            role: BUILT_IN.get(2).unwrap_or(OWNER),
        });
        Access::new(vec![grants.collect()])
    };
    let (few, many) = (grants(100), grants(4000));
    let mut group = criterion.benchmark_group("authorize");
    group.bench_function("100 assignments", |bencher| {
        bencher.iter(|| authorize::<ReadFleet>(black_box(&caller), &few, &fleet));
    });
    group.bench_function("4,000 assignments", |bencher| {
        bencher.iter(|| authorize::<ReadFleet>(black_box(&caller), &many, &fleet));
    });
    group.finish();
}

criterion_group!(benches, tokens, access);
criterion_main!(benches);
