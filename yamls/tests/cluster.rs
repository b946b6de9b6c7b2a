//! Tests what the chart looks up in a cluster, and that rendering without one gives the same if values say it.

#![allow(clippy::unwrap_used)] // test helpers may panic

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use yamls::{HelmError, render, render_with};

/// A kind, its plural, and whether its objects are in namespaces.
type Kind = (&'static str, &'static str, bool);

/// The kinds that the chart creates or looks up, by the path of their group.
const KINDS: [(&str, &[Kind]); 6] = [
    (
        "/api/v1",
        &[
            ("Node", "nodes", false),
            ("Secret", "secrets", true),
            ("Service", "services", true),
            ("ServiceAccount", "serviceaccounts", true),
        ],
    ),
    ("/apis/apps/v1", &[("Deployment", "deployments", true), ("DaemonSet", "daemonsets", true)]),
    ("/apis/policy/v1", &[("PodDisruptionBudget", "poddisruptionbudgets", true)]),
    (
        "/apis/rbac.authorization.k8s.io/v1",
        &[
            ("Role", "roles", true),
            ("RoleBinding", "rolebindings", true),
            ("ClusterRole", "clusterroles", false),
            ("ClusterRoleBinding", "clusterrolebindings", false),
        ],
    ),
    (
        "/apis/admissionregistration.k8s.io/v1",
        &[
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false),
        ],
    ),
    ("/apis/apiextensions.k8s.io/v1", &[("CustomResourceDefinition", "customresourcedefinitions", false)]),
];

/// The group that has the kind `ServiceCIDR`, or does not have it yet.
const NETWORKING: &str = "/apis/networking.k8s.io/v1";

/// An API server with nodes, each a name, an address and whether it is labelled, and with the range of Services. Without
/// a range, it does not know the kind `ServiceCIDR`.
#[derive(Clone, Copy)]
struct ApiServer {
    nodes: &'static [(&'static str, &'static str, bool)],
    services: Option<&'static str>,
}

const TWO: &[(&str, &str, bool)] = &[("n1", "172.30.0.1", true), ("n2", "172.30.0.2", false)];

impl ApiServer {
    /// Returns the answer to a request.
    fn answer(self, path: &str) -> Option<Value> {
        let group = |path: &str| path.trim_start_matches("/apis/").to_owned();
        let known = |of: &str| KINDS.iter().find(|(path, _)| *path == of).map_or(&[][..], |(_, kinds)| kinds);
        let resources = |path: &str, kinds: &[Kind]| {
            let resource = |(kind, name, namespaced): &Kind| {
                let (one, verbs) = (kind.to_lowercase(), ["get", "list"]);
                json!({ "name": name, "singularName": one, "namespaced": namespaced, "kind": kind, "verbs": verbs })
            };
            let resources: Vec<_> = kinds.iter().map(resource).collect();
            let version = group(path).trim_start_matches("/api/").to_owned();
            json!({ "kind": "APIResourceList", "groupVersion": version, "resources": resources })
        };
        Some(match path {
            "/version" => json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0" }),
            "/api" => json!({ "kind": "APIVersions", "versions": ["v1"] }),
            "/apis" => {
                let groups = KINDS[1..].iter().map(|(path, _)| group(path)).chain([group(NETWORKING)]);
                let groups = groups.map(|version| {
                    let name = version.trim_end_matches("/v1").to_owned();
                    let version = json!({ "groupVersion": version, "version": "v1" });
                    json!({ "name": name, "versions": [version], "preferredVersion": version })
                });
                json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups.collect::<Vec<_>>() })
            }
            NETWORKING if self.services.is_some() => resources(path, &[("ServiceCIDR", "servicecidrs", false)]),
            NETWORKING => resources(path, &[("Ingress", "ingresses", true)]),
            "/api/v1/nodes" => {
                let node = |(name, address, labelled): &(&str, &str, bool)| {
                    let labels = if *labelled { json!({ "kube-ovn/role": "master" }) } else { json!({}) };
                    let addresses =
                        json!([{ "type": "Hostname", "address": name }, { "type": "InternalIP", "address": address }]);
                    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels }, "status": { "addresses": addresses } })
                };
                let items: Vec<_> = self.nodes.iter().map(node).collect();
                json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": items })
            }
            "/apis/networking.k8s.io/v1/servicecidrs/kubernetes" => {
                let spec = json!({ "cidrs": [self.services?] });
                json!({ "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": { "name": "kubernetes" }, "spec": spec })
            }
            path if KINDS.iter().any(|(known, _)| *known == path) => resources(path, known(path)),
            _ => return None,
        })
    }

    fn serve(self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (mut request, mut line) = (String::new(), String::new());
            reader.read_line(&mut request).ok().filter(|length| *length > 0)?;
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            }
            let path = request.split(' ').nth(1)?.split('?').next()?.to_owned();
            let missing =
                json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404 });
            let (code, body) = self.answer(&path).map_or(("404 Not Found", missing), |body| ("200 OK", body));
            let body = body.to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
        }
    }

    /// Renders the chart while this server can be asked.
    fn render(self, values: &[&str]) -> Result<String, HelmError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // The threads end with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || self.serve(&stream));
            }
        });
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": url } }],
            "users": [{ "name": "test", "user": {} }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
        let kubeconfig = format!("--kubeconfig={}", file.path().display());
        let asks = ["--namespace=kube-system", "--dry-run=server", "--disable-openapi-validation", &kubeconfig];
        render_with(&asks, values)
    }

    #[track_caller]
    fn refused(self, values: &[&str], said: &str) {
        match self.render(values) {
            Err(HelmError::Refused(why)) => assert!(why.contains(said), "{why}"),
            other => assert!(other.is_err(), "{values:?} is not refused for {said}"),
        }
    }
}

#[test]
fn values_stand_in_for_every_lookup() {
    let cluster = ApiServer { nodes: TWO, services: Some("10.96.0.0/12") };
    for values in [&[][..], &["central.addresses={172.30.0.9}"]] {
        assert_eq!(cluster.render(values).unwrap(), render(values).unwrap());
    }
}

#[test]
fn what_the_cluster_contradicts_is_refused() {
    let cluster = ApiServer { nodes: TWO, services: Some("10.43.0.0/16") };
    cluster
        .refused(&[], "cidrs.services: is 10.96.0.0/12, but the API server gives Services addresses of 10.43.0.0/16");
    cluster.render(&["cidrs.services.ipv4=10.43.0.0/16"]).unwrap();
    let cluster = ApiServer { nodes: &TWO[1..], services: Some("10.96.0.0/12") };
    cluster.refused(&[], "central.nodeSelector: no node is labelled so; kubectl label node NAME kube-ovn/role=master");
}

#[test]
fn a_cluster_without_the_kind_servicecidr_is_not_compared() {
    let cluster = ApiServer { nodes: TWO, services: None };
    let values = ["cidrs.services.ipv4=10.43.0.0/16"];
    assert_eq!(cluster.render(&values).unwrap(), render(&values).unwrap());
}

#[test]
fn an_api_server_that_does_not_take_the_crds_is_refused() {
    let at = |version: &str| render_with(&["--namespace=kube-system", &format!("--kube-version={version}")], &[]);
    assert_eq!(at("1.31.0").unwrap(), render(&[]).unwrap());
    let said = at("1.30.9").unwrap_err().to_string();
    assert!(said.contains("requires kubeVersion: >=1.31.0-0"), "{said}");
    // Distributions add to it.
    assert_eq!(at("1.31.4+rke2r1").unwrap(), at("1.33.2-gke.100").unwrap());
}

/// A lookup that is added needs a value that stands in for it, and a test above.
#[test]
fn no_other_lookup_is_in_the_templates() {
    let mut found = Vec::new();
    for file in std::fs::read_dir(format!("{}/templates", yamls::CHART)).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        found.extend(text.split("lookup \"").skip(1).map(|after| after.split('"').nth(2).unwrap().to_owned()));
    }
    found.sort();
    found.dedup();
    assert_eq!(found, ["Node", "ServiceCIDR"]);
}
