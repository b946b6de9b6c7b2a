//! Tests which values the chart accepts. Each refusal names the value to change.

#![allow(clippy::unwrap_used)] // test helpers may panic

use serde_json::Value;
use yamls::{HelmError, render};

#[track_caller]
fn refused(values: &[&str], words: &[&str]) {
    let said = match render(values).err() {
        Some(HelmError::Refused(said)) => said,
        other => format!("{other:?}"),
    };
    for word in words {
        assert!(said.contains(word), "{values:?} is not refused for {word:?}, this was said: {said}");
    }
}

#[track_caller]
fn taken(values: &[&str], lines: &[&str]) {
    let rendered = render(values).unwrap();
    for line in lines {
        assert!(rendered.contains(line), "{values:?} does not give {line:?}");
    }
    for object in yamls::objects(&rendered).unwrap() {
        arguments_are_texts(&object);
    }
}

/// YAML takes some texts, such as those that end with a colon, for something else.
#[track_caller]
fn arguments_are_texts(value: &Value) {
    if let Some(arguments) = value["args"].as_array() {
        assert!(arguments.iter().all(Value::is_string), "{arguments:?}");
    }
    let inside = value.as_object().into_iter().flat_map(|object| object.values());
    inside.chain(value.as_array().into_iter().flatten()).for_each(arguments_are_texts);
}

const DUAL: [&str; 3] =
    ["cidrs.pods.ipv6=fd00:10:16::/112", "cidrs.join.ipv6=fd00:100:64::/112", "cidrs.services.ipv6=fd00:10:96::/112"];

const IPV6: [&str; 6] = [DUAL[0], DUAL[1], DUAL[2], "cidrs.pods.ipv4=", "cidrs.join.ipv4=", "cidrs.services.ipv4="];

#[test]
fn one_family_the_other_or_both() {
    taken(
        &[],
        &["--default-cidr=10.16.0.0/16\n", "--node-switch-cidr=100.64.0.0/16\n", "--metrics-address=0.0.0.0:10665\n"],
    );
    taken(
        &DUAL,
        &[
            "--default-cidr=10.16.0.0/16,fd00:10:16::/112\n",
            "--node-switch-cidr=100.64.0.0/16,fd00:100:64::/112\n",
            "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112\n",
        ],
    );
    taken(
        &IPV6,
        &[
            "--default-cidr=fd00:10:16::/112\n",
            "--metrics-address=[::]:10665\n",
            "\"--metrics-address=::\"\n",
            "host: \"::1\"",
        ],
    );
    taken(&DUAL[..2], &["--service-cluster-ip-range=10.96.0.0/12\n"]);
    // The API server's service ranges may contain a family that pods do not have.
    taken(&DUAL[2..], &["--default-cidr=10.16.0.0/16\n", "--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112\n"]);
}

#[test]
fn networks_are_networks() {
    for (value, field) in [
        ("cidrs.pods.ipv4=10.16.0.0", "/cidrs/pods/ipv4"),
        ("cidrs.pods.ipv4=10.16.0/16", "/cidrs/pods/ipv4"),
        ("cidrs.pods.ipv4=10.256.0.0/16", "/cidrs/pods/ipv4"),
        ("cidrs.pods.ipv4=10.16.0.0/33", "/cidrs/pods/ipv4"),
        ("cidrs.pods.ipv4=10.16.0.0/31", "/cidrs/pods/ipv4"),
        ("cidrs.pods.ipv4=fd00::/64", "/cidrs/pods/ipv4"),
        ("cidrs.join.ipv4=ten", "/cidrs/join/ipv4"),
        ("cidrs.services.ipv4=10.96.0.0/x", "/cidrs/services/ipv4"),
        ("cidrs.services.ipv6=10.96.0.0/12", "/cidrs/services/ipv6"),
        ("cidrs.pods.ipv6=fd00::/129", "/cidrs/pods/ipv6"),
        ("cidrs.pods.ipv6=fd00::/127", "/cidrs/pods/ipv6"),
        ("cidrs.pods.ipv6=fg00::/64", "/cidrs/pods/ipv6"),
        ("cidrs.pods.ipv6=fd00::1::2/64", "cidrs.pods.ipv6: fd00::1::2/64 is no network"),
        ("cidrs.pods.ipv6=fd00:1:2:3/64", "cidrs.pods.ipv6: fd00:1:2:3/64 is no network"),
        ("cidrs.pods.ipv6=1:2:3:4:5:6:7::8/64", "/cidrs/pods/ipv6"),
    ] {
        refused(&[value], &[field]);
    }
}

#[test]
fn families_agree() {
    refused(&DUAL[..1], &["cidrs.join.ipv6: is empty, but cidrs.pods.ipv6 is fd00:10:16::/112"]);
    refused(&DUAL[1..2], &["cidrs.pods.ipv6: is empty, but cidrs.join.ipv6 is fd00:100:64::/112"]);
    refused(&["cidrs.pods.ipv4="], &["cidrs.pods.ipv4: is empty, but cidrs.join.ipv4 is 100.64.0.0/16"]);
    refused(&["cidrs.services.ipv4="], &["cidrs.services: has neither"]);
    refused(&["cidrs.pods.ipv4=", "cidrs.join.ipv4=", "cidrs.services.ipv4="], &["cidrs.pods: has neither"]);
}

#[test]
fn networks_do_not_overlap() {
    let services = |pods: &str| refused(&[pods], &["cidrs.services.ipv4: 10.96.0.0/12 overlaps cidrs.pods.ipv4"]);
    services("cidrs.pods.ipv4=10.0.0.0/8");
    services("cidrs.pods.ipv4=10.96.0.0/16");
    services("cidrs.pods.ipv4=10.111.255.0/24");
    taken(&["cidrs.pods.ipv4=10.112.0.0/16"], &["--default-cidr=10.112.0.0/16\n"]);
    taken(&["cidrs.pods.ipv4=10.95.255.0/24"], &["--default-cidr=10.95.255.0/24\n"]);
    refused(
        &["cidrs.join.ipv4=10.16.255.0/30"],
        &["cidrs.join.ipv4: 10.16.255.0/30 overlaps cidrs.pods.ipv4, 10.16.0.0/16"],
    );
    refused(&["cidrs.services.ipv4=100.64.0.0/10"], &["cidrs.services.ipv4: 100.64.0.0/10 overlaps cidrs.join.ipv4"]);
    let ipv6 = |join: &str, words: &[&str]| refused(&[DUAL[0], join], words);
    ipv6("cidrs.join.ipv6=FD00:0010:16:0::/80", &["cidrs.join.ipv6", "overlaps cidrs.pods.ipv6, fd00:10:16::/112"]);
    ipv6("cidrs.join.ipv6=fd00:10:16:0:0:0:0:8000/126", &["overlaps cidrs.pods.ipv6"]);
    taken(&[DUAL[0], "cidrs.join.ipv6=fd00:10:16::1:0/112"], &["fd00:10:16::1:0/112"]);
    taken(&[DUAL[0], "cidrs.join.ipv6=fd00:10:17::/48"], &["fd00:10:17::/48"]);
}

#[test]
fn gateways_and_excluded_addresses_are_of_their_subnet() {
    taken(&["defaultSubnet.gateway=10.16.255.254"], &["--default-gateway=10.16.255.254\n"]);
    taken(&["joinSubnet.gateway=100.64.0.9"], &["--node-switch-gateway=100.64.0.9\n"]);
    taken(
        &["defaultSubnet.excludeIPs={10.16.0.9,10.16.0.20..10.16.0.30}"],
        &["--default-exclude-ips=10.16.0.9,10.16.0.20..10.16.0.30\n"],
    );
    let dual = |gateway: &str, words: &[&str]| {
        refused(&[DUAL[0], DUAL[1], &format!("defaultSubnet.gateway={gateway}")], words);
    };
    taken(
        &[DUAL[0], DUAL[1], r"defaultSubnet.gateway=10.16.0.1\,fd00:10:16::1"],
        &["--default-gateway=10.16.0.1,fd00:10:16::1\n"],
    );
    dual("10.16.0.1", &["defaultSubnet.gateway: has no address of cidrs.pods.ipv6"]);
    dual(r"10.16.0.1\,10.16.0.2", &["defaultSubnet.gateway: has no address of cidrs.pods.ipv6"]);
    for (value, words) in [
        (
            "defaultSubnet.gateway=10.17.0.1",
            "defaultSubnet.gateway: 10.17.0.1 is not inside cidrs.pods.ipv4, which is 10.16.0.0/16",
        ),
        (
            "defaultSubnet.gateway=fd00::1",
            "defaultSubnet.gateway: fd00::1 is not inside cidrs.pods.ipv6, which is empty",
        ),
        ("defaultSubnet.gateway=10.16.0.256", "defaultSubnet.gateway: 10.16.0.256 is no address"),
        ("defaultSubnet.gateway=first", "/defaultSubnet/gateway"),
        (r"defaultSubnet.gateway=10.16.0.1\,10.16.0.2", "defaultSubnet.gateway: has two addresses of one family"),
        ("joinSubnet.gateway=10.16.0.1", "joinSubnet.gateway: 10.16.0.1 is not inside cidrs.join.ipv4"),
        (
            "defaultSubnet.excludeIPs={10.16.0.1,10.16.0.9..10.17.0.1}",
            "defaultSubnet.excludeIPs[1]: 10.17.0.1 is not inside",
        ),
        ("defaultSubnet.excludeIPs={10.16.0.1-10.16.0.9}", "/defaultSubnet/excludeIPs/0"),
        ("joinSubnet.name=ovn-default", "joinSubnet.name: is ovn-default, as defaultSubnet.name is"),
        ("defaultSubnet.name=Ovn_Default", "/defaultSubnet/name"),
    ] {
        refused(&[value], &[words]);
    }
}

#[test]
fn tunnels() {
    taken(
        &["tunnel.type=vxlan", "tunnel.mtu=1400", r"tunnel.iface=bond0\,eth.*"],
        &["--network-type=vxlan\n", "--mtu=1400\n", "\"--iface=br-phy,bond0,eth.*\"\n"],
    );
    taken(
        &["ovs.datapath=userspace", "tunnel.iface=eth1"],
        &["--datapath=userspace\n", "            - --iface=eth1\n"],
    );
    taken(&[], &["--encap-checksum=true\n"]);
    taken(&["tunnel.checksum=false"], &["--encap-checksum=false\n"]);
    refused(&["tunnel.checksum=off"], &["/tunnel/checksum", "want boolean"]);
    refused(&["ovs.datapath=userspace"], &["tunnel.iface: is \"\", but ovs.datapath is userspace"]);
    refused(&["ovs.datapath=userspace", "tunnel.iface=eth.*"], &["tunnel.iface: is \"eth.*\", but ovs.datapath is"]);
    refused(&["ovs.datapath=dpdk"], &["/ovs/datapath"]);
    refused(&["tunnel.type=gre"], &["/tunnel/type", "'geneve', 'vxlan'"]);
    refused(&["tunnel.mtu=100"], &["/tunnel/mtu", "576"]);
    refused(&["tunnel.mtu=70000"], &["/tunnel/mtu", "65,535"]);
    refused(&["tunnel.mtu=large"], &["/tunnel/mtu", "want integer"]);
    refused(&[DUAL[0], DUAL[1], "tunnel.mtu=1279"], &["tunnel.mtu: is 1279, but cidrs.pods.ipv6 is set"]);
    refused(&["tunnel.iface=eth0 eth1"], &["/tunnel/iface"]);
    refused(&["mirror.iface=a-name-of-16-chr"], &["/mirror/iface"]);
    taken(&["portSecurity=true"], &["--enable-port-security=true\n"]);
    refused(&["portSecurity=on"], &["/portSecurity", "want boolean"]);
    taken(&["mirror.enabled=true"], &["--enable-mirror=true\n", "--mirror-iface=mirror0\n"]);
}

/// The databases are at the addresses that are given. Otherwise the controller follows the labels of the nodes, as the agents
/// do.
#[test]
fn where_the_databases_are() {
    taken(&["central.nodeSelector.zone=a"], &["--database-nodes=kube-ovn/role=master,zone=a\"\n"]);
    let two = "central.addresses={192.168.1.4,fd01::4}";
    taken(
        &[two],
        &[
            "--ovn-nb-addr=ssl:[192.168.1.4]:6641,ssl:[fd01::4]:6641\n",
            "--ovn-sb-addr=ssl:[192.168.1.4]:6645,ssl:[fd01::4]:6645\n",
        ],
    );
    taken(
        &["central.addresses={192.168.1.4}", "tls.enabled=false"],
        &["--tls=false\n", "--ovn-nb-addr=tcp:[192.168.1.4]:6641\n", "--ovn-sb-addr=tcp:[192.168.1.4]:6642\n"],
    );
    refused(&["central.addresses={master-1}"], &["/central/addresses/0"]);
    refused(&["central.addresses={192.168.1.4,192.168.1.4}"], &["/central/addresses"]);
    refused(
        &["central.addresses={192.168.1.4,10.16.3.4}"],
        &["central.addresses[1]: 10.16.3.4 is inside cidrs.pods, 10.16.0.0/16"],
    );
    taken(&["apiServer.host=api.example"], &["value: \"api.example\"\n", "value: \"6443\"\n"]);
    refused(&["apiServer.host=10.96.0.1"], &["apiServer.host: 10.96.0.1 is inside cidrs.services, 10.96.0.0/12"]);
    refused(&["apiServer.host=https://api.example"], &["/apiServer/host"]);
    refused(&["apiServer.port=0"], &["/apiServer/port"]);
    refused(&["central.nodeSelector=null"], &["central", "nodeSelector"]);
}

#[test]
fn images_logs_and_the_rest() {
    taken(&["image.repository=registry.example:5000/a/b", "image.tag=v1"], &["image: registry.example:5000/a/b:v1\n"]);
    taken(
        &["namespace=net", "log.format=json", "log.level=info\\,ovsdb=debug"],
        &["namespace: net\n", "--log-format=json\n", "--log-level=info,ovsdb=debug\n"],
    );
    taken(&["imagePullSecrets={one}"], &["imagePullSecrets:\n        - name: one\n"]);
    taken(
        &["runtime.cniBinDir=/var/lib/rancher/cni"],
        &["hostPath: {path: /var/lib/rancher/cni, type: DirectoryOrCreate}\n"],
    );
    taken(
        &["central.databaseDir=/var/lib/ovn", "ovs.databaseDir=/var/lib/openvswitch"],
        &["hostPath: {path: /var/lib/ovn, type", "hostPath: {path: /var/lib/openvswitch, type"],
    );
    for (value, field) in [
        ("image.repository=Bad Name", "/image/repository"),
        ("image.tag=a/b", "/image/tag"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("log.format=xml", "/log/format"),
        ("log.level=info debug", "/log/level"),
        ("controller.replicas=0", "/controller/replicas"),
        ("controller.leaseDuration=1", "/controller/leaseDuration"),
        ("agent.resources.limits.memory=lots", "/agent/resources/limits/memory"),
        ("ovs.resources.cpu=1", "/ovs/resources"),
        ("runtime.cniConfDir=etc/cni", "/runtime/cniConfDir"),
        ("central.databaseDir=", "/central/databaseDir"),
        ("ovs.databaseDir=openvswitch", "/ovs/databaseDir"),
        ("runtime.cniConfDir=/etc/../root", "/runtime/cniConfDir"),
        ("mtu=1400", "'mtu'"),
        ("cidrs.pods=10.16.0.0/16", "/cidrs/pods"),
    ] {
        refused(&[value], &[field]);
    }
}
