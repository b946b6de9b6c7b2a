//! An API server with the objects of a test, for lists and watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use kube::Client;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// An API server. Clones share the objects.
#[derive(Clone)]
pub struct ApiServer {
    kept: Arc<Mutex<Kept>>,
    version: watch::Sender<usize>,
}

#[derive(Default)]
struct Kept {
    /// Resource and name to the object.
    objects: BTreeMap<(String, String), Value>,
    /// The resource and the event of each change. The version of a change is its index plus one.
    events: Vec<(String, Value)>,
}

impl ApiServer {
    /// Starts the server. Returns it with a client as the agent makes it.
    pub async fn start() -> (Self, Client) {
        let (server, kubeconfig) = Self::listen().await;
        let client = kit::kubernetes::client(Some(kubeconfig.path()), &prometheus::Registry::new()).await.unwrap();
        (server, client)
    }

    /// Starts the server. Returns it with a kubeconfig for it.
    pub async fn listen() -> (Self, NamedTempFile) {
        let server = Self { kept: Arc::default(), version: watch::channel(0).0 };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": url } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
        (server, file)
    }

    /// Creates or replaces an object. `resource` is its plural.
    pub fn put(&self, resource: &str, name: &str, mut object: Value) {
        object["metadata"]["name"] = name.into();
        let mut kept = self.kept.lock().unwrap();
        let before = kept.objects.insert((resource.to_owned(), name.to_owned()), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&mut kept, resource, kind, object);
    }

    /// Deletes an object.
    pub fn delete(&self, resource: &str, name: &str) {
        let mut kept = self.kept.lock().unwrap();
        let object = kept.objects.remove(&(resource.to_owned(), name.to_owned())).unwrap();
        self.tell(&mut kept, resource, "DELETED", object);
    }

    fn tell(&self, kept: &mut Kept, resource: &str, kind: &str, mut object: Value) {
        let version = kept.events.len() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        kept.events.push((resource.to_owned(), json!({ "type": kind, "object": object })));
        self.version.send_replace(version);
    }
}

async fn answer(State(server): State<ApiServer>, uri: Uri) -> Response<Body> {
    let resource = uri.path().rsplit('/').next().unwrap().to_owned();
    let query = uri.query().unwrap_or_default().replace("%2F", "/").replace("%3D", "=");
    let parameter =
        |name: &str| query.split('&').find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()));
    let label = parameter("labelSelector");
    let label = label.as_deref().and_then(|label| label.split_once('='));
    let label = label.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let matches = move |object: &Value| {
        label.as_ref().is_none_or(|(key, value)| object["metadata"]["labels"][key] == value.as_str())
    };
    let body = if parameter("watch").is_some() {
        let from = parameter("resourceVersion").unwrap().parse().unwrap();
        let of = move |(kind, event): &(String, Value)| *kind == resource && matches(&event["object"]);
        let next = async move |(server, from): (ApiServer, usize)| {
            let mut version = server.version.subscribe();
            version.wait_for(|version| *version > from).await.ok()?;
            let kept = server.kept.lock().unwrap();
            let lines = kept.events[from..].iter().filter(|event| of(event)).map(|(_, event)| format!("{event}\n"));
            let lines: String = lines.collect();
            let from = kept.events.len();
            drop(kept);
            Some((Ok::<_, Infallible>(Bytes::from(lines)), (server, from)))
        };
        let next = Arc::new(next);
        Body::from_stream(futures::stream::unfold((server, from), move |state| {
            let next = next.clone();
            async move { next(state).await }
        }))
    } else {
        let kept = server.kept.lock().unwrap();
        let items = kept.objects.iter().filter(|((kind, _), object)| *kind == resource && matches(object));
        let items: Vec<_> = items.map(|(_, object)| object).collect();
        let version = kept.events.len().to_string();
        let list =
            json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items });
        Body::from(list.to_string())
    };
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}
