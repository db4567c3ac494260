//! Clients that are slow, silent, many or greedy: the real binary, mostly over bare TCP.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    raw::exchange,
    world::{Options, SUBSCRIPTION, World},
};

const LATE: Duration = Duration::from_secs(60);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn world(env: &[(&'static str, &str)]) -> World {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    World::start_with(Options { env, ..Options::default() }).await
}

fn address(world: &World) -> &str {
    world.url.trim_start_matches("http://")
}

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(address(world)).await.unwrap()
}

/// Reads an answer, and returns its status line and headers.
async fn head_of_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let read = timeout(LATE, stream.read_buf(&mut answer)).await.expect("no answer").unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(read > 0, "closed after {text:?}");
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        if body.len() >= length {
            return head.to_owned();
        }
    }
}

/// Reads the answer to [`REQUEST`].
async fn answered(stream: &mut TcpStream) {
    let head = head_of_answer(stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_whole_request_is_closed() {
    let world = world(&[("FLEET_IDLE_CONNECTION_SECONDS", "1")]).await;
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for begun in [&b""[..], b"PRI", b"GET /healthz HTTP/1.1\r\nhost: local", REQUEST, http2] {
        let mut stream = connect(&world).await;
        stream.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        // A reset also ends the connection.
        let _ = timeout(LATE, stream.read_to_end(&mut answer)).await.unwrap_or_else(|_| panic!("open after {begun:?}"));
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), begun == REQUEST, "{:?}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(world.get(&world.fleet("none")).await.status, 404, "others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_goes_on_for_ever_ends_with_its_connection() {
    let world = world(&[("FLEET_IDLE_CONNECTION_SECONDS", "1")]).await;
    let mut stream = connect(&world).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let sent_for_ever = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LATE, sent_for_ever).await.expect("the connection is open still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_arrive_gets_a_408() {
    let world = world(&[("FLEET_BODY_SECONDS", "1"), ("FLEET_IDLE_CONNECTION_SECONDS", "1")]).await;
    let (fleet, token) = (world.fleet("f"), &world.token);
    let request = format!(
        "PUT {fleet}?api-version=2026-06-01 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{{\"location\": "
    );
    let answer = exchange(address(&world), request.as_bytes()).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "RequestTimeout"), "{answer:?}");
    assert_eq!(world.get(&fleet).await.status, 404);
}

/// A client that sends first and reads then would see a broken connection instead of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_answered_before_its_body_arrives_does_not_break_the_connection() {
    let world = world(&[]).await;
    let body = vec![b'x'; 8 << 20];
    let mut stream = connect(&world).await;
    for path in [world.fleet("f"), format!("{}/nothing", world.fleet("f"))] {
        let length = body.len();
        let head = format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = head_of_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
        timeout(LATE, stream.write_all(&body)).await.expect("the body is not read").unwrap();
    }
    stream.write_all(REQUEST).await.unwrap();
    assert!(head_of_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

/// Who asks before it sends its body is not told to send one that nobody wants.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_is_refused_without_its_body() {
    let world = world(&[]).await;
    let mut stream = connect(&world).await;
    let head = format!(
        "PUT {} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n",
        world.fleet("f")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LATE, stream.read_to_end(&mut answer)).await.expect("the connection is open still").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_wait_for_others_to_close() {
    let world = world(&[("FLEET_MAX_CONNECTIONS", "2")]).await;
    // The world's own client keeps one connection open.
    let mut held = connect(&world).await;
    held.write_all(REQUEST).await.unwrap();
    answered(&mut held).await;
    let mut waiting = connect(&world).await;
    waiting.write_all(REQUEST).await.unwrap();
    for _ in 0..20 {
        held.write_all(REQUEST).await.unwrap();
        answered(&mut held).await;
    }
    let early = waiting.try_read(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "two connections are open: the world's, and the one held");
    drop(held);
    answered(&mut waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_principal_over_its_budget_gets_a_429_and_others_do_not() {
    let deletes = "x-ms-ratelimit-remaining-subscription-deletes";
    let world = world(&[("FLEET_DELETES_PER_SECOND", "1")]).await;
    let none = world.fleet("none");
    let first = world.delete(&none).await;
    assert_eq!((first.status, first.header(deletes)), (204, Some("19")), "{}", first.body);
    // 400 concurrent requests exceed the limit on any machine.
    let refused = async {
        loop {
            let round = futures_util::future::join_all((0..400).map(|_| world.delete(&none))).await;
            if let Some(refused) = round.into_iter().find(|answer| answer.status != 204) {
                return refused;
            }
        }
    };
    let refused = timeout(LATE, refused).await.expect("no request was refused");
    assert_eq!((refused.status, refused.code()), (429, "SubscriptionRequestsThrottled"), "{}", refused.body);
    assert_eq!((refused.header("retry-after"), refused.header(deletes)), (Some("1"), Some("0")));
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains(SUBSCRIPTION) && message.contains("try again after '1' seconds"), "{message}");

    let read = world.get(&none).await;
    assert_eq!(read.status, 404, "reads are counted apart");
    let left: u32 = read.header("x-ms-ratelimit-remaining-subscription-reads").unwrap().parse().unwrap();
    assert!(left < 10_000);
    let other = none.replace("0001/", "0002/");
    assert_ne!(world.delete(&other).await.status, 429, "subscriptions are counted apart");
}
