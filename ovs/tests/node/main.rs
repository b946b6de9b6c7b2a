//! Tests the daemons of a node in their own container with the userspace datapath. Run as root after
//! `e2e/setup rootfs`.
#![allow(clippy::unwrap_used)] // test helpers may panic

use std::time::{Duration, Instant};

use daemons::testing::{Container, Room};
use nix::sys::signal::Signal;

/// Creates an interface for tunnels and records all changes of links, addresses and routes.
const NODE: &str = "
    ip link add eth1 type veth peer name cable
    ip link set eth1 up
    ip link set cable up
    ip address add 172.31.0.1/24 dev eth1
    ip address add 172.31.0.2/24 dev eth1
    ip address add fd00:31::1/64 dev eth1 nodad
    ip route add 10.9.0.0/16 via 172.31.0.254
    ip route add 169.254.1.1 dev eth1
    ip route add default via 169.254.1.1 src 172.31.0.1 metric 50 mtu 1300
    ip route add 10.8.0.0/16 via 10.8.0.1 dev eth1 onlink table 100 proto static
    ip -6 route add default via fd00:31::fe dev eth1
    ip -6 route add fd00:32::/64 via fe80::9 dev eth1 proto ra metric 100 expires 1000 mtu 1300 hoplimit 64 pref high
    ip monitor link address route >>$DIR/moves &
";

/// The chassis ID of a new node with the name `n1`.
const ID: &str = "f63c9655-17dc-58ef-9ad2-a901efce4ff3";

fn room() -> Room {
    Room::new(env!("CARGO_BIN_EXE_ovs-ovn")).unwrap()
}

fn start<'a>(room: &'a Room, more: &[&str]) -> Container<'a> {
    let mut arguments = vec!["--node-name=n1", "--database-directory=/run/etc"];
    arguments.extend(more);
    room.start(NODE, &arguments).unwrap()
}

/// Waits until all daemons have started `times` times.
fn up(room: &Room, times: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let works = |log: &str| log.lines().filter(|line| line.contains("works daemon=\"ovn-controller\"")).count();
    while works(&room.log()) < times {
        assert!(Instant::now() < deadline, "{}", room.log());
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Repeats a probe until it fails. Returns its output.
fn refused(node: &mut Container<'_>, question: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Err(why) = node.probe(question) {
            return why;
        }
        assert!(Instant::now() < deadline, "always {question}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// Creates a southbound database and serves it in the container. Waits with a command until it takes transactions.
fn serve(node: &mut Container<'_>, name: &str, create: &str, wait: &str) {
    let sh = format!(
        "cd /run; {create}; \
        ovsdb-server --detach --no-chdir --pidfile=/run/{name}.pid --unixctl=/run/{name}.ctl --log-file=/run/{name}.log \
        --remote=punix:/run/sb.sock --remote=ptcp:6642:127.0.0.1 /run/{name}.db; \
        {wait}; ovn-sbctl --db=unix:/run/sb.sock init"
    );
    node.run(&["sh", "-ec", &sh]).unwrap();
}

/// Runs a southbound database in the container, and tells ovn-controller of it as the node agent does. Process 1 inherits
/// it.
fn southbound(node: &mut Container<'_>) {
    serve(node, "sb", "ovsdb-tool create sb.db /usr/share/ovn/ovn-sb.ovsschema", "true");
    let remote = "external_ids:ovn-remote=\"tcp:127.0.0.1:6642\"";
    node.run(&["ovs-vsctl", "set", "Open_vSwitch", ".", remote]).unwrap();
}

/// The routes of [`NODE`], as `ip` prints them on this link.
fn routes_on(link: &str) -> [String; 6] {
    [
        format!("10.9.0.0/16 via 172.31.0.254 dev {link}"),
        format!("169.254.1.1 dev {link} scope link"),
        format!("default via 169.254.1.1 dev {link} src 172.31.0.1 metric 50 mtu 1300"),
        format!("10.8.0.0/16 via 10.8.0.1 dev {link} table 100 proto static onlink"),
        format!("default via fd00:31::fe dev {link}"),
        format!("fd00:32::/64 via fe80::9 dev {link} proto ra metric 100 mtu 1300 hoplimit 64 pref high"),
    ]
}

fn addresses(node: &mut Container<'_>, link: &str) -> String {
    node.run(&["ip", "-brief", "-4", "address", "show", "dev", link]).unwrap()
}

/// Changes the addresses of the tunnel interface: ovs-vswitchd has the routes to their networks, and listens on them.
fn keeps_the_routes_of_tunnels(node: &mut Container<'_>) {
    let both = ["172.31.0.0/24", "fd00:31::/64"];
    told(node, &both);
    let tunnel = ["type=geneve", "options:remote_ip=flow", "options:key=flow"];
    let add = ["ovs-vsctl", "add-port", "br-int", "tunnel", "--", "set", "Interface", "tunnel"];
    node.run(&[add.as_slice(), &tunnel].concat()).unwrap();
    node.run(&["ip", "address", "add", "172.31.5.1/24", "dev", "br-phy"]).unwrap();
    told(node, &["172.31.0.0/24", "172.31.5.0/24", "fd00:31::/64"]);
    node.run(&["ip", "address", "del", "172.31.5.1/24", "dev", "br-phy"]).unwrap();
    told(node, &both);
    let listens = "ovs-appctl tnl/ports/show -v | grep -q dst=172.31.0.1,";
    let again =
        format!("for i in $(seq 100); do {listens} && exit; sleep 0.05; done; ovs-appctl tnl/ports/show -v; exit 1");
    node.run(&["sh", "-c", &again]).unwrap();
    node.run(&["ovs-vsctl", "del-port", "br-int", "tunnel"]).unwrap();
}

/// Waits until ovs-vswitchd has been told the routes to exactly these networks.
fn told(node: &mut Container<'_>, networks: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let shown = node.run(&["ovs-appctl", "ovs/route/show"]).unwrap();
        let mut told: Vec<_> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("User: ")?.split_once(" dev br-phy"))
            .map(|(to, _)| to)
            .collect();
        told.sort_unstable();
        if told == networks {
            return;
        }
        assert!(Instant::now() < deadline, "not {networks:?}: {shown}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

#[test]
fn a_node_comes_up_on_the_userspace_datapath_and_restarts_with_its_flows() {
    let room = room();
    let mut node = start(&room, &["--iface=eth1"]);
    up(&room, 1);
    node.probe("live").unwrap();
    let why = node.probe("ready").unwrap_err();
    assert!(why.contains("ovn-controller: the southbound database: not connected"), "{why}");
    southbound(&mut node);
    node.until("ready").unwrap();

    assert!(
        room.log().contains("starting on the userspace datapath: module openvswitch is not there"),
        "{}",
        room.log()
    );
    let ids = node.run(&["ovs-vsctl", "get", "Open_vSwitch", ".", "external_ids"]).unwrap();
    let id = format!(r#"system-id="{ID}""#);
    for setting in [id.as_str(), "hostname=n1", "ovn-bridge-datapath-type=netdev"] {
        assert!(ids.contains(setting), "{setting}: {ids}");
    }
    assert!(addresses(&mut node, "br-phy").contains("172.31.0.1/24"));
    assert!(!addresses(&mut node, "eth1").contains("172.31.0.1/24"));
    // Only the bridge answers for its addresses.
    assert!(node.run(&["ip", "link", "show", "dev", "eth1"]).unwrap().contains("NOARP"));
    let shown = node.run(&["ip", "-6", "address", "show", "dev", "br-phy", "scope", "global"]).unwrap();
    assert!(shown.contains("inet6 fd00:31::1/64") && !shown.contains("tentative"), "{shown}");
    let routes =
        ["-4", "-6"].map(|family| node.run(&["ip", family, "route", "show", "table", "all"]).unwrap()).concat();
    for route in routes_on("br-phy") {
        assert!(routes.lines().any(|line| line.trim_end().starts_with(&route)), "{route}: {routes}");
    }

    // The settings that the node agent writes.
    let agents = ["external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=172.31.0.1"];
    node.run(&[["ovs-vsctl", "set", "Open_vSwitch", "."].as_slice(), &agents].concat()).unwrap();
    let chassis = ["ovn-sbctl", "--db=unix:/run/sb.sock", "--timeout=20", "wait-until", "Chassis", ID, "hostname=n1"];
    node.run(&chassis).unwrap();

    keeps_the_routes_of_tunnels(&mut node);

    let flow = "table=9,priority=7,in_port=3 actions=drop";
    node.run(&["ovs-vsctl", "add-br", "br-x", "--", "set", "Bridge", "br-x", "datapath_type=netdev"]).unwrap();
    node.run(&["ovs-ofctl", "add-flow", "br-x", flow]).unwrap();
    node.run(&["sh", "-c", "kill -KILL $(cat /run/openvswitch/ovs-vswitchd.pid)"]).unwrap();
    node.probe("live").unwrap();
    let again = Instant::now() + Duration::from_secs(20);
    while room.log().matches("works daemon=\"ovs-vswitchd\"").count() < 2 {
        assert!(Instant::now() < again, "{}", room.log());
        std::thread::sleep(Duration::from_millis(25));
    }
    node.until("ready").unwrap();
    assert!(addresses(&mut node, "br-phy").contains("172.31.0.1/24"));
    told(&mut node, &["172.31.0.0/24", "fd00:31::/64"]);

    node.run(&["ovs-ofctl", "add-flow", "br-x", flow]).unwrap();
    let before = room.log().len();
    assert_eq!(node.end(Signal::SIGTERM).unwrap().code(), Some(0));
    let log = room.log()[before..].to_owned();
    let stopped: Vec<_> = log.lines().filter(|line| line.contains(": stopped ")).collect();
    for (line, daemon) in stopped.iter().zip(["ovn-controller", "ovs-vswitchd", "ovsdb-server"]) {
        assert!(line.contains(&format!("daemon=\"{daemon}\"")) && line.contains("exit status: 0"), "{log}");
    }
    assert_eq!(stopped.len(), 3, "{log}");
    let moved = std::fs::read_to_string(room.path("moves")).unwrap();
    let last = moved.lines().rfind(|line| line.contains("172.31.0.1/24")).unwrap_or_default();
    assert!(last.contains(" eth1 ") && !last.starts_with("Deleted"), "{moved}");
    let last = moved.lines().rfind(|line| line.contains(": eth1@")).unwrap_or_default();
    assert!(last.contains(",UP") && !last.contains("NOARP"), "{moved}");
    for route in routes_on("eth1") {
        let back = moved.lines().map(|line| line.trim_start_matches("replace ")).any(|line| line.starts_with(&route));
        assert!(back, "{route}: {moved}");
    }

    // A stop while ovs-vswitchd waits for its flows keeps those that were saved.
    let saved = || std::fs::read_to_string(room.path("openvswitch/flows/restore")).unwrap();
    let before = saved();
    room.shadow("ovs-ofctl", "#!/bin/sh\ntouch /run/asked\nexec sleep 1000\n").unwrap();
    let node = start(&room, &["--iface=eth1"]);
    until("the flows are being restored", || room.path("asked").exists());
    assert_eq!(node.end(Signal::SIGTERM).unwrap().code(), Some(0));
    assert_eq!(saved(), before);
    std::fs::remove_file(room.path("bin/ovs-ofctl")).unwrap();

    let mut node = start(&room, &["--iface=eth1"]);
    up(&room, 2);
    let flows = node.run(&["ovs-ofctl", "dump-flows", "br-x"]).unwrap();
    assert!(flows.contains("table=9") && flows.contains("priority=7,in_port=3"), "{flows}\n{}", room.log());
    let waits = node.run(&["ovs-vsctl", "get", "Open_vSwitch", ".", "other_config"]).unwrap();
    assert!(!waits.contains("flow-restore-wait"), "{waits}");
    assert!(!room.path("openvswitch/flows").exists());

    // Kill all processes at once. No flows and addresses are saved.
    node.end(Signal::SIGKILL).unwrap();
    let mut node = start(&room, &["--iface=eth1"]);
    up(&room, 3);
    assert!(addresses(&mut node, "br-phy").contains("172.31.0.1/24"));
}

/// The pod was deleted with `--force`: its containers still end when those of the next pod start.
#[test]
fn a_successor_waits_for_the_end_of_its_predecessor() {
    let room = room();
    let first = start(&room, &[]);
    up(&room, 1);
    let mut second = start(&room, &[]);
    until("the second one waits", || room.log().contains("another process still runs the daemons here"));
    second.probe("live").unwrap();
    assert_eq!(first.end(Signal::SIGTERM).unwrap().code(), Some(0));
    up(&room, 2);
    second.probe("live").unwrap();
    second.run(&["ovs-vsctl", "--timeout=5", "show"]).unwrap();
}

/// Runs a southbound database of a new cluster in the container.
fn cluster(node: &mut Container<'_>, name: &str) {
    let create = format!("ovsdb-tool create-cluster {name}.db /usr/share/ovn/ovn-sb.ovsschema tcp:127.0.0.1:6644");
    serve(node, name, &create, "ovsdb-client wait unix:/run/sb.sock OVN_Southbound connected");
}

#[test]
fn another_southbound_database_is_taken_though_its_log_is_shorter() {
    let room = room();
    let mut node = start(&room, &[]);
    up(&room, 1);
    let set = |node: &mut Container<'_>, setting: &str| {
        node.run(&["ovs-vsctl", "set", "Open_vSwitch", ".", &format!("external_ids:{setting}")]).unwrap();
    };
    cluster(&mut node, "before");
    let grow = "for n in $(seq 50); do ovn-sbctl --db=unix:/run/sb.sock set SB_Global . external_ids:n=$n; done";
    node.run(&["sh", "-ec", grow]).unwrap();
    set(&mut node, "kube-ovn-southbound-cluster=before");
    set(&mut node, r#"ovn-remote="tcp:127.0.0.1:6642""#);
    node.until("ready").unwrap();

    node.run(&[
        "sh",
        "-ec",
        "pid=$(cat /run/before.pid); kill $pid; while kill -0 $pid; do sleep 0.05; done 2>/dev/null",
    ])
    .unwrap();
    refused(&mut node, "ready");
    cluster(&mut node, "after");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !room.log().contains("has stale data") {
        assert!(Instant::now() < deadline, "{}", room.log());
        std::thread::sleep(Duration::from_millis(25));
    }
    node.probe("ready").unwrap_err();
    set(&mut node, "kube-ovn-southbound-cluster=after");
    node.until("ready").unwrap();
    assert!(room.log().contains("told ovn-controller that another cluster serves"), "{}", room.log());
}

#[test]
fn a_node_without_tunnels_is_ready_as_long_as_it_is_alone() {
    let room = room();
    let mut node = start(&room, &[]);
    up(&room, 1);
    southbound(&mut node);
    node.until("ready").unwrap();
    let agents = ["external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=172.31.0.1"];
    node.run(&[["ovs-vsctl", "set", "Open_vSwitch", "."].as_slice(), &agents].concat()).unwrap();
    let sb = ["ovn-sbctl", "--db=unix:/run/sb.sock", "--timeout=20"];
    node.run(&[sb.as_slice(), &["wait-until", "Chassis", ID, "hostname=n1"]].concat()).unwrap();
    node.probe("ready").unwrap();

    node.run(&[sb.as_slice(), &["chassis-add", "n2", "geneve", "172.31.0.2"]].concat()).unwrap();
    let wanted = ["--timeout=20", "wait-until", "Interface", "ovn-n2-0", "type=geneve"];
    node.run(&[["ovs-vsctl"].as_slice(), &wanted].concat()).unwrap();
    let why = refused(&mut node, "ready");
    let because = "no --iface: the userspace datapath has no tunnels to other nodes without an interface for them, and so pods \
        reach none of those at 172.31.0.2";
    assert!(why.contains(because), "{why}");
    node.probe("live").unwrap();
}

/// ovn-controller computes flows, and nothing of what runs needs new ones.
#[test]
fn an_ovn_controller_that_always_crashes_takes_no_other_daemon_with_it() {
    let room = room();
    let crashes = "#!/bin/sh\ncase $1 in --version) exec /usr/bin/ovn-controller --version;; esac\nexit 1\n";
    room.shadow("ovn-controller", crashes).unwrap();
    let mut node = start(&room, &["--iface=eth1"]);
    until("it is left alone", || {
        room.log().contains("ends again and again; the others go on without it daemon=\"ovn-controller\"")
    });
    node.probe("live").unwrap();
    let why = node.probe("ready").unwrap_err();
    assert!(why.contains("ovn-controller"), "{why}");
    assert_eq!(room.log().matches("works daemon=\"ovs-vswitchd\"").count(), 1, "{}", room.log());
}

#[test]
fn programs_that_are_too_old_are_named_with_the_oldest_that_will_do() {
    for (program, says, why) in [
        (
            "ovn-controller",
            "ovn-controller 23.09.1",
            "ovn-controller is of version 23.09.1, and 24.03.1 is the oldest that will do",
        ),
        (
            "ovs-vswitchd",
            "ovs-vswitchd (Open vSwitch) 3.2.4",
            "ovs-vswitchd is of version 3.2.4, and 3.3.0 is the oldest that will do",
        ),
    ] {
        let room = room();
        room.shadow(program, &format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        let mut node = start(&room, &[]);
        assert_ne!(node.ended().unwrap().code(), Some(0));
        // The kubelet shows the last line of the log as the reason for the exit.
        let log = room.log();
        assert!(log.trim_end().ends_with(&format!("ending: {why}")), "{log}");
        assert!(!room.path("etc").exists());
    }
}

#[test]
fn what_cannot_be_is_refused_by_the_flags_name_before_anything_is_touched() {
    for (flag, why) in [
        ("--iface=eth7", "--iface eth7: this node has no such interface; it has lo, "),
        ("--iface=cable", "--iface cable: it has no address"),
        ("--datapath=kernel", "--datapath kernel: module openvswitch is not there"),
    ] {
        let room = room();
        let mut node = start(&room, &[flag]);
        assert_ne!(node.ended().unwrap().code(), Some(0));
        assert!(room.log().contains(why), "{flag}: {}", room.log());
        assert!(!room.path("etc").exists());
    }
}

/// The distribution's Open vSwitch has another file, and would share our sockets.
#[test]
fn a_server_of_somebody_else_is_named_and_left_alone() {
    let room = room();
    let theirs = "
        mkdir $DIR/openvswitch
        ovsdb-server --no-db --pidfile=$DIR/openvswitch/ovsdb-server.pid --unixctl=$DIR/theirs.ctl \
            --remote=punix:$DIR/openvswitch/db.sock -vconsole:off -vsyslog:off &
        while ! [ -e $DIR/openvswitch/ovsdb-server.pid ]; do sleep 0.1; done
    ";
    let arguments = ["--node-name=n1", "--database-directory=/run/etc"];
    let mut node = room.start(theirs, &arguments).unwrap();
    assert_ne!(node.ended().unwrap().code(), Some(0));
    let log = room.log();
    let why = "of /run/openvswitch/ovsdb-server.pid, and it is not ours: stop it for good, for example by `systemctl mask --now \
        openvswitch-switch ovsdb-server openvswitch`";
    assert!(log.contains("ending: ovsdb-server runs already on this node, as process "), "{log}");
    assert!(log.trim_end().ends_with(why), "{log}");
    assert!(!room.path("etc/conf.db").exists() && !room.path("openvswitch/ovsdb-server.ctl").exists());
}
