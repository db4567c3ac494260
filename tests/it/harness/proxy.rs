//! A forwarder before PostgreSQL that can stop passing bytes on without closing anything: what a host that vanished or a
//! firewall that forgot a connection looks like from both ends.

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, UnixStream, tcp};
use tokio::task::JoinSet;

/// Which connections to swallow: they stay open and pass no more bytes, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swallow {
    /// Every connection, also later ones.
    Everything,
    /// Every connection that is open now.
    OpenConnections,
    /// The next connection on which a statement with this text is sent: the server never sees the statement.
    From(&'static str),
    /// The next connection on which a statement with this text is sent: the server executes the statement, and the client gets no answer.
    After(&'static str),
}

#[derive(Default)]
struct State {
    everything: bool,
    statement: Option<Swallow>,
    /// Connections up to this number are swallowed.
    swallowed_to: usize,
    /// Connections that were swallowed because of a statement.
    swallowed: HashSet<usize>,
    connections: usize,
}

impl State {
    fn is_silent(&self, connection: usize) -> bool {
        self.everything || connection <= self.swallowed_to || self.swallowed.contains(&connection)
    }
}

/// Called with each statement that a client has executed, before the server sees it.
pub type Observer = Arc<dyn Fn(&str) + Send + Sync>;

/// Forwards until it is dropped.
pub struct Proxy {
    options: PgConnectOptions,
    state: Arc<Mutex<State>>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// A proxy before the server of these options, which listens on a Unix socket.
    pub async fn start(options: &PgConnectOptions) -> Self {
        Self::start_observed(options, Arc::new(|_| ())).await
    }

    /// [`Proxy::start`] with an observer of all statements.
    pub async fn start_observed(options: &PgConnectOptions, observer: Observer) -> Self {
        let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(listener.local_addr().unwrap().port())
            .username(options.get_username())
            .database(options.get_database().unwrap())
            .ssl_mode(PgSslMode::Disable);
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&socket).await else { continue };
                let number = {
                    let mut state = lock(&shared);
                    state.connections += 1;
                    state.connections
                };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                open.spawn(requests(from_client, to_server, Arc::clone(&shared), Arc::clone(&observer), number));
                open.spawn(answers(from_server, to_client, Arc::clone(&shared), number));
            }
        });
        Self { options: through, state, _connections: connections }
    }

    /// Options of a connection through the proxy.
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    pub fn swallow(&self, what: Swallow) {
        let mut state = lock(&self.state);
        match what {
            Swallow::Everything => state.everything = true,
            Swallow::OpenConnections => state.swallowed_to = state.connections,
            Swallow::From(_) | Swallow::After(_) => state.statement = Some(what),
        }
    }

    /// Whether the statement that was waited for was sent.
    pub fn has_swallowed(&self) -> bool {
        lock(&self.state).statement.is_none()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

/// A message of the client: its type (0 for the first one, which has none) and all its bytes.
struct Message {
    kind: u8,
    bytes: Vec<u8>,
}

async fn read_message(client: &mut tcp::OwnedReadHalf, first: bool) -> std::io::Result<Message> {
    let mut bytes = Vec::new();
    let kind = if first { 0 } else { client.read_u8().await? };
    if !first {
        bytes.push(kind);
    }
    let length = client.read_u32().await?;
    bytes.extend(length.to_be_bytes());
    let at = bytes.len();
    bytes.resize(at + usize::try_from(length).unwrap() - 4, 0);
    client.read_exact(&mut bytes[at..]).await?;
    Ok(Message { kind, bytes })
}

async fn requests(
    mut client: tcp::OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    observer: Observer,
    number: usize,
) {
    let mut prepared = HashMap::new();
    let (mut first, mut executes) = (true, false);
    while let Ok(message) = read_message(&mut client, first).await {
        let statement = if first { None } else { executed(&message, &mut prepared) };
        first = false;
        if let Some(sql) = &statement {
            observer(&String::from_utf8_lossy(sql));
        }
        let silent = {
            let mut state = lock(&state);
            let wanted = state.statement;
            if let Some(swallow @ (Swallow::From(text) | Swallow::After(text))) = wanted
                && !state.is_silent(number)
                && statement.is_some_and(|sql| sql.windows(text.len()).any(|part| part == text.as_bytes()))
            {
                state.statement = None;
                state.swallowed.insert(number);
                executes = matches!(swallow, Swallow::After(_));
            }
            state.is_silent(number)
        };
        if (!silent || executes) && server.write_all(&message.bytes).await.is_err() {
            break;
        }
        // A simple query, or the Sync at the end of an extended one.
        executes &= !matches!(message.kind, b'Q' | b'S');
    }
    if lock(&state).is_silent(number) {
        // The close of the client's connection is not forwarded either.
        std::future::pending::<()>().await;
    }
}

/// The statement that a message has executed, if it does. Statements that are only prepared are remembered, by name.
fn executed(message: &Message, prepared: &mut HashMap<Vec<u8>, Vec<u8>>) -> Option<Vec<u8>> {
    let mut parts = message.bytes.get(5..).unwrap_or_default().split(|byte| *byte == 0);
    let (one, two) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match message.kind {
        b'Q' => Some(one.to_vec()),
        b'P' => {
            prepared.insert(one.to_vec(), two.to_vec());
            None
        }
        b'B' => prepared.get(two).cloned(),
        _ => None,
    }
}

async fn answers(mut server: OwnedReadHalf, mut client: tcp::OwnedWriteHalf, state: Arc<Mutex<State>>, number: usize) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        if !lock(&state).is_silent(number) && client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    if lock(&state).is_silent(number) {
        // The close of the server's connection is not forwarded either.
        std::future::pending::<()>().await;
    }
}
