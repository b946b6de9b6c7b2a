//! The command line. It has the flag names and defaults of kube-ovn, so that kube-ovn's manifests keep working.

mod unserved;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use api::{Addresses, Cidrs, IpRange};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use keys::Keys;
use kit::flags::{self, Ignored};
use ovsdb::{Accept, Config, Endpoint, Table, TlsFiles};

/// The default port of the health endpoint.
pub const PORT: u16 = 10660;

/// The text after the list of flags.
const AFTER_HELP: &str = "`kube-ovn-controller check ready` asks the one that runs here how it is, as a probe does.";

/// Translates namespaces, subnets, nodes and pods into the OVN northbound database.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-ovn-controller", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Path of a kubeconfig; in a cluster the service account is used.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Labels of the nodes with databases, comma-separated, as a label selector. The controller follows them: members come and
    /// go without a restart.
    #[arg(long, default_value = "kube-ovn/role=master")]
    pub database_nodes: String,

    /// Northbound database: `tcp:HOST:PORT`, `ssl:HOST:PORT` or `unix:PATH`; the members of a cluster separated by commas.
    /// Default: port 6641 of the nodes of --database-nodes, and port 6645 for the southbound database (6642 without TLS).
    #[arg(long, env = "OVN_NB_ADDR", value_delimiter = ',')]
    pub ovn_nb_addr: Vec<Endpoint>,

    /// Southbound database, in the same format. The controller removes the chassis of deleted nodes there. With --ovn-nb-addr
    /// and without this flag they stay.
    #[arg(long, env = "OVN_SB_ADDR", value_delimiter = ',')]
    pub ovn_sb_addr: Vec<Endpoint>,

    /// Private key for `ssl:` endpoints, PEM. This file and the next two are read for each connection.
    #[arg(short = 'p', long, env = "OVN_PRIVATE_KEY", requires_all = ["certificate", "ca_cert"])]
    pub private_key: Option<PathBuf>,

    /// Certificate for `ssl:` endpoints, PEM.
    #[arg(short = 'c', long, env = "OVN_CERTIFICATE", requires = "private_key")]
    pub certificate: Option<PathBuf>,

    /// CA certificates that verify the database's certificate, PEM. The host name in a certificate is not checked.
    #[arg(short = 'C', long, env = "OVN_CA_CERT", requires = "private_key")]
    pub ca_cert: Option<PathBuf>,

    /// Connect to the databases of --database-nodes with TLS, by a key that ovn-central issues. With `--tls=false`, everybody who
    /// reaches their ports can change the whole network.
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub tls: bool,

    /// Directory of the issued key.
    #[arg(long, default_value = "/run/kube-ovn/keys")]
    pub key_directory: PathBuf,

    /// Name of the default subnet, for namespaces bound to none.
    #[arg(long, default_value = "ovn-default")]
    pub default_ls: String,

    /// CIDR of the default subnet when it has to be created; one, or one of each family.
    #[arg(long, env = "POD_CIDR", default_value = "10.16.0.0/16")]
    pub default_cidr: Cidrs,

    /// Gateway of the default subnet; the first address when not given.
    #[arg(long, env = "POD_GATEWAY")]
    pub default_gateway: Option<Addresses>,

    /// Addresses of the default subnet that are never given out: `a`, or `a..b`, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub default_exclude_ips: Vec<IpRange>,

    /// Name of the logical router that ties the subnets together.
    #[arg(long, default_value = "ovn-cluster")]
    pub cluster_router: String,

    /// Name of the subnet on which every node has its ovn0.
    #[arg(long, default_value = "join")]
    pub node_switch: String,

    /// CIDR of the join subnet when it has to be created; one, or one of each family.
    #[arg(long, env = "JOIN_CIDR", default_value = "100.64.0.0/16")]
    pub node_switch_cidr: Cidrs,

    /// Gateway of the join subnet; the first address when not given.
    #[arg(long)]
    pub node_switch_gateway: Option<Addresses>,

    /// The API server's service range; no subnet may overlap it.
    #[arg(long, env = "SVC_CIDR", default_value = "10.96.0.0/12")]
    pub service_cluster_ip_range: Cidrs,

    /// Port security of pods without the annotation `ovn.kubernetes.io/port_security`: whether they can send only from their
    /// own addresses.
    #[arg(long, default_value_t = false, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set)]
    pub enable_port_security: bool,

    /// This replica's name in the Lease; the pod's name in a cluster.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// Namespace of the Lease. kube-ovn's manifests set the variable `KUBE_NAMESPACE`, which is read too.
    #[arg(long, env = "POD_NAMESPACE", default_value_t = namespace(std::env::var("KUBE_NAMESPACE").ok()))]
    pub pod_namespace: String,

    /// How long the Lease is valid after a renewal, in seconds.
    #[arg(long, default_value = "6", value_parser = seconds)]
    pub lease_duration: Duration,

    /// Address of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, default_value = "0.0.0.0")]
    pub metrics_address: IpAddr,

    /// Port of `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, default_value_t = PORT)]
    pub pprof_port: u16,

    /// Also send an event with the address of each pod, as kube-ovn does. This adds a third write for each pod.
    #[arg(long)]
    pub allocation_events: bool,

    /// What is logged, and how.
    #[command(flatten)]
    pub logs: kit::logs::Logs,
}

impl Args {
    /// Parses a command line that begins with the program's name. Also returns the flags of kube-ovn that have no
    /// effect here.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<(Self, Vec<Ignored>), clap::Error> {
        let (args, ignored) = flags::read::<Self>(line, unserved::FLAGS)?;
        args.check().map_err(|why| Self::command().error(ErrorKind::ValueValidation, why))?;
        Ok((args, ignored))
    }

    /// Checks that the networks do not overlap. Otherwise only the first subnet could be created, or Services would be
    /// unreachable.
    fn check(&self) -> Result<(), String> {
        let networks = [
            ("--default-cidr", &self.default_cidr),
            ("--node-switch-cidr", &self.node_switch_cidr),
            ("--service-cluster-ip-range", &self.service_cluster_ip_range),
        ];
        for (at, (flag, cidrs)) in networks.iter().enumerate() {
            for (other, others) in &networks[..at] {
                for (cidr, theirs) in cidrs.iter().flat_map(|cidr| others.iter().map(move |theirs| (cidr, theirs))) {
                    if cidr.overlaps(theirs) {
                        return Err(format!("{flag}: {cidr} overlaps {other}, {theirs}"));
                    }
                }
            }
        }
        if self.default_ls == self.node_switch {
            return Err(format!("--node-switch: is {}, as --default-ls is", self.node_switch));
        }
        Ok(())
    }

    /// The address of the health endpoint.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.metrics_address, self.pprof_port)
    }

    /// The configuration of the northbound client.
    pub fn northbound(&self) -> Config {
        self.database(&self.ovn_nb_addr, "OVN_Northbound", ovn::northbound())
    }

    /// The configuration of the southbound client, unless only an address of the northbound database is given.
    pub fn southbound(&self) -> Option<Config> {
        let given = !self.ovn_sb_addr.is_empty() || self.ovn_nb_addr.is_empty();
        let tables = ovn::southbound::tables();
        let config = given.then(|| self.database(&self.ovn_sb_addr, ovn::southbound::DATABASE, tables))?;
        Some(Config { unfilled: Some(ovn::southbound::unfilled::is_unfilled), ..config })
    }

    fn database(&self, endpoints: &[Endpoint], name: &'static str, tables: Vec<Table>) -> Config {
        let tls = match (&self.private_key, &self.certificate, &self.ca_cert) {
            (Some(private_key), Some(certificate), Some(ca_cert)) => Some(TlsFiles {
                private_key: private_key.clone(),
                certificate: certificate.clone(),
                ca_cert: ca_cert.clone(),
            }),
            _ => self.issued().map(|keys| TlsFiles {
                private_key: keys.own(),
                certificate: keys.own(),
                ca_cert: keys.trusted(),
            }),
        };
        let config = Config::new(endpoints.to_vec(), name, tables);
        // A server that hangs keeps its connections, and meanwhile another one leads. An election takes a second, in which no
        // server is the right one.
        // One that hangs takes connections, too.
        let silence = Duration::from_secs(3);
        let backoff = (Duration::from_millis(50), Duration::from_millis(250));
        Config { tls, accept: Accept::Leader, inactivity: silence, connect_timeout: silence, backoff, ..config }
    }

    /// Returns where the key is that ovn-central issues, if one is needed and none is given.
    pub fn issued(&self) -> Option<Keys> {
        let is_tls = |server: &Endpoint| matches!(server, Endpoint::Ssl { .. });
        let needed = if self.ovn_nb_addr.is_empty() { self.tls } else { self.ovn_nb_addr.iter().any(is_tls) };
        (needed && self.private_key.is_none()).then(|| Keys::new(self.key_directory.clone()))
    }

    /// This replica's name in the Lease: the pod's name, else the host name and the process id.
    pub fn identity(&self) -> String {
        self.pod_name.clone().unwrap_or_else(|| {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{}-{}", host.trim(), std::process::id())
        })
    }
}

/// The namespace when neither the flag nor `POD_NAMESPACE` is set.
fn namespace(named_by_kube_ovn: Option<String>) -> String {
    named_by_kube_ovn.filter(|name| !name.is_empty()).unwrap_or_else(|| "kube-system".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.trim_end_matches('s').parse() {
        Ok(seconds @ 2..=3600) => Ok(Duration::from_secs(seconds)),
        Ok(other) => Err(format!("{other} s is not between 2 and 3600")),
        Err(error) => Err(format!("{text:?} is not a number of seconds: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["kube-ovn-controller", "--ovn-nb-addr"].iter().chain(more))
    }

    #[test]
    fn a_command_line_of_kube_ovn_is_accepted_as_it_is() {
        let line = "kube-ovn-controller --ovn-nb-addr=tcp:[10.0.0.1]:6641 --ovn-sb-addr=tcp:[10.0.0.1]:6642 \
            --default-ls=ovn-default --default-cidr=10.16.0.0/16 --default-gateway= --default-gateway-check=true \
            --default-logical-gateway=false --default-u2o-interconnection=false --default-exclude-ips= \
            --cluster-router=ovn-cluster --node-switch=join --node-switch-cidr=100.64.0.0/16 \
            --service-cluster-ip-range=10.96.0.0/12 --network-type=geneve --default-provider-name=provider \
            --default-interface-name= --default-exchange-link-name=false --default-vlan-name=ovn-vlan --default-vlan-id=100 \
            --ls-dnat-mod-dl-dst=true --ls-ct-skip-dst-lport-ips=true --pod-nic-type=veth-pair --enable-lb=true \
            --enable-np=true --enable-eip-snat=true --enable-external-vpc=true --enable-ecmp=false --logtostderr=false \
            --alsologtostderr=true --gc-interval=360 --inspect-interval=20 --log_file=/var/log/kube-ovn-controller.log \
            --log_file_max_size=200 --enable-lb-svc=false --keep-vm-ip=true --enable-metrics=true --node-local-dns-ip= \
            --secure-serving=false --enable-ovn-ipsec=false --enable-anp=false --ovsdb-con-timeout=3 \
            --ovsdb-inactivity-timeout=10 --enable-ovn-lb-prefer-local=false --enable-record-tunnel-key=false \
            --image=kube-ovn:v1 --external-acl-parent-keys=owner --worker-num 3 --v=3";
        let (args, ignored) = Args::read(line.split_whitespace().map(Into::into)).unwrap();
        assert_eq!((args.default_gateway, args.default_exclude_ips.len()), (None, 0));
        assert_eq!(args.default_cidr.to_string(), "10.16.0.0/16");
        let lb = ignored.iter().find(|ignored| ignored.flag == "--enable-lb").unwrap();
        assert_eq!((lb.instead, ignored.len()), ("Services are left to kube-proxy", 35));

        let unknown = Args::read(["kube-ovn-controller", "--no-such-flag=1"].map(Into::into)).unwrap_err().to_string();
        assert!(unknown.starts_with("error: unexpected argument '--no-such-flag' found"), "{unknown}");
    }

    #[test]
    fn an_error_about_overlapping_networks_names_both_flags() {
        for (more, why) in [
            (
                "--default-cidr=10.96.0.0/16",
                "--service-cluster-ip-range: 10.96.0.0/12 overlaps --default-cidr, 10.96.0.0/16",
            ),
            (
                "--node-switch-cidr=10.16.9.0/24",
                "--node-switch-cidr: 10.16.9.0/24 overlaps --default-cidr, 10.16.0.0/16",
            ),
            (
                "--service-cluster-ip-range=100.64.0.0/10",
                "--service-cluster-ip-range: 100.64.0.0/10 overlaps --node-switch-cidr, 100.64.0.0/16",
            ),
            ("--node-switch=ovn-default", "--node-switch: is ovn-default, as --default-ls is"),
        ] {
            let line = ["kube-ovn-controller", "--ovn-nb-addr=tcp:10.0.0.1:6641", more];
            let refused = Args::read(line.map(Into::into)).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("error: {why}\n")), "{refused}");
        }
    }

    #[test]
    fn the_namespace_can_come_from_kube_ovns_variable() {
        assert_eq!(namespace(Some("networks".to_owned())), "networks");
        assert_eq!([namespace(Some(String::new())), namespace(None)], ["kube-system", "kube-system"]);
    }

    #[test]
    fn the_manifests_command_line_is_accepted() {
        let manifest = std::fs::read_to_string(yamls::MANIFEST).unwrap();
        let line = yamls::command_line(&yamls::objects(&manifest).unwrap(), "kube-ovn-controller");
        let (args, ignored) = Args::read(line.into_iter().map(Into::into)).unwrap();
        assert_eq!((args.database_nodes.as_str(), ignored.len()), ("kube-ovn/role=master", 0));
        assert!(args.ovn_nb_addr.is_empty() && args.southbound().is_some(), "it follows the nodes");
    }

    #[test]
    fn port_security_can_be_the_default() {
        for (more, default) in
            [(&[][..], false), (&["--enable-port-security"], true), (&["--enable-port-security=false"], false)]
        {
            let line = ["tcp:10.0.0.1:6641"].iter().chain(more).copied().collect::<Vec<_>>();
            assert_eq!(args(&line).unwrap().enable_port_security, default, "{more:?}");
        }
        assert!(args(&["tcp:10.0.0.1:6641", "--enable-port-security=on"]).is_err());
    }

    #[test]
    fn served_flags_are_not_listed_as_unserved() {
        assert_eq!(flags::contested::<Args>(unserved::FLAGS), [""; 0]);
    }

    #[test]
    fn the_tls_files_must_be_given_together() {
        let args = |more: &[&str]| args(more).map(|args| args.northbound());
        assert!(args(&["tcp:10.0.0.1:6641"]).unwrap().check().is_ok());
        assert!(args(&["tcp:10.0.0.1:6641", "-p", "key"]).unwrap_err().to_string().contains("--certificate"));
        assert!(args(&["tcp:10.0.0.1:6641", "-C", "ca"]).unwrap_err().to_string().contains("--private-key"));

        let missing = args(&["ssl:10.0.0.2:6641", "-p", "/no/key", "-c", "/no/cert", "-C", "/no/ca"]);
        let missing = missing.unwrap().check().unwrap_err().to_string();
        assert!(missing.starts_with("endpoint ssl:10.0.0.2:6641: CA certificate /no/ca: "), "{missing}");
    }

    #[test]
    fn a_key_is_issued_where_one_is_needed_and_none_is_given() {
        let issued = |line: &[&str]| {
            let args = Args::try_parse_from(["kube-ovn-controller"].iter().chain(line)).unwrap();
            (args.issued().is_some(), args.northbound().tls.is_some())
        };
        let given = ["-p", "key", "-c", "certificate", "-C", "ca"];
        for (line, expected) in [
            (&[][..], (true, true)),
            (&["--tls=false"], (false, false)),
            (&["--ovn-nb-addr=tcp:10.0.0.1:6641"], (false, false)),
            (&["--ovn-nb-addr=tcp:10.0.0.1:6641,ssl:10.0.0.2:6641"], (true, true)),
            (&given, (false, true)),
        ] {
            assert_eq!(issued(line), expected, "{line:?}");
        }
    }
}
