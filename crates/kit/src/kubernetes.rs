//! The API server client, the backoff of its watches, and what they have seen.
//!
//! Request metrics have the same names as in Kubernetes' own programs.

mod connection;
mod seen;

use std::path::Path;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::Context;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Client, Config};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use tower::{Layer, Service, layer::layer_fn};

pub use seen::{Lister, Seen, keep};

/// Returns a client for the API server in the kubeconfig file, or without a file for the in-cluster API server.
/// Requests are counted in the registry, so a second client in the same process fails.
///
/// The client does not retry. kube's own retries take long, and only the caller knows whether the request still
/// matters.
pub async fn client(kubeconfig: Option<&Path>, registry: &Registry) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        None => Config::incluster().context("no --kubeconfig is given, and this is no pod with a service account")?,
        Some(path) => {
            let name = path.display();
            let file = Kubeconfig::read_from(path).with_context(|| format!("read kubeconfig {name}"))?;
            let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.with_context(|| format!("use kubeconfig {name}"))?
        }
    };
    let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
    let requests = Requests::register(registry, host).context("register the metrics of requests")?;
    let service = connection::service(&config)?;
    Ok(ClientBuilder::new(service, config.default_namespace).with_layer(&requests.layer()).build())
}

/// Returns the backoff for a broken watch. kube's default backoff grows to 30 s, which would extend a one-minute outage
/// of the API server by half. This backoff stays below 6 s, including jitter.
pub fn pause() -> watcher::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(3))
        .without_max_times()
        .with_jitter()
        .into()
}

/// Returns the configuration of a watch of the object with this name.
pub fn named(name: &str) -> watcher::Config {
    watcher::Config::default().fields(&format!("metadata.name={name}"))
}

/// The metrics of requests to one host. Clones share the counters.
#[derive(Clone, Debug)]
struct Requests {
    host: String,
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Requests {
    fn register(registry: &Registry, host: String) -> prometheus::Result<Self> {
        let total = Opts::new("rest_client_requests_total", "requests to the API server");
        let seconds = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "time from a request to the first byte of its answer, which for a watch comes long before its end",
        );
        let requests = Self {
            host,
            total: IntCounterVec::new(total, &["code", "method", "host"])?,
            seconds: HistogramVec::new(
                seconds.buckets(prometheus::exponential_buckets(0.001, 2.0, 15)?),
                &["verb", "host"],
            )?,
        };
        registry.register(Box::new(requests.total.clone()))?;
        registry.register(Box::new(requests.seconds.clone()))?;
        Ok(requests)
    }

    fn layer<S>(self) -> impl Layer<S, Service = Counted<S>> {
        layer_fn(move |inner| Counted { inner, requests: self.clone() })
    }

    fn count(&self, method: &str, code: &str, took: Duration) {
        self.total.with_label_values(&[code, method, &self.host]).inc();
        self.seconds.with_label_values(&[method, &self.host]).observe(took.as_secs_f64());
    }
}

/// A service that counts its requests.
#[derive(Clone, Debug)]
struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, requests) = (request.method().clone(), self.requests.clone());
        let began = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // Kubernetes' own programs count a request without an answer in the same way.
            let code = answer.as_ref().map(Response::status);
            let code = code.as_ref().map_or("<error>", |code| code.as_str());
            requests.count(method.as_str(), code, began.elapsed());
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_code_method_and_host() {
        let registry = Registry::new();
        let requests = Requests::register(&registry, "10.96.0.1:443".to_owned()).unwrap();
        let mut server = requests.layer().layer(tower::service_fn(|request: Request<Body>| async move {
            match request.uri().path() {
                "/away" => Err("connection refused"),
                "/missing" => Ok(Response::builder().status(404).body(()).unwrap()),
                _ => Ok(Response::new(())),
            }
        }));
        for (method, path) in [("GET", "/pods"), ("GET", "/pods"), ("PATCH", "/missing"), ("GET", "/away")] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            drop(server.call(request).await);
        }
        let told = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"} 2"#,
            r#"rest_client_requests_total{code="404",host="10.96.0.1:443",method="PATCH"} 1"#,
            r#"rest_client_requests_total{code="<error>",host="10.96.0.1:443",method="GET"} 1"#,
            r#"rest_client_request_duration_seconds_count{host="10.96.0.1:443",verb="GET"} 3"#,
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in:\n{told}");
        }
    }
}
