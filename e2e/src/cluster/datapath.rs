//! What the datapath of a node does with packets, for the reader of a failure.

use super::Place;

/// Asks for everything that decides about the packets of tunnels. The socket of ovs-vswitchd has its PID in its name, which is
/// another one here.
const SCRIPT: &str = r#"
target=$(ls /var/run/openvswitch/ovs-vswitchd.*.ctl)
for what in "ovs/route/show" "tnl/ports/show -v" "tnl/neigh/show" "dpif/show" "dpctl/dump-flows -m"; do
    echo "--- $what"
    ovs-appctl -t "$target" $what
done
ip route
ip neighbor
"#;

/// Returns what a node's datapath says, or why it says nothing.
pub async fn says(node: &Place) -> String {
    let said = node.run("sh", &["-c", SCRIPT]).await.unwrap_or_else(|error| format!("{error:#}"));
    format!("the datapath of {node}:\n{said}\n")
}
