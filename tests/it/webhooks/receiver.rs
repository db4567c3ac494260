//! A webhook receiver in this process with configurable behaviour.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// A delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub at: Instant,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Delivery {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The events in it: one, or a list.
    pub fn events(&self) -> Vec<Value> {
        match serde_json::from_slice(&self.body).unwrap() {
            Value::Array(events) => events,
            one => vec![one],
        }
    }
}

/// How the receiver responds to a delivery.
pub type Manners = Box<dyn Fn(&Delivery) -> Answer + Send>;

pub enum Answer {
    Take,
    Refuse(u16, Vec<(&'static str, String)>),
    /// Accept after this delay.
    Dawdle(Duration),
}

#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<Inner>>,
}

struct Inner {
    came: Vec<Delivery>,
    /// Indices of the accepted deliveries.
    taken: Vec<usize>,
    manners: Manners,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hunter2?code=hunter2", listener.local_addr().unwrap());
        let inner = Inner { came: Vec::new(), taken: Vec::new(), manners: Box::new(|_| Answer::Take) };
        let state = Arc::new(Mutex::new(inner));
        let router = Router::new().fallback(take).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, state }
    }

    /// Sets the behaviour from now on.
    pub fn behave(&self, manners: impl Fn(&Delivery) -> Answer + Send + 'static) {
        self.state.lock().unwrap().manners = Box::new(manners);
    }

    /// Returns all deliveries.
    pub fn came(&self) -> Vec<Delivery> {
        self.state.lock().unwrap().came.clone()
    }

    /// Returns the accepted events, including repeated ones.
    pub fn taken(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.taken.iter().flat_map(|at| state.came[*at].events()).collect()
    }

    /// Returns the accepted events, without those whose ID was accepted before.
    pub fn events(&self) -> Vec<Value> {
        let mut known = HashSet::new();
        self.taken().into_iter().filter(|event| known.insert(event["id"].to_string())).collect()
    }
}

async fn take(State(state): State<Arc<Mutex<Inner>>>, headers: HeaderMap, body: Bytes) -> Response {
    let delivery = Delivery { at: Instant::now(), headers, body };
    let (answer, at) = {
        let mut state = state.lock().unwrap();
        let answer = (state.manners)(&delivery);
        state.came.push(delivery);
        (answer, state.came.len() - 1)
    };
    match answer {
        Answer::Take => {}
        Answer::Dawdle(pause) => tokio::time::sleep(pause).await,
        Answer::Refuse(status, headers) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            return response;
        }
    }
    state.lock().unwrap().taken.push(at);
    StatusCode::OK.into_response()
}
