//! Checks that the manifest matches the chart and grants minimal rights.

#![allow(clippy::unwrap_used)] // test helpers may panic

use std::{env, fs};

use serde_json::Value;
use yamls::rights;

fn committed() -> Vec<Value> {
    yamls::objects(&fs::read_to_string(yamls::MANIFEST).unwrap()).unwrap()
}

fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).unwrap()
}

#[test]
fn the_manifest_is_what_the_chart_says() {
    let fresh = format!("{}{}", yamls::HEADER, yamls::render(&[]).unwrap());
    if env::var_os("UPDATE_MANIFEST").is_some() {
        fs::write(yamls::MANIFEST, &fresh).unwrap();
    }
    let committed = fs::read_to_string(yamls::MANIFEST).unwrap();
    assert!(committed == fresh, "yamls/kube-ovn.yaml is stale: run `UPDATE_MANIFEST=1 cargo test -p yamls`");
}

#[test]
fn the_chart_has_no_faults_and_the_workspaces_version() {
    let said = yamls::helm(&["lint", "--strict", yamls::CHART]).unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
    let chart: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(format!("{}/Chart.yaml", yamls::CHART)).unwrap()).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}

#[test]
fn the_crds_are_those_of_the_types() {
    let manifest = fs::read_to_string(yamls::MANIFEST).unwrap();
    let mut files = 0;
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crds")).unwrap() {
        let path = file.unwrap().path();
        let ours = fs::read_to_string(&path)
            .unwrap()
            .replace("\nmetadata:\n", "\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n");
        assert!(manifest.contains(&ours), "{} is not in the manifest", path.display());
        files += 1;
    }
    assert_eq!(manifest.matches("kind: CustomResourceDefinition\n").count(), files);
}

#[test]
fn who_takes_over_a_node_can_change_no_object() {
    let objects = committed();
    // What it asks for is signed only if it is for its own node.
    let keys = rights(named(&objects, "ClusterRole", "kube-ovn-keys"));
    let requests = ["get", "list", "watch", "create"];
    assert_eq!(keys, requests.map(|verb| format!("{verb} certificates.k8s.io/certificatesigningrequests")));
    for right in rights(named(&objects, "ClusterRole", "kube-ovn-cni")) {
        assert!(["get ", "list ", "watch "].iter().any(|verb| right.starts_with(verb)), "the agent may {right}");
    }
    let spec = &named(&objects, "DaemonSet", "ovs-ovn")["spec"]["template"]["spec"];
    assert_eq!((&spec["automountServiceAccountToken"], spec.get("serviceAccountName")), (&false.into(), None));
}

#[test]
fn nobody_may_do_everything_or_read_other_secrets_than_the_own() {
    let objects = committed();
    let roles = objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role"));
    let all: Vec<_> = roles.clone().flat_map(rights).collect();
    assert!(all.len() > 20, "{all:?}");
    assert!(all.iter().all(|right| !right.contains('*')), "{all:?}");
    let of_secrets = roles.flat_map(|role| role["rules"].as_array().unwrap().iter().map(move |rule| (role, rule)));
    let of_secrets = of_secrets.filter(|(_, rule)| rule["resources"].as_array().unwrap().contains(&"secrets".into()));
    let of_secrets: Vec<_> = of_secrets
        .map(|(role, rule)| [&role["kind"], &role["metadata"]["name"], &rule["resourceNames"], &rule["verbs"]])
        .map(|all| all.map(ToString::to_string).join(" "))
        .collect();
    let own = r#""Role" "ovn-central" ["kube-ovn-ca"] ["get","list","watch","update"]"#;
    assert_eq!(of_secrets, [own], "a Secret can hold the token of any account");
}

/// A limit that is exceeded stops the node's traffic, and pods are killed before it when memory runs out.
#[test]
fn only_what_forwards_packets_has_no_memory_limit() {
    let objects = committed();
    for (kind, name, limited) in [
        ("DaemonSet", "ovs-ovn", false),
        ("DaemonSet", "kube-ovn-cni", true),
        ("Deployment", "kube-ovn-controller", true),
        ("DaemonSet", "ovn-central", true),
    ] {
        let spec = &named(&objects, kind, name)["spec"]["template"]["spec"];
        let resources = &spec["containers"][0]["resources"];
        assert_eq!(resources["limits"]["memory"].is_string(), limited, "{name}");
        assert!(resources["requests"]["memory"].is_string(), "{name}");
    }
    let ovs = &named(&objects, "DaemonSet", "ovs-ovn")["spec"]["template"]["spec"];
    assert_eq!(ovs["priorityClassName"], "system-node-critical");
}

/// There are no circular dependencies: the Services of the databases come before the pods that use them, and need no
/// DNS.
#[test]
fn services_come_before_the_pods_that_are_told_of_them() {
    let objects = committed();
    let place = |kind: &str| objects.iter().position(|object| object["kind"] == kind).unwrap();
    let last_service = objects.iter().rposition(|object| object["kind"] == "Service").unwrap();
    assert!(last_service < place("DaemonSet") && last_service < place("Deployment"));
    for name in ["ovn-nb", "ovn-sb", "ovn-northd"] {
        assert_eq!(named(&objects, "Service", name)["spec"]["selector"]["app"], "ovn-central");
    }
    for object in objects.iter().filter(|object| ["Deployment", "DaemonSet"].iter().any(|kind| object["kind"] == *kind))
    {
        let (name, spec) = (&object["metadata"]["name"], &object["spec"]["template"]["spec"]);
        assert_eq!((&spec["hostNetwork"], &spec["dnsPolicy"]), (&true.into(), &"Default".into()), "{name}");
        assert!(spec["priorityClassName"].as_str().unwrap().starts_with("system-"), "{name}");
        let containers = spec["containers"].as_array().unwrap();
        // `kubectl describe pod` shows why a container exited.
        for container in containers.iter().chain(spec["initContainers"].as_array().into_iter().flatten()) {
            assert_eq!(container["terminationMessagePolicy"], "FallbackToLogsOnError", "{name}");
        }
        for container in containers {
            // It also shows why a container is not ready: the kubelet shows the output of an exec probe, but only the
            // status of an HTTP probe.
            let command = &container["readinessProbe"]["exec"]["command"];
            assert_eq!(
                (&command[0], &command[1], &command[2]),
                (&container["command"][0], &"check".into(), &"ready".into())
            );
            for field in ["resources", "securityContext", "livenessProbe", "readinessProbe"] {
                assert!(container[field].is_object(), "{name} has no {field}");
            }
        }
    }
}
