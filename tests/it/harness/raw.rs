//! Requests as bytes, for what no HTTP library would send.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A response.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub text: String,
}

impl RawAnswer {
    /// The body as JSON; null if it is not JSON.
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.body()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends bytes to `address` (`host:port`) and reads until the connection is closed, which the request must
/// demand. If the connection is closed before all bytes were sent, the response is returned nevertheless.
pub async fn exchange(address: &str, request: &[u8]) -> RawAnswer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut bytes = Vec::new();
    let both = async {
        let send = async {
            let _ = writing.write_all(request).await;
            // Held open: a half-closed connection may be taken for a client that has gone.
            std::future::pending::<()>().await;
        };
        let receive = async {
            let mut part = [0; 8192];
            while let Ok(read @ 1..) = reading.read(&mut part).await {
                bytes.extend_from_slice(&part[..read]);
            }
        };
        tokio::select! { () = send => {}, () = receive => {} }
    };
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    tokio::time::timeout(Duration::from_secs(30), both).await.unwrap_or_else(|_| panic!("no answer: {shown}"));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, text) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer but {text:?}: {shown}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    RawAnswer { status, head: head.to_owned(), text: text.to_owned() }
}
