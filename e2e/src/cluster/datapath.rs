//! What decides about the packets of one pod to another, for the reader of a failure.

use std::fmt::Write;

use anyhow::{Context, Result};
use api::annotations::MAC_ADDRESS;

use super::{Cluster, Pod};
use crate::central::sbctl;

/// Asks ovs-vswitchd. Its socket has its PID in its name, which is another one here.
const ASK: &str = r#"
target=$(ls /var/run/openvswitch/ovs-vswitchd.*.ctl)
for what in "ovs/route/show" "tnl/ports/show -v" "tnl/neigh/show" "dpif/show" "dpctl/dump-flows -m"; do
    echo "--- $what"
    ovs-appctl -t "$target" $what
done
port=$(ovs-vsctl --bare --columns=ofport find interface external_ids:iface-id="$1")
echo "--- ofproto/trace in_port=$port,$2"
ovs-appctl -t "$target" ofproto/trace br-int "in_port=$port,$2"
"#;

/// Returns what both nodes would do with a packet from one pod to the other, and what the southbound database has of their ports.
pub async fn says(cluster: &Cluster, one: &Pod, other: &Pod) -> String {
    let mut said = String::new();
    for (from, to) in [(one, other), (other, one)] {
        let answer = ask(cluster, from, to).await.unwrap_or_else(|error| format!("{error:#}"));
        // Writing to a String cannot fail.
        let _ = write!(said, "from {} to {}:\n{answer}\n", from.name(), to.name());
    }
    let columns = ["--columns=logical_port,tunnel_key,chassis,up", "list", "Port_Binding"];
    said + &sbctl(&columns).await.unwrap_or_else(|error| format!("{error:#}"))
}

async fn ask(cluster: &Cluster, from: &Pod, to: &Pod) -> Result<String> {
    let mac = |pod: &Pod| Ok::<_, anyhow::Error>(pod.annotation(MAC_ADDRESS).context("no MAC address")?.to_owned());
    let packet = format!(
        "icmp,dl_src={},dl_dst={},nw_src={},nw_dst={},nw_ttl=64,icmp_type=8",
        mac(from)?,
        mac(to)?,
        from.ip4()?,
        to.ip4()?
    );
    let port = api::pod_port(from.name(), from.namespace());
    let node = cluster.node(from.node().context("no node")?)?;
    node.run("sh", &["-c", ASK, "sh", &port, &packet]).await
}
