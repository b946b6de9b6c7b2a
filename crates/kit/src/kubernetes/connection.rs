//! The connections to the API server.
//!
//! If packets to the API server are dropped, nothing tells the client: a watch waits for events that never come, and a
//! request for its answer. kube's own connections notice that after minutes. These ask the other end whether it is still
//! there, and end when it does not answer. A broken watch resumes with the backoff of [`super::pause`].

use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ConfigExt};
use tower::{BoxError, Service, ServiceBuilder};

/// How long the other end may leave data without an acknowledgement (`TCP_USER_TIMEOUT`). With the keepalive, it also limits
/// how long an idle connection that is dead goes unnoticed.
const UNACKNOWLEDGED: Duration = Duration::from_secs(6);
/// The pause before an idle connection is asked for a sign of life, and between two questions.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// The limit for a new connection. The kernel repeats its first packet after 1, 3 and 7 seconds, so a longer limit would
/// only delay the next attempt.
const CONNECT: Duration = Duration::from_secs(4);

/// The limit for the begin of an answer. The API server ends a request after 60 s (`--request-timeout`), and answers a watch at
/// once. A server that hangs still acknowledges packets, and would keep whoever waits for it.
const ANSWER: Duration = Duration::from_secs(65);

/// Returns a service that sends requests to the API server of this configuration.
pub(super) fn service(
    config: &Config,
) -> anyhow::Result<
    impl Service<Request<Body>, Response = Response<hyper::body::Incoming>, Error = BoxError, Future: Send + 'static>
    + Send
    + 'static,
> {
    anyhow::ensure!(config.proxy_url.is_none(), "the kubeconfig names a proxy, which is not supported");
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let tls = config.rustls_https_connector_with_connector(tcp).context("set up TLS for the API server")?;
    let mut connector = TimeoutConnector::new(tls);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let client = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build(connector);
    Ok(ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().context("authenticate at the API server")?)
        .layer(config.extra_headers_layer().context("set the headers of requests")?)
        .map_err(BoxError::from)
        .timeout(ANSWER)
        .service(client))
}
