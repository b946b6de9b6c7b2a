//! `IPPool`s: their status, their address sets, and which pools serve a namespace.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Scene, nb};
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::try_join;

use super::{SOON, Workload, annotated, ips, pool, same, set, status_is, subnet};

const NAME: &str = "a7-pools";
/// A namespace that is bound to pools.
const BOUND: &str = "a7-bound";

#[tokio::test]
async fn a7_pools_tell_what_is_used_and_serve_their_namespaces() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    // Two subnets, the first of both families, for two namespaces.
    let one = json!({"cidrBlock": "10.121.0.0/24,fd00:121::/112", "namespaces": [NAME, BOUND]});
    let two = json!({"cidrBlock": "10.122.0.0/24", "namespaces": [NAME, BOUND]});
    let (one, two) = try_join!(subnet(&scene, "a7-pools-1", one), subnet(&scene, "a7-pools-2", two))?;
    try_join!(scene.namespace(NAME, &[]), scene.namespace(BOUND, &[]))?;
    try_join!(all_pools_of_a_namespace(&scene, &one, &two), what_is_used(&scene, &one, &two)).map(drop)
}

/// The status of a pool, its address set, and a pool of the second subnet.
async fn what_is_used(scene: &Scene, one: &Value, two: &Value) -> Result<()> {
    let cluster = scene.cluster();
    // All fields of the status are there as soon as the pool is Ready.
    let listed = json!({
        "subnet": "a7-pools-1",
        "ips": ["10.121.0.9", "10.121.0.20..10.121.0.22", "10.121.0.10", "fd00:121::20..fd00:121::22"],
    });
    let fresh = pool(scene, "a7-few", listed).await?;
    let unused = json!({
        "v4UsingIPs": 0, "v4UsingIPRange": "", "v6UsingIPs": 0, "v6UsingIPRange": "",
        "v4AvailableIPs": 5, "v4AvailableIPRange": "10.121.0.9-10.121.0.10,10.121.0.20-10.121.0.22",
        "v6AvailableIPs": 3, "v6AvailableIPRange": "fd00:121::20-fd00:121::22",
    });
    same(&fresh["status"], &unused)?;
    let named = json!({"ovn.kubernetes.io/ip_pool": "a7-few", "ovn.kubernetes.io/logical_switch": "a7-pools-1"});
    let web = Workload::new(scene, NAME, ("Deployment", "web"), json!({"replicas": 3}), named).await?;
    let pods = web.pods(3, one, &[]).await?;
    let used = json!({
        "v4UsingIPs": 3, "v4UsingIPRange": "10.121.0.9-10.121.0.10,10.121.0.20",
        "v6UsingIPs": 3, "v6UsingIPRange": "fd00:121::20-fd00:121::22",
        "v4AvailableIPs": 2, "v4AvailableIPRange": "10.121.0.21-10.121.0.22",
        "v6AvailableIPs": 0, "v6AvailableIPRange": "",
    });
    status_is(cluster, "IPPool", "a7-few", used).await?;
    // The pods come again. The pool has as many IPv6 addresses as there are pods, so each waits for a predecessor's.
    web.again(&pods, one).await?;
    status_is(cluster, "IPPool", "a7-few", json!({"v4UsingIPs": 3, "v4AvailableIPs": 2, "v6AvailableIPs": 0})).await?;

    // Of the second subnet, whose pool serves the namespace, too.
    let in_two = async {
        pool(scene, "a7-two", json!({"subnet": "a7-pools-2", "ips": ["10.122.0.50"], "namespaces": [NAME]})).await?;
        let asked = json!({"ovn.kubernetes.io/logical_switch": "a7-pools-2"});
        let db = Workload::new(scene, NAME, ("StatefulSet", "db"), json!({"replicas": 1}), asked).await?;
        let pods = db.pods(1, two, &[]).await?;
        assert_eq!(ips(&pods[0]), set(&["10.122.0.50"]));
        anyhow::Ok(())
    };
    // An address set follows the pool.
    let address_set = async {
        let ips = json!(["10.122.0.64..10.122.0.69", "10.122.0.80"]);
        pool(scene, "a7-set", json!({"subnet": "a7-pools-2", "ips": ips, "enableAddressSet": true})).await?;
        set_is(Some(&["10.122.0.64/30", "10.122.0.68/31", "10.122.0.80"])).await?;
        let pools: Api<api::IpPool> = Api::all(cluster.client());
        let edit = async |spec: Value| {
            let patch = Patch::Merge(json!({ "spec": spec }));
            pools.patch("a7-set", &PatchParams::default(), &patch).await
        };
        edit(json!({"ips": ["10.122.0.64..10.122.0.67"]})).await?;
        set_is(Some(&["10.122.0.64/30"])).await?;
        edit(json!({"enableAddressSet": false})).await?;
        set_is(None).await
    };
    try_join!(in_two, address_set).map(drop)
}

/// Waits until the address set of the pool `a7-set` has these addresses, or does not exist.
async fn set_is(expected: Option<&[&str]>) -> Result<()> {
    e2e::process::until(SOON, || async {
        let rows = nb::find("Address_Set", &["external_ids:ippool=a7-set"]).await?;
        let (Some(expected), Some(row)) = (expected, rows.first()) else {
            ensure!(expected.is_none() && rows.is_empty(), "{rows:?}");
            return Ok(());
        };
        ensure!(row["name"] == "a7.set", "{row:?}");
        let found = match &row["addresses"] {
            Value::Array(all) => all.iter().filter_map(|one| Some(one.as_str()?.to_owned())).collect(),
            one => [one.as_str().unwrap_or_default().to_owned()].into(),
        };
        ensure!(set(expected) == found, "{found:?}");
        Ok(())
    })
    .await
}

/// Pods of a namespace get addresses of all its pools, and one that gets none is told so.
async fn all_pools_of_a_namespace(scene: &Scene, one: &Value, two: &Value) -> Result<()> {
    let cluster = scene.cluster();
    // Two pools in the first subnet and one in the second, with one address each.
    for (name, network, ip) in [
        ("a7-first", "a7-pools-1", "10.121.0.30,fd00:121::30"),
        ("a7-second", "a7-pools-1", "10.121.0.40,fd00:121::40"),
        ("a7-third", "a7-pools-2", "10.122.0.51"),
    ] {
        let ips: Vec<&str> = ip.split(',').collect();
        pool(scene, name, json!({"subnet": network, "ips": ips, "namespaces": [BOUND]})).await?;
    }
    let all = |namespace: &Namespace| {
        let found = namespace.metadata.annotations.as_ref().and_then(|all| all.get("ovn.kubernetes.io/ip_pool"));
        ensure!(found.is_some_and(|pools| pools.split(',').count() == 3), "{found:?}");
        Ok(())
    };
    cluster.until(Api::<Namespace>::all(cluster.client()), BOUND, all).await?;

    let mut found = Vec::new();
    for (pod, network) in [("a", one), ("b", one), ("c", two)] {
        let pod = scene.pod(BOUND, pod).on("n1").ready().await?;
        let pod = pod.annotated("ovn.kubernetes.io/routed", "true").await?.object;
        annotated(&pod, network)?;
        found.extend(ips(&pod));
    }
    found.sort();
    let expected = ["10.121.0.30", "10.121.0.40", "10.122.0.51", "fd00:121::30", "fd00:121::40"];
    assert_eq!(found, expected, "from all pools");

    let last = scene.pod(BOUND, "last").on("n1").create().await?;
    last.told("AcquireAddressFailed", &[]).await?;
    let events: Api<Event> = Api::namespaced(cluster.client(), BOUND);
    let of = ListParams::default().fields("involvedObject.name=last,reason=AcquireAddressFailed");
    let event = events.list(&of).await?.items.into_iter().next().context("no event")?;
    let source = event.source.unwrap_or_default();
    assert_eq!(event.involved_object.kind.as_deref(), Some("Pod"));
    assert_eq!((event.type_.as_deref(), source.component.as_deref()), (Some("Warning"), Some("kube-ovn-controller")));
    assert_eq!(source.host.unwrap_or_default(), "");
    Ok(())
}
