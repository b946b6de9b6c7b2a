//! Flags of kube-ovn's node agent (`kube-ovn-daemon`) that the agent accepts but does not implement, in addition to those
//! in `kit`.

use kit::flags::Unserved;

/// The flags, each with what applies instead.
pub(super) const FLAGS: &[Unserved] = &[
    Unserved {
        instead: "the conflist is written by --cni-conf-dir and --cni-conf-name, not copied",
        switches: &[],
        values: &["cni-conf-file"],
    },
    Unserved {
        instead: "checksums of tunnels are switched by --encap-checksum, and those of interfaces are not changed",
        switches: &["set-vxlan-tx-off"],
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
        values: &["external-gateway-switch", "gateway-netfilter-mode"],
    },
    Unserved {
        instead: "the controller gives the node its address, of the subnet of its --node-switch",
        switches: &[],
        values: &["node-switch"],
    },
    Unserved { instead: "packets that policies drop are not sampled", switches: &["enable-acl-sampling"], values: &[] },
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
];
