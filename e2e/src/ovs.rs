//! Open vSwitch and ovn-controller on a node, with the userspace datapath: what `images/` does in its start script on a
//! cluster of its own. Leaves `br-int` to ovn-controller and everything in it to us.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::layout::{CONTROL_PLANE, Node};
use crate::{process, rootfs};

/// Starts them; ovn-controller finds the southbound database by itself, whenever that is there.
pub async fn up(node: Node) -> Result<()> {
    let name = node.name();
    let create = ["create", "/etc/openvswitch/conf.db", "/usr/share/openvswitch/vswitch.ovsschema"];
    process::run(rootfs::on(node, "ovsdb-tool", &create)?).await?;
    let server = ["/etc/openvswitch/conf.db", "--remote=punix:/run/openvswitch/db.sock", "--pidfile"];
    let server_name = format!("ovsdb-{name}");
    process::start(&server_name, rootfs::on(node, "ovsdb-server", &server)?)?;
    process::ready(&server_name, Duration::from_secs(10), || async { vsctl(node, &["--no-wait", "init"]).await })
        .await?;
    process::start(&format!("vswitchd-{name}"), rootfs::on(node, "ovs-vswitchd", &["--pidfile"])?)?;

    fs::write(node.dir().join("root/etc/openvswitch/system-id.conf"), format!("{name}\n"))?;
    let settings = [
        format!("external_ids:system-id={name}"),
        format!("external_ids:hostname={name}"),
        "external_ids:ovn-encap-type=geneve".to_owned(),
        format!("external_ids:ovn-encap-ip={}", node.tunnel_ip()),
        format!("external_ids:ovn-remote=tcp:{CONTROL_PLANE}:6642"),
        "external_ids:ovn-bridge-datapath-type=netdev".to_owned(),
    ];
    let mut arguments = vec!["set", "Open_vSwitch", "."];
    arguments.extend(settings.iter().map(String::as_str));
    // The userspace datapath finds its tunnels' local address on a bridge of its own; eth1 is that bridge's way out.
    arguments.extend([
        "--",
        "add-br",
        "br-phy",
        "--",
        "set",
        "Bridge",
        "br-phy",
        "datapath_type=netdev",
        "--",
        "add-port",
        "br-phy",
        "eth1",
    ]);
    vsctl(node, &arguments).await?;
    let address = format!("{}/24", node.tunnel_ip());
    process::run(process::on(node, "ip", &["address", "add", &address, "dev", "br-phy"])?).await?;
    for link in ["eth1", "br-phy"] {
        process::run(process::on(node, "ip", &["link", "set", link, "up"])?).await?;
    }
    controller(node)
}

/// Starts ovn-controller.
pub fn controller(node: Node) -> Result<()> {
    process::start(
        &format!("ovn-controller-{}", node.name()),
        rootfs::on(node, "ovn-controller", &["unix:/run/openvswitch/db.sock", "--pidfile"])?,
    )
}

/// `ovs-vsctl` on a node; what it printed.
pub async fn vsctl(node: Node, arguments: &[&str]) -> Result<String> {
    process::run(rootfs::on(node, "ovs-vsctl", arguments)?).await
}
