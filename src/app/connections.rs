//! Connections of clients: how many there are, and how long each may be without a request.
//!
//! A connection over the limit waits in the listener's backlog. A connection without a request in progress is closed after a
//! while, whatever bytes of a request it has sent: neither silence nor a header that never ends holds one.

use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum_server::{AddrListener, Address, accept::Accept};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};
use tower::Service;

use crate::config::ClientLimits;

/// An address, with the limits of the connections that are accepted there.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    address: SocketAddr,
    slots: Arc<Semaphore>,
    idle: Duration,
}

/// A listener that accepts a limited number of connections.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Listener {
    /// Limits the connections of a listener.
    pub(super) fn new(listener: TcpListener, limits: &ClientLimits) -> anyhow::Result<Self> {
        let slots = Arc::new(Semaphore::new(usize::try_from(limits.max_connections)?));
        let endpoint = Endpoint { address: listener.local_addr()?, slots, idle: limits.idle_connection() };
        Ok(Self { listener, endpoint })
    }

    /// A slot for a connection, as soon as there is one.
    async fn slot(&self) -> io::Result<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.endpoint.slots).try_acquire_owned() {
            return Ok(slot);
        }
        tracing::warn!("no more connections are accepted until one is closed (FLEET_MAX_CONNECTIONS)");
        Arc::clone(&self.endpoint.slots).acquire_owned().await.map_err(io::Error::other)
    }
}

impl Address for Endpoint {
    type Stream = Connection;
    type Listener = Listener;
}

impl AddrListener<Connection, Endpoint> for Listener {
    async fn bind_to(endpoint: Endpoint) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(endpoint.address).await?, endpoint })
    }

    async fn accept_stream(&self) -> io::Result<(Connection, Endpoint)> {
        let slot = self.slot().await?;
        let (stream, address) = self.listener.accept().await?;
        let idle = self.endpoint.idle;
        let activity = Arc::new(Activity { requests: AtomicUsize::new(0), last: Mutex::new(Instant::now()) });
        let connection = Connection { stream, activity, idle, alarm: Box::pin(sleep(idle)), _slot: slot };
        Ok((connection, Endpoint { address, ..self.endpoint.clone() }))
    }

    fn get_local_addr(&self) -> io::Result<Endpoint> {
        Ok(self.endpoint.clone())
    }
}

/// What happens on a connection.
#[derive(Debug)]
struct Activity {
    /// Number of requests in progress.
    requests: AtomicUsize,
    /// When the last request was answered, or a part of an answer was sent.
    last: Mutex<Instant>,
}

impl Activity {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When the connection is to be closed if nothing more happens.
    fn ends(&self, idle: Duration) -> Instant {
        if self.requests.load(Ordering::SeqCst) > 0 {
            return Instant::now() + idle;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + idle
    }
}

/// A connection. Reading and writing fail after it has been without a request for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    activity: Arc<Activity>,
    idle: Duration,
    /// Rings at, or before, the time at which the connection is to be closed.
    alarm: Pin<Box<Sleep>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// The result of an operation of the stream, or an error if the operation waits and the connection is to be closed.
    fn unless_idle<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        while self.alarm.poll_unpin(cx).is_ready() {
            let ends = self.activity.ends(self.idle);
            if ends <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(ends);
        }
        Poll::Pending
    }

    fn written(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if polled.is_ready() {
            self.activity.touch();
        }
        self.unless_idle(cx, polled)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unless_idle(cx, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_idle(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Has each connection know its requests in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountRequests;

impl<S> Accept<Connection, S> for CountRequests {
    type Stream = Connection;
    type Service = Counted<S>;
    type Future = Ready<io::Result<(Connection, Counted<S>)>>;

    fn accept(&self, connection: Connection, service: S) -> Self::Future {
        let activity = Arc::clone(&connection.activity);
        ready(Ok((connection, Counted { service, activity })))
    }
}

/// The service of one connection.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    service: S,
    activity: Arc<Activity>,
}

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let in_progress = InProgress::begin(&self.activity);
        let answer = self.service.call(request);
        async move {
            let _in_progress = in_progress;
            answer.await
        }
        .boxed()
    }
}

/// A request in progress, until it is dropped.
struct InProgress(Arc<Activity>);

impl InProgress {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(activity))
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}
