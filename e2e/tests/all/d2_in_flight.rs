//! D2: a paused leader has a transaction in flight. It arrives after another controller has taken over, and is refused.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::bench::bed::Bed;
use e2e::part::Part;
use e2e::{Cluster, central, ledger, net, ours, process};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

const NAME: &str = "d2-flight";

/// Blocks all packets from a host to the northbound database. The kernel keeps unacknowledged data and retransmits it.
/// Dropping this ends the block.
struct Cut(String);

const RULE: [&str; 7] = ["OUTPUT", "-p", "tcp", "--dport", "6641", "-j", "DROP"];

impl Cut {
    async fn off(host: String) -> Result<Self> {
        net::on_host(&host, "iptables", &[&["-w", "-I"][..], &RULE].concat()).await?;
        Ok(Self(host))
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let arguments = [&["-w", "-D"][..], &RULE].concat();
        if let Err(error) = process::in_netns(&self.0, "iptables", &arguments).status() {
            eprintln!("{} stays cut off: {error}", self.0);
        }
    }
}

/// Returns the number of unacknowledged bytes on the host's connection to the northbound database.
async fn unacknowledged(host: &str) -> Result<u64> {
    let printed = net::on_host(host, "ss", &["-Htn", "state", "established", "dport", "=", ":6641"]).await?;
    let line = printed.lines().next().context("there is no session with the northbound database")?;
    line.split_whitespace().nth(1).and_then(|bytes| bytes.parse().ok()).with_context(|| printed.clone())
}

/// Returns true if the northbound database ever committed this text. The file contains all transactions.
fn was_written(text: &str) -> Result<bool> {
    let file = fs::read(central::northbound_file())?;
    Ok(file.windows(text.len()).any(|part| part == text.as_bytes()))
}

#[tokio::test]
async fn d2_what_a_paused_leader_has_in_flight_is_refused() -> Result<()> {
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME}})).await?;
    scene.namespace(NAME, &[]).await?;
    let bed = Bed::new(&cluster, NAME, [NAME.to_owned()]).await?;
    ledger::agree(&cluster).await.context("before")?;
    let old = Part::leader().await?;
    let Part::Controller(replica) = old else { bail!("{old:?} leads") };
    let (host, _) = ours::controller_host(replica);
    let names = |what: &str| (0..20).map(|n| format!("{what}-{n}")).collect::<Vec<_>>();
    let (going, staying) = (names("going"), names("staying"));

    // The leader assigns addresses to these pods, and its transaction is in flight.
    let cut = Cut::off(host.clone()).await?;
    bed.create_all(&going, |_| {}).await?;
    let sent = || async {
        let bytes = unacknowledged(&host).await?;
        ensure!(bytes > 0, "it has sent nothing");
        Ok(bytes)
    };
    let bytes = process::until(Duration::from_secs(3), sent).await?;
    let paused = old.pause()?;

    // Delete these pods before any other controller sees them, and create others. From here on, the other controller
    // may lead.
    let pods: Api<Pod> = Api::namespaced(cluster.client(), NAME);
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
    bed.create_all(&staying, |_| {}).await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client(), "kube-system");
    // As if the leader had given it back: another controller leads before the database drops the connection.
    let given_back = Patch::Merge(json!({ "spec": { "holderIdentity": "" } }));
    leases.patch("kube-ovn-controller", &PatchParams::default(), &given_back).await?;
    bed.pods.count(staying.len()).await?;
    ensure!(!was_written("going-")?, "the old leader's transaction was not held up");

    // The transaction arrives now. The server does not drop so young a connection, so a closed connection is a test
    // failure.
    drop(cut);
    let arrived = || async {
        let bytes = unacknowledged(&host).await?;
        ensure!(bytes == 0, "{bytes} bytes are still on their way");
        Ok(())
    };
    process::until(Duration::from_secs(8), arrived).await.context("the old leader's transaction")?;
    central::nbctl(&["get-connection"]).await?; // a round trip, so all earlier requests are processed
    ensure!(!was_written("going-")?, "what the old leader had in flight was written");

    drop(paused);
    let stands_aside = || async {
        let leads = Part::leader().await?;
        ensure!(leads != old, "{old:?} leads, and it slept");
        Ok(())
    };
    process::until(Duration::from_secs(5), stands_aside).await?;
    let took = ledger::agree(&cluster).await?;
    ensure!(!was_written("going-")?, "the old leader has written after it woke");
    ensure!(was_written("staying-19.")?, "the file has what was decided after it");
    println!("{old:?}: {bytes} bytes in flight were refused; all records agreed after {took:.1?}");
    bed.clear().await.map(drop)
}
