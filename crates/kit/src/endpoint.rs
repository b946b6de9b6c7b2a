//! The HTTP endpoint with `/metrics`, `/healthz`, `/livez` and `/readyz`.
//!
//! `/healthz` and `/livez` return 200 as long as the process serves requests. `/readyz` returns 200 if the process is
//! ready, see [`Readiness`], and otherwise 503 with the reason.
//!
//! Each pod reaches it. So connections that say nothing are closed, and nobody has more than a few ([`crowd`]).

mod crowd;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use crowd::{Crowd, Seat};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// [`Endpoint::head`].
const HEAD: Duration = Duration::from_secs(15);

/// How long a connection may be open.
const LONGEST: Duration = Duration::from_mins(5);

/// The pause after the system gives no more connections.
const AGAIN: Duration = Duration::from_millis(100);

/// Sets the readiness of the process. Clones share the same state.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Result<(), String>>>);

impl Readiness {
    /// Creates a readiness that is not ready, for this reason.
    pub fn waiting_for(reason: &str) -> Self {
        Self(Arc::new(watch::Sender::new(Err(reason.to_owned()))))
    }

    /// Sets the process to ready.
    pub fn ready(&self) {
        drop(self.0.send_replace(Ok(())));
    }

    /// Sets the process to not ready. `/readyz` returns the reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        drop(self.0.send_replace(Err(reason.into())));
    }

    /// Returns `Ok` if the process is ready, or the reason why it is not.
    pub fn state(&self) -> Result<(), String> {
        self.0.borrow().clone()
    }
}

/// A bound endpoint. [`Endpoint::serve`] serves it.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    router: Router,
    /// How long a client may take for the head of its next request.
    head: Duration,
}

impl Endpoint {
    /// Binds the address. Fails if the address is in use, for example by a second process.
    pub async fn bind(address: SocketAddr, registry: Registry, readiness: Readiness) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz).with_state(readiness))
            .route("/metrics", get(metrics).with_state(registry));
        Ok(Self { listener, router, head: HEAD })
    }

    /// Returns the bound address. If port 0 was requested, it contains the actual port.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves requests for as long as the future runs.
    pub async fn serve(self) -> Infallible {
        let crowd = Crowd::default();
        loop {
            match self.listener.accept().await {
                Ok((stream, client)) => {
                    let host = stream.local_addr().map(|address| address.ip());
                    if let Some(seat) = crowd.seat(client.ip(), host.ok()) {
                        tokio::spawn(connection(stream, self.router.clone(), self.head, seat));
                    }
                }
                // Of too many files, or of one client.
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics and health is not accepted");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Serves a connection.
async fn connection(stream: TcpStream, router: Router, head: Duration, _seat: Seat) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // How it ends matters to nobody.
    let _ = timeout(LONGEST, served).await;
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.state() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(registry): State<Registry>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], format!("encode metrics: {error}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_and_metrics_are_what_the_process_says() {
        let registry = Registry::new();
        let counter = IntCounter::new("pods_total", "pods").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let readiness = Readiness::waiting_for("the northbound database");
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), registry, readiness.clone()).await.unwrap();
        let address = endpoint.address().unwrap();
        let server = tokio::spawn(endpoint.serve());

        let before = ask(address, "/readyz").await;
        assert!(before.starts_with("HTTP/1.1 503") && before.contains("the northbound database"), "{before}");
        readiness.ready();
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        counter.inc_by(3);
        assert!(ask(address, "/metrics").await.contains("pods_total 3"));
        server.abort();
    }

    #[tokio::test]
    async fn who_says_nothing_does_not_keep_others_away() {
        let mut endpoint =
            Endpoint::bind(([0, 0, 0, 0], 0).into(), Registry::new(), Readiness::waiting_for("")).await.unwrap();
        endpoint.head = Duration::from_secs(3);
        let port = endpoint.address().unwrap().port();
        let server = tokio::spawn(endpoint.serve());
        // Addresses of the loopback network other than the one that is connected to are those of other machines.
        let connect = async |from: [u8; 4]| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            socket.connect(([127, 0, 0, 1], port).into()).await.unwrap()
        };
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(connect([127, 0, 0, 2]).await);
        }
        let mut closed = 0;
        for stream in &mut silent {
            let read = timeout(Duration::from_millis(10), stream.read(&mut [0])).await;
            closed += usize::from(read.is_ok());
        }
        assert_eq!(closed, 100 - crowd::EACH);
        for from in [[127, 0, 0, 1], [127, 0, 0, 3]] {
            let mut stream = connect(from).await;
            stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        for stream in &mut silent {
            let closed = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
            assert!(closed.is_ok(), "a silent connection stays open");
        }
        server.abort();
    }
}
