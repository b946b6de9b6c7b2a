//! Flags of kube-ovn's controller that are accepted and have no effect, in addition to those in `kit`.

use kit::flags::Unserved;

/// Each group states what applies instead.
pub(super) const FLAGS: &[Unserved] = &[
    Unserved {
        instead: "--ovn-nb-addr names the northbound database, and its session needs no tuning",
        switches: &[],
        values: &[
            "ovn-nb-socket",
            "ovn-nb-host",
            "ovn-nb-port",
            "timeout",
            "ovn-timeout",
            "ovsdb-con-timeout",
            "ovsdb-con-maxretry",
            "ovsdb-inactivity-timeout",
        ],
    },
    Unserved {
        instead: "work is not split among workers, and what fails is tried again at a pace of its own",
        switches: &[],
        values: &["worker-num", "cust-crd-retry-min-delay", "cust-crd-retry-max-delay"],
    },
    Unserved {
        instead: "all rows are compared as they change, and with everything every 5 minutes",
        switches: &[],
        values: &["gc-interval", "inspect-interval", "nodepg-probe-time"],
    },
    Unserved {
        instead: "Services are left to kube-proxy",
        switches: &[
            "enable-lb",
            "enable-lb-svc",
            "enable-ovn-lb-prefer-local",
            "ls-dnat-mod-dl-dst",
            "ls-ct-skip-dst-lport-ips",
        ],
        values: &[
            "cluster-tcp-loadbalancer",
            "cluster-udp-loadbalancer",
            "cluster-sctp-loadbalancer",
            "cluster-tcp-session-loadbalancer",
            "cluster-udp-session-loadbalancer",
            "cluster-sctp-session-loadbalancer",
            "skip-conntrack-dst-cidrs",
        ],
    },
    Unserved {
        instead: "network policies are not enforced yet",
        switches: &["enable-np", "enable-anp", "enable-dns-name-resolver"],
        values: &["np-enforcement", "external-acl-parent-keys"],
    },
    Unserved {
        instead: "there is one router for all subnets, and the nodes are its only ways out",
        switches: &["enable-eip-snat", "enable-external-vpc"],
        values: &[
            "external-gateway-config-ns",
            "external-gateway-switch",
            "external-gateway-net",
            "external-gateway-vlanid",
            "pod-default-fip-type",
            "bfd-min-tx",
            "bfd-min-rx",
            "bfd-detect-mult",
        ],
    },
    Unserved {
        instead: "each Subnet says with enableEcmp whether it is spread over its gateway nodes",
        switches: &["enable-ecmp"],
        values: &[],
    },
    Unserved {
        instead: "every subnet is an overlay, and the agents' --network-type says which tunnels carry it",
        switches: &[
            "default-gateway-check",
            "default-logical-gateway",
            "default-u2o-interconnection",
            "default-exchange-link-name",
        ],
        values: &["network-type", "default-vlan-name", "default-vlan-id"],
    },
    Unserved {
        instead: "only a stateful set's pods get their addresses back",
        switches: &["keep-vm-ip", "enable-live-migration-optimize"],
        values: &[],
    },
    Unserved { instead: "no pods are started for gateways or load balancers", switches: &[], values: &["image"] },
    Unserved {
        instead: "the tunnel keys are in the databases only",
        switches: &["enable-record-tunnel-key"],
        values: &[],
    },
    Unserved { instead: "pods get veth pairs", switches: &[], values: &["pod-nic-type"] },
];
