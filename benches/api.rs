//! `GET` of a fleet through the whole router, with its token, against the floor: a bare axum handler that makes the same
//! SELECT and answers the same bytes. Both are served over TCP by this process, in turns, to 32 connections.

mod harness;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::{Router, ServiceExt, extract::Request, extract::State, http::header::CONTENT_TYPE, routing::get};
use clap::Parser;
use fleet_manager::{
    api,
    arm::{Origins, origin::OtherHosts, page::TokenSealer},
    config::Settings,
    identity::Verifier,
    local::keys::{self, LOCAL_USER, LocalKey, TokenClaims},
};
use harness::{Database, Verdict};
use jiff::Timestamp;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

const FLEET: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg1/providers/Microsoft.ContainerService/fleets/bench";
const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 4;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> anyhow::Result<ExitCode> {
    // Log lines are formatted as in production, and dropped.
    tracing_subscriber::registry()
        .with(EnvFilter::try_new("info")?)
        .with(fmt::layer().with_ansi(false).with_writer(std::io::sink))
        .init();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run())
}

async fn run() -> anyhow::Result<ExitCode> {
    let mut database = Database::start().await?;
    let pool = database.migrated("api", 20).await?;
    let data = tempfile::tempdir()?;
    let settings = Flags::try_parse_from(["api", "--database-url", "postgres://h/d"])?.settings;
    let key = LocalKey::load_or_create(data.path())?;
    let token = key.mint(&TokenClaims::local_user(settings.tenant_id, Duration::from_secs(3600)), Timestamp::now())?;
    let issuer = keys::issuer(settings.tenant_id);
    let verifier = Verifier::new(
        vec![key.verification_key()],
        issuer,
        settings.audiences(),
        settings.tenant_id,
        "http://localhost/adfs",
    );
    let access = Arc::new(api::AccessCache::new(vec![LOCAL_USER]));
    let (heard, changes) = (Arc::clone(&access), pool.clone());
    tokio::spawn(async move { heard.listen(&changes).await });
    let app = api::AppState {
        pool: pool.clone(),
        stopping: tokio_util::sync::CancellationToken::new(),
        verifier: Arc::new(verifier),
        access,
        catalogues: Arc::default(),
        sealer: TokenSealer::new(rand::random()),
        origins: Origins::new("http", settings.listen, Vec::new(), OtherHosts::Answer),
        pass_through: None,
        login_endpoint: None,
        tenant: settings.tenant_id,
        subscriptions: settings.subscriptions.clone().into(),
        upstream_decides: false,
        max_body_bytes: 1 << 20,
        body_deadline: std::time::Duration::from_secs(60),
        // More than the bench can send.
        budgets: api::RequestBudgets::new(api::RequestRates {
            reads: 1_000_000,
            writes: 1_000_000,
            deletes: 1_000_000,
        }),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let service = listener.local_addr()?;
    tokio::spawn(
        axum::serve(listener, ServiceExt::<Request>::into_make_service(api::router(app.into(), Router::new())))
            .into_future(),
    );

    let request = |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path}?api-version=2026-06-01 HTTP/1.1\r\nhost: {service}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    for path in [FLEET.split("/providers").next().unwrap_or_default(), FLEET] {
        let put = request("PUT", path, r#"{"location": "eastus"}"#);
        let made = Connection::open(service).await?.exchange(&put).await?;
        ensure!(made.0 == 201, "{path} was not made: {} {}", made.0, String::from_utf8_lossy(&made.1));
    }
    let get_fleet = request("GET", FLEET, "");
    let (status, bytes) = Connection::open(service).await?.exchange(&get_fleet).await?;
    ensure!(status == 200, "the fleet was not read: {status}");

    let length = bytes.len();
    let bare_pool = PgPoolOptions::new().max_connections(20).connect_with(pool.connect_options()).await?;
    let floor_state = Floor { pool: bare_pool, key: FLEET.to_lowercase(), bytes: bytes.into() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let floor = listener.local_addr()?;
    let router = Router::new().route(FLEET, get(bare)).with_state(floor_state);
    tokio::spawn(axum::serve(listener, router).into_future());

    // The first round of each warms up.
    let (mut of_service, mut of_floor) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        for (address, into) in [(floor, &mut of_floor), (service, &mut of_service)] {
            let measured = load(address, &get_fleet, length).await?;
            if round > 0 {
                into.push(measured);
            }
        }
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let (of_service, of_floor) = (mean(&of_service), mean(&of_floor));
    println!("GET of a fleet, {length} bytes, {CONNECTIONS} connections:");
    println!("  service {of_service:.0} requests/s, bare handler with the same SELECT {of_floor:.0} requests/s");
    let mut verdict = Verdict::default();
    verdict.at_least("service ÷ bare handler, requests/s", of_service / of_floor, 0.7, 1.1);
    pool.close().await;
    database.stop().await?;
    Ok(verdict.end())
}

/// State of the bare handler.
#[derive(Clone)]
struct Floor {
    pool: PgPool,
    key: String,
    bytes: axum::body::Bytes,
}

async fn bare(
    State(floor): State<Floor>,
) -> Result<([(http::HeaderName, &'static str); 1], axum::body::Bytes), String> {
    sqlx::query("SELECT * FROM resources WHERE key = $1")
        .bind(&floor.key)
        .fetch_one(&floor.pool)
        .await
        .map_err(|error| error.to_string())?;
    Ok(([(CONTENT_TYPE, "application/json")], floor.bytes))
}

/// Requests a second over all connections; every answer must be 200 with a body of this length.
async fn load(address: SocketAddr, request: &[u8], length: usize) -> anyhow::Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (over, request) = (Arc::clone(&over), request.to_vec());
            tokio::spawn(async move {
                let (mut connection, mut answers) = (Connection::open(address).await?, 0_u32);
                while !over.load(Relaxed) {
                    let (status, body) = connection.exchange(&request).await?;
                    ensure!(status == 200 && body.len() == length, "answered {status} with {} bytes", body.len());
                    answers += 1;
                }
                Ok(answers)
            })
        })
        .collect();
    tokio::time::sleep(ROUND).await;
    over.store(true, Relaxed);
    let mut answers = 0;
    for client in clients {
        answers += client.await??;
    }
    Ok(f64::from(answers) / began.elapsed().as_secs_f64())
}

/// A connection of the smallest HTTP client: it costs little beside what it measures.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request, and reads the status and the body of the answer.
    async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let mut head = None;
        loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection was closed");
            if head.is_none()
                && let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n")
            {
                head = Some((end + 4, parse(&self.buffer[..end])?));
            }
            if let Some((body, (status, length))) = head
                && self.buffer.len() >= body + length
            {
                return Ok((status, self.buffer[body..body + length].to_vec()));
            }
        }
    }
}

/// Status and content length of an answer.
fn parse(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("no content-length")?;
    Ok((status, length.1.trim().parse()?))
}
