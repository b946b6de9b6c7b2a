//! The agent's arguments, with kube-ovn's names and defaults.

mod unserved;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api::annotations::ROLE_LABEL;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser};
use ipnet::IpNet;
use kit::flags::{self, Ignored};
use ovn::Encapsulation;
use ovsdb::client::Endpoint;

use crate::chassis_key;
use crate::conflist::Install;
use crate::node_port::DEVICE;
use crate::ovs::BRIDGE;
use crate::ports::is_host_end;
use crate::rules::Firewall;
use crate::tunnel::{LEAST, Names};

/// The default port of the health endpoint.
pub const PORT: u16 = 10665;

/// The text below the flags in the help.
const AFTER_HELP: &str = "`kube-ovn-cni check ready` asks the one that runs here how it is, as a probe does.\n\
    `kube-ovn-cni check node` says from this node what of the network works.\n\
    `kube-ovn-cni external-host NAME` lets a machine that is no node join the pod network.";

/// The flags of the tunnels, which an external host has, too.
#[derive(Clone, Debug, clap::Args)]
pub struct Tunnels {
    /// Interfaces for tunnels: names or regular expressions, in order of preference. Default: the interface with the
    /// node's address.
    #[arg(long, env = "IFACE", default_value = "", value_parser = ifaces)]
    pub iface: Names,
    /// MTU of pods in bytes, limited by the tunnel interface. 0: the MTU of the tunnel interface minus the tunnel
    /// overhead.
    #[arg(long, default_value_t = 0, value_parser = mtu)]
    pub mtu: u32,
    /// Encapsulation between nodes.
    #[arg(long, default_value_t = Encapsulation::Geneve, value_parser = encapsulation())]
    pub network_type: Encapsulation,
    /// Checksums in the outer UDP headers of tunnels. Without them, some network cards process packets faster, others
    /// slower, and errors of the network are found later.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub encap_checksum: bool,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self { iface: Names::default(), mtu: 0, network_type: Encapsulation::Geneve, encap_checksum: true }
    }
}

/// The node agent of the pod network.
#[derive(Clone, Debug, Parser)]
#[command(name = "kube-ovn-cni", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Name of the Kubernetes node.
    #[arg(long, env = "KUBE_NODE_NAME")]
    pub node_name: String,
    /// The flags of the tunnels.
    #[command(flatten)]
    pub tunnels: Tunnels,
    /// Copy the packets of all pods to the mirror interface. A node's annotation `ovn.kubernetes.io/mirror` decides for it.
    #[arg(long, default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub enable_mirror: bool,
    /// Mirror interface: a device of Open vSwitch with copies of the packets of mirrored pods.
    #[arg(long, default_value = "mirror0", value_parser = mirror_iface)]
    pub mirror_iface: String,
    /// Unix socket for the CNI plugin.
    #[arg(long, default_value = "/run/openvswitch/kube-ovn-daemon.sock")]
    pub bind_socket: PathBuf,
    /// Database of the node's Open vSwitch: a path or `unix:<path>`.
    #[arg(long, default_value = "/run/openvswitch/db.sock", value_parser = ovs_socket)]
    pub ovs_socket: PathBuf,
    /// Path of the kubeconfig. Default: the pod's service account.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Service ranges: one network for each address family.
    #[arg(long, default_value = "10.96.0.0/12", value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Install the conflist when ready: `true`, `false`, or the path of the plugin to install with it.
    #[arg(long, default_value = "false", default_missing_value = "true", num_args = 0..=1)]
    pub install_cni_config: String,
    /// Directory of further plugins to install with the conflist: those that the runtime does not have, for example
    /// loopback and portmap.
    #[arg(long, value_name = "DIRECTORY")]
    pub install_cni_plugins: Option<PathBuf>,
    /// Directory for the conflist.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// File name of the conflist.
    #[arg(long, default_value = "01-kube-ovn.conflist")]
    pub cni_conf_name: String,
    /// Directory for the plugin.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, default_value_t = (Ipv4Addr::UNSPECIFIED, PORT).into())]
    pub metrics_address: SocketAddr,
    /// Port that overrides the port of --metrics-address, as in kube-ovn.
    #[arg(long)]
    pub pprof_port: Option<u16>,
    /// Labels of the nodes with OVN databases, comma-separated. ovn-controller finds the southbound database there, and the
    /// ports of the databases take connections from nodes only. Without labels (two words: `--database-nodes ''`), the ports are
    /// not protected, and the servers must be in --ovn-sb-addr.
    #[arg(long, default_value_t = format!("{ROLE_LABEL}=master"))]
    pub database_nodes: String,
    /// Servers of the southbound database for the node's ovn-controller, comma-separated: `ssl:HOST:PORT` or
    /// `tcp:HOST:PORT`. Default: port 6642 of the nodes of --database-nodes.
    #[arg(long, env = "OVN_SB_ADDR", value_delimiter = ',')]
    pub ovn_sb_addr: Vec<Endpoint>,
    /// Connect to the southbound database with TLS, by the key of the node's chassis, which ovn-central issues. With
    /// --ovn-sb-addr, its endpoints say so: `ssl:` or `tcp:`.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub tls: bool,
    /// Directory of the key: `keys` beside the node's database.
    #[arg(long, default_value = chassis_key::DIRECTORY)]
    pub key_directory: PathBuf,
    /// Directory of the sysctls `net.*`: where it is mounted writable in a container without privileges.
    #[arg(long, default_value = links::sysctl::DIRECTORY)]
    pub sysctl_directory: PathBuf,
    /// Namespace of ovn-central.
    #[arg(long, env = "POD_NAMESPACE", default_value = "kube-system")]
    pub pod_namespace: String,
    /// How the firewall rules of the node are written.
    #[arg(long, value_enum, default_value_t = Firewall::Auto)]
    pub firewall: Firewall,
    /// Time limit of an ADD in seconds.
    #[arg(long, default_value_t = 30)]
    pub add_timeout: u64,
    /// The log flags.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

impl Args {
    /// Parses a command line, starting with the program's name. Returns the kube-ovn flags that have no effect.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<(Self, Vec<Ignored>), clap::Error> {
        flags::read(line, unserved::FLAGS)
    }

    /// Returns whether the southbound database is reached with TLS.
    pub fn needs_key(&self) -> bool {
        if self.ovn_sb_addr.is_empty() { self.tls } else { has_tls(&self.ovn_sb_addr) }
    }

    /// Returns the address of the health endpoint.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.metrics_address.ip(), self.pprof_port.unwrap_or(self.metrics_address.port()))
    }

    /// Returns what to install, if anything.
    pub fn install(&self) -> Option<Install> {
        let plugin = match self.install_cni_config.as_str() {
            "false" | "" => return None,
            "true" => None,
            plugin => Some(plugin.into()),
        };
        Some(Install {
            conf_dir: self.cni_conf_dir.clone(),
            conf_name: self.cni_conf_name.clone(),
            socket: self.bind_socket.clone(),
            bin_dir: self.cni_bin_dir.clone(),
            plugin,
            others: self.install_cni_plugins.clone(),
        })
    }

    /// Returns the time limit of an ADD.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.add_timeout)
    }
}

/// Returns whether one of these servers is reached with TLS.
pub(crate) fn has_tls(servers: &[Endpoint]) -> bool {
    servers.iter().any(|server| matches!(server, Endpoint::Ssl { .. }))
}

fn ifaces(text: &str) -> Result<Names, regex::Error> {
    Names::parse(text.split(','))
}

fn encapsulation() -> impl TypedValueParser<Value = Encapsulation> {
    PossibleValuesParser::new(Encapsulation::ALL.map(Encapsulation::as_str)).try_map(|name| name.parse())
}

fn mtu(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(mtu @ (0 | LEAST..=65535)) => Ok(mtu),
        _ => Err(format!("neither 0 nor between {LEAST} and 65535")),
    }
}

/// Parses the name of the mirror interface: a link's name that is not that of another part.
fn mirror_iface(text: &str) -> Result<String, String> {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=15).contains(&text.len()) || !text.bytes().all(is_name) || matches!(text, "." | ".." | "all" | "default") {
        return Err("not the name of a link".to_owned());
    }
    if [DEVICE, BRIDGE, "lo", "ovs-system", "ovs-netdev"].contains(&text) || is_host_end(text) {
        return Err("the name of another link".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses the path of the node's database. The sockets of its bridges are in the same directory.
pub(crate) fn ovs_socket(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("unix:").unwrap_or(text) {
        path if path.starts_with('/') => Ok(path.into()),
        _ => Err("this node's own database is reached by a path or unix:<path>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Args {
        Args::try_parse_from(["kube-ovn-cni", "--node-name", "n1"].iter().chain(more)).unwrap()
    }

    #[test]
    fn the_defaults_are_kube_ovns() {
        let args = args(&[]);
        assert_eq!(args.tunnels.iface.to_string(), "--iface ");
        assert_eq!(args.bind_socket, PathBuf::from("/run/openvswitch/kube-ovn-daemon.sock"));
        assert!(args.install().is_none());
    }

    #[test]
    fn a_command_line_of_kube_ovns_is_taken_as_it_is() {
        let line = "kube-ovn-cni --node-name=n1 --enable-mirror=false --mirror-iface=mirror0 --encap-checksum=true \
            --service-cluster-ip-range=10.96.0.0/12 --iface= --dpdk-tunnel-iface=br-phy --network-type=geneve \
            --default-interface-name= --cni-conf-dir=/etc/cni/net.d --cni-conf-file=/kube-ovn/01-kube-ovn.conflist \
            --cni-conf-name=01-kube-ovn.conflist --logtostderr=false --alsologtostderr=true \
            --log_file=/var/log/kube-ovn/kube-ovn-cni.log --log_file_max_size=200 --enable-metrics=true \
            --kubelet-dir=/var/lib/kubelet --enable-tproxy=false --ovs-vsctl-concurrency=100 --secure-serving=false \
            --enable-ovn-ipsec=false --set-vxlan-tx-off=false --enable-arp-detect-ip-conflict=true --pprof-port=10666 \
            --node-switch=join --external-gateway-switch=external --gateway-netfilter-mode=iptables --enable-acl-sampling=false -v 3";
        let (args, ignored) = Args::read(line.split_whitespace().map(Into::into)).unwrap();
        assert_eq!((args.tunnels.iface.to_string().as_str(), args.endpoint().port()), ("--iface ", 10666));
        assert_eq!((args.tunnels.encap_checksum, ignored.len()), (true, 18));
        let unknown = Args::read(["kube-ovn-cni", "--no-such-flag=1"].map(Into::into)).unwrap_err().to_string();
        assert!(unknown.starts_with("error: unexpected argument '--no-such-flag' found"), "{unknown}");
    }

    #[test]
    fn the_manifests_command_line_is_taken() {
        let manifest = std::fs::read_to_string(yamls::MANIFEST).unwrap();
        let line = yamls::command_line(&yamls::objects(&manifest).unwrap(), "kube-ovn-cni");
        let words = line.into_iter().chain(["--node-name=n1".to_owned()]).map(Into::into); // set in the environment
        let (args, ignored) = Args::read(words).unwrap();
        let install = args.install().unwrap();
        assert_eq!(install.plugin, Some(PathBuf::from("/usr/lib/kube-ovn/kube-ovn")));
        assert_eq!((install.others, ignored.len()), (Some(PathBuf::from("/usr/lib/kube-ovn/cni")), 0));
    }

    #[test]
    fn an_mtu_that_no_pod_could_have_is_refused() {
        assert_eq!([args(&["--mtu=0"]).tunnels.mtu, args(&["--mtu=576"]).tunnels.mtu], [0, 576]);
        for mtu in ["575", "65536", "-1", "jumbo"] {
            let refused =
                Args::try_parse_from(["kube-ovn-cni", "--node-name=n1", &format!("--mtu={mtu}")]).unwrap_err();
            let expected = format!("invalid value '{mtu}' for '--mtu <MTU>': neither 0 nor between 576 and 65535");
            assert!(refused.to_string().contains(&expected), "{refused}");
        }
    }

    #[test]
    fn checksums_of_tunnels_are_a_switch() {
        let all = [&[][..], &["--encap-checksum"], &["--encap-checksum=true"], &["--encap-checksum=false"]];
        assert_eq!(all.map(|more| args(more).tunnels.encap_checksum), [true, true, true, false]);
    }

    #[test]
    fn what_is_served_is_not_among_what_is_not() {
        assert_eq!(flags::contested::<Args>(unserved::FLAGS), [""; 0]);
    }

    #[test]
    fn the_nodes_own_database_is_reached_without_tls() {
        let socket = |text: &str| {
            let args = ["kube-ovn-cni", "--node-name", "n1", "--ovs-socket", text];
            Args::try_parse_from(args).map(|args| args.ovs_socket).map_err(|error| error.to_string())
        };
        assert_eq!(socket("/run/db.sock"), Ok(PathBuf::from("/run/db.sock")));
        assert_eq!(socket("unix:/run/db.sock"), socket("/run/db.sock"));
        for other in ["ssl:127.0.0.1:6640", "tcp:127.0.0.1:6640", "db.sock"] {
            let refused = socket(other).unwrap_err();
            assert!(refused.contains("this node's own database is reached by a path or unix:<path>"), "{refused}");
        }
    }

    #[test]
    fn a_list_is_read_and_a_plugin_installed() {
        let args = args(&[
            "--iface=eth1,br-phy",
            "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112",
            "--ovs-socket=unix:/run/db.sock",
            "--install-cni-config=/kube-ovn/kube-ovn",
        ]);
        assert_eq!(args.tunnels.iface.to_string(), "--iface eth1, br-phy");
        assert_eq!(args.service_cluster_ip_range.len(), 2);
        let install = args.install().unwrap();
        assert_eq!((install.plugin, install.others), (Some(PathBuf::from("/kube-ovn/kube-ovn")), None));
        assert_eq!(args.ovs_socket, PathBuf::from("/run/db.sock"));
        assert!(Args::try_parse_from(["kube-ovn-cni", "--node-name=n1", "--ovs-socket=tcp:10.0.0.1:6640"]).is_err());
    }
}
