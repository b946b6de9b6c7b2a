//! The checks of the node itself.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use keys::tls::Tls;
use keys::{Ends, Keys};
use links::Links;
use ovn::local::{self, Bridge, Mirror, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Args, Finding, PATIENCE};
use crate::mirror;
use crate::node_port::DEVICE;
use crate::ovs::{BRIDGE, Ovs};
use crate::rivals::Rivals;
use crate::rules;
use crate::southbound::in_list;

/// The time limit of the session with the node's database, which is on this node.
const SESSION: Duration = Duration::from_secs(1);

/// What the node's database says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Recorded {
    /// The datapath of the bridge. `None` without the bridge.
    datapath: Option<String>,
    /// The value of `ovn-remote`.
    remote: String,
}

/// Checks the node.
pub(super) async fn check(args: &Args, ovs: &Ovs) -> Vec<Finding> {
    let recorded = recorded(ovs).await;
    let mut findings = vec![
        Finding::new("agent", agent(args.port).await),
        Finding::new("open-vswitch", open_vswitch(recorded.as_ref())),
    ];
    let keys = Keys::new(args.key_directory.clone());
    let servers = recorded.as_ref().map(|recorded| in_list(&recorded.remote)).unwrap_or_default();
    findings.extend(databases(&servers, &keys).await);
    if servers.iter().any(|server| is_tls(server)) {
        findings.push(Finding::new("key", key(&keys)));
    }
    findings.push(Finding::new("ovn0", ovn0().await));
    findings.push(Finding::new("mirror", mirror(ovs).await));
    findings.push(Finding::new("rules", rules::are_there().await));
    findings.push(Finding::new("forwarding", forwarding(Path::new("/proc/sys/net"))));
    let conflist = Rivals { conf_dir: args.cni_conf_dir.clone(), conf_name: args.cni_conf_name.clone() };
    let path = args.cni_conf_dir.join(&args.cni_conf_name).display().to_string();
    findings.push(Finding::new("conflist", conflist.state().map(|()| format!("{path} is the first"))));
    findings
}

/// Looks for the mirror and its device, whatever the device's name is.
async fn mirror(ovs: &Ovs) -> Result<String, String> {
    let (device, ports) = ovs.read(|replica| {
        let bridge = Bridge::find(replica, BRIDGE).ok_or_else(|| format!("bridge {BRIDGE} does not exist"))?;
        let mirror = Mirror::find(replica, &bridge, mirror::NAME);
        let mirror = mirror.ok_or_else(|| format!("{BRIDGE} has no mirror {}", mirror::NAME))?;
        let port = mirror.output().and_then(|port| replica.get(local::PORT, port)?.get("name")?.as_str());
        let device = port.ok_or_else(|| format!("mirror {} has no device", mirror::NAME))?;
        Ok::<_, String>((device.to_owned(), mirror.count()))
    })?;
    let links = Links::here().map_err(|error| error.to_string())?;
    match links.find(&device).await.map_err(|error| error.to_string())? {
        Some(link) if link.up => Ok(format!("{device} shows the packets of {ports} pods")),
        Some(_) => Err(format!("{device} is down")),
        None => Err(format!("{device} does not exist")),
    }
}

async fn recorded(ovs: &Ovs) -> Option<Recorded> {
    let mut connected = ovs.connected();
    timeout(SESSION, connected.wait_for(|connected| *connected)).await.ok()?.ok()?;
    ovs.read(|replica| {
        let settings = Settings::find(replica)?;
        Some(Recorded {
            datapath: Bridge::find(replica, BRIDGE).map(|bridge| bridge.datapath_type().unwrap_or_default().to_owned()),
            remote: settings.external_id(local::REMOTE).unwrap_or_default().to_owned(),
        })
    })
}

/// Asks the agent on this node, as a probe does.
async fn agent(port: u16) -> Result<String, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let asked = tokio::task::spawn_blocking(move || kit::check::ready(address)).await;
    match asked {
        Ok(Ok(())) => Ok("is ready".to_owned()),
        Ok(Err(why)) => Err(format!("is not ready: {why}")),
        Err(error) => Err(error.to_string()),
    }
}

fn open_vswitch(recorded: Option<&Recorded>) -> Result<String, String> {
    let Recorded { datapath, .. } = recorded.ok_or("its database does not answer: look at ovs-ovn")?;
    match datapath.as_deref() {
        None => Err(format!("there is no bridge {BRIDGE}: ovn-controller does not work, look at ovs-ovn")),
        Some("netdev") => Ok("works on the userspace datapath".to_owned()),
        Some(_) if !Path::new("/sys/module/openvswitch").exists() => {
            Err("the kernel has no module openvswitch, and the bridge needs it".to_owned())
        }
        Some(_) => Ok("works on the kernel's datapath".to_owned()),
    }
}

/// Connects to each server of the southbound database. One is enough for ovn-controller: a node with the label of databases
/// need not have one, and a member of a cluster can be away.
async fn databases(servers: &BTreeSet<&str>, keys: &Keys) -> Vec<Finding> {
    let mut findings = Vec::new();
    for server in servers {
        let address = server.split_once(':').and_then(|(_, address)| address.parse::<SocketAddr>().ok());
        let result = match address {
            Some(address) if is_tls(server) => echo(address, keys).await,
            Some(address) => connect(address).await,
            None => Ok("is not reached by TCP".to_owned()),
        };
        findings.push(Finding { check: "database", of: (*server).to_owned(), result });
    }
    if findings.iter().any(|finding| finding.result.is_ok()) {
        for finding in &mut findings {
            if let Err(error) = &finding.result {
                finding.result = Ok(format!("is not used: {error}"));
            }
        }
    }
    if findings.is_empty() {
        let result = Err("no ovn-remote in Open vSwitch says where the southbound database is".to_owned());
        findings.push(Finding::new("database", result));
    }
    findings
}

fn is_tls(server: &str) -> bool {
    server.starts_with("ssl:")
}

/// Asks the server for an echo (RFC 7047, 4.1.11) with the key of the node's chassis. A connection alone says nothing: with TLS
/// 1.3, the client's part of the handshake ends before the server has looked at its certificate.
async fn echo(address: SocketAddr, keys: &Keys) -> Result<String, String> {
    let tls = Tls::read(keys).map_err(|error| error.to_string())?;
    let ask = async {
        let mut stream = tls.connector.connect(Tls::name(), TcpStream::connect(address).await?).await?;
        stream.write_all(br#"{"id":"check","method":"echo","params":[]}"#).await?;
        stream.flush().await?;
        stream.read_u8().await?;
        stream.shutdown().await
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(())) => Ok("takes connections with the key of this node".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(unanswered(address)),
    }
}

/// Says until when the key of the node's chassis can be used.
fn key(keys: &Keys) -> Result<String, String> {
    let ends = Ends::of(keys);
    match (ends.warning(), ends.dates()) {
        (Some(warning), _) => Err(warning),
        (None, (Some(own), Some(authority))) => Ok(format!("ends on {own}, and that of the authority on {authority}")),
        (None, _) => Err(format!("there is no key in {}", keys.directory().display())),
    }
}

fn unanswered(address: SocketAddr) -> String {
    format!("no answer within {PATIENCE:?}: a firewall may drop TCP port {}", address.port())
}

/// Opens a TCP connection.
pub(super) async fn connect(address: SocketAddr) -> Result<String, String> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok("takes connections".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(unanswered(address)),
    }
}

async fn ovn0() -> Result<String, String> {
    let links = Links::here().map_err(|error| error.to_string())?;
    let link = links.find(DEVICE).await.map_err(|error| error.to_string())?;
    let link = link.ok_or("there is no such link: look at the agent's log")?;
    if !link.up {
        return Err("the link is down".to_owned());
    }
    let assigned = links.assigned().await.map_err(|error| error.to_string())?;
    let addresses: Vec<String> = assigned
        .iter()
        .filter(|address| address.link == link.index && !links::is_link_local(address.own))
        .map(|address| address.own.to_string())
        .collect();
    if addresses.is_empty() {
        return Err("the link has no address".to_owned());
    }
    Ok(format!("{}, MTU {}", addresses.join(", "), link.mtu))
}

fn forwarding(net: &Path) -> Result<String, String> {
    let is_on = |path: &str| std::fs::read_to_string(net.join(path)).is_ok_and(|value| value.trim() == "1");
    let on: Vec<&str> = [("IPv4", "ipv4/ip_forward"), ("IPv6", "ipv6/conf/all/forwarding")]
        .into_iter()
        .filter_map(|(family, path)| is_on(path).then_some(family))
        .collect();
    // A cluster without IPv6 does not need the other one.
    if on.contains(&"IPv4") || on.contains(&"IPv6") {
        return Ok(format!("on for {}", on.join(" and ")));
    }
    Err("net.ipv4.ip_forward is not 1: another program has turned it off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_says_where_to_look() {
        assert!(open_vswitch(None).unwrap_err().contains("look at ovs-ovn"));
        let recorded = Recorded::default();
        assert!(open_vswitch(Some(&recorded)).unwrap_err().contains("no bridge br-int"));
        let recorded = Recorded { datapath: Some("netdev".to_owned()), ..recorded };
        assert_eq!(open_vswitch(Some(&recorded)).unwrap(), "works on the userspace datapath");
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let keys = Keys::new("/nowhere".into());
        let lines = async |remote: String| {
            let findings = databases(&in_list(&remote), &keys).await;
            findings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(lines(format!("tcp:{open}")).await, [format!("ok   database tcp:{open}: takes connections")]);
        let closed = {
            let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            other.local_addr().unwrap()
        };
        let one_of_two = lines(format!("tcp:{closed},tcp:{open}")).await;
        let not_used = format!("ok   database tcp:{closed}: is not used: Connection refused");
        assert!(one_of_two.iter().any(|line| line.starts_with(&not_used)), "{one_of_two:?}");
        drop(listener);
        let refused = lines(format!("tcp:{open}")).await;
        assert!(refused[0].starts_with(&format!("FAIL database tcp:{open}: Connection refused")), "{refused:?}");
        assert!(lines(String::new()).await[0].starts_with("FAIL database: no ovn-remote"));
    }
}
