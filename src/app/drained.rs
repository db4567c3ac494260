//! Request bodies that are read to their end though nobody asks for the rest.
//!
//! A request may be answered before its body has arrived: its token is wrong, or its path. A server that then closes the connection
//! breaks it for a client that is still sending: such a client sees an error of the connection and never the answer
//! (RFC 9112 §9.6). So the rest is read and forgotten, up to a bound of bytes and of time.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use http::{Request, header::EXPECT};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::{runtime::Handle, time::timeout};

/// Most bytes that are read and forgotten.
const MOST_DRAINED: usize = 64 << 20;

/// A request whose body is read to its end, within a time, after whoever answers it has dropped it.
pub(super) fn drained(request: Request<Body>, within: Duration) -> Request<Body> {
    // Such a client sends no body before it is told to go on (RFC 9110 §10.1.1), and to read would tell it so.
    let sent = !request.headers().contains_key(EXPECT);
    request.map(|body| if body.is_end_stream() { body } else { Body::new(Drained { body, sent, within }) })
}

struct Drained {
    body: Body,
    /// Whether the client sends the body, told to do so or not.
    sent: bool,
    within: Duration,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.sent = true;
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if !self.sent || self.body.is_end_stream() {
            return;
        }
        let rest = mem::take(&mut self.body);
        // Without a runtime the process is ending.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(self.within, forget(rest)));
        }
    }
}

async fn forget(mut body: Body) {
    let mut left = MOST_DRAINED;
    while left > 0
        && let Some(Ok(frame)) = body.frame().await
    {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
}
