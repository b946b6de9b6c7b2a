//! Flags of kube-ovn's node agent (`kube-ovn-daemon`) that are known and do nothing here.

use kit::flags::Unserved;

/// Each with what holds instead.
pub(super) const FLAGS: &[Unserved] = &[
    Unserved { instead: "traffic is not mirrored", switches: &["enable-mirror"], values: &["mirror-iface"] },
    Unserved { instead: "Services are left to kube-proxy", switches: &[], values: &["node-local-dns-ip"] },
    Unserved {
        instead: "the conflist is written by --cni-conf-dir and --cni-conf-name, not copied",
        switches: &[],
        values: &["cni-conf-file"],
    },
    Unserved {
        instead: "checksums of tunnels are as Open vSwitch has them",
        switches: &["encap-checksum", "set-vxlan-tx-off"],
        values: &[],
    },
    Unserved {
        instead: "the tunnels' address follows from --iface",
        switches: &["host-tunnel-src"],
        values: &["dpdk-tunnel-iface"],
    },
    Unserved {
        instead: "every subnet is an overlay",
        switches: &["mac-learning-fallback"],
        values: &["default-provider-name", "default-interface-name"],
    },
    Unserved {
        instead: "no address is given to two pods, and none is asked for in the network before it is used",
        switches: &["enable-arp-detect-ip-conflict"],
        values: &[],
    },
    Unserved { instead: "pods get veth pairs", switches: &[], values: &["kubelet-dir"] },
    Unserved {
        instead: "kubelet reaches pods by ovn0, and no connections are checked",
        switches: &["enable-tproxy", "enable-verbose-conn-check"],
        values: &["tcp-conn-check-port", "udp-conn-check-port"],
    },
    Unserved { instead: "Open vSwitch is spoken to in one session", switches: &[], values: &["ovs-vsctl-concurrency"] },
    Unserved {
        instead: "metrics and health are always there, by plain HTTP on --metrics-address, and there is no profiling",
        switches: &["enable-metrics", "enable-pprof", "secure-serving"],
        values: &["tls-min-version", "tls-max-version", "tls-cipher-suites"],
    },
    Unserved {
        instead: "tunnels are not encrypted",
        switches: &["enable-ovn-ipsec", "cert-manager-ipsec-cert"],
        values: &["ipsec-cert-duration", "cert-manager-issuer-name"],
    },
    Unserved { instead: "it is the network of every pod", switches: &["non-primary-cni-mode"], values: &[] },
];
