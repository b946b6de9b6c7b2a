//! `mirror0`: copies of the packets of pods.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cni_server::databases::Databases;
use cni_server::metrics::Metrics;
use cni_server::mirror::Mirror;
use cni_server::node_net::Served;
use cni_server::node_port::Sources;
use cni_server::rules::{self, Firewall};
use cni_server::seen::{Pod, Seen};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::sandbox::{PodNs, eventually, in_netns, run};
use crate::scene::{self, Scene, attachment};

/// The packets that a device shows.
struct Capture {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    /// Starts tcpdump. On return, it captures.
    async fn start(device: &str, filter: &str) -> Self {
        let (file, messages) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "tcpdump", "-lnei", device, filter])
            .stdout(file.reopen().unwrap())
            .stderr(Stdio::from(messages.reopen().unwrap()))
            .spawn()
            .unwrap();
        let listens = || std::fs::read_to_string(messages.path()).unwrap().contains("listening on");
        eventually("tcpdump captures", listens).await;
        Self { child, file }
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.file.path()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pods(mirrored: &[(u8, Option<bool>)]) -> Seen<Pod> {
    let mut pods = scene::pods(mirrored.iter().map(|(n, _)| *n));
    for (n, said) in mirrored {
        pods.objects.get_mut(&format!("pod-{n}.ns")).unwrap().mirror = Ok(*said);
    }
    pods
}

/// Starts the owner of the mirror. `rules` says whether the firewall rules are written.
fn spawn(scene: &Scene, rules: watch::Receiver<Result<(), String>>) -> watch::Receiver<Result<(), String>> {
    let attacher = &scene.attacher;
    let mirror = Mirror {
        device: "mirror0".to_owned(),
        ovs: attacher.ovs.clone(),
        links: attacher.links.clone(),
        chosen: attacher.mirrored.clone(),
        rules,
    };
    mirror.spawn().unwrap()
}

#[test]
fn packets_of_chosen_pods_are_copied_once_from_the_first_on() {
    in_netns(|| async {
        let scene = Scene::new([5, 6, 7]);
        scene.pods.send_replace(pods(&[(5, Some(true)), (6, None), (7, None)]));
        let (rules, written) = watch::channel(Err("not yet".to_owned()));
        let mut state = spawn(&scene, written);
        state.wait_for(|state| state == &Err("the firewall rules are not written: not yet".to_owned())).await.unwrap();
        let shown = run("ip", &["link", "show", "mirror0"]);
        assert!(
            !shown.contains(",UP") && shown.contains("NOARP"),
            "down while the host could take the copies: {shown}"
        );
        rules.send(Ok(())).unwrap();
        state.wait_for(Result::is_ok).await.unwrap();
        assert_eq!(run("cat", &["/proc/sys/net/ipv6/conf/mirror0/disable_ipv6"]), "1\n");

        scene.sandbox.ofctl("add-flow", &["actions=normal"]);
        let capture = Capture::start("mirror0", "icmp").await;
        let [five, six, seven] = [5, 6, 7].map(|n| (n, PodNs::new()));
        for (n, ns) in [&five, &six, &seven] {
            scene.attacher.add(&attachment(*n, ns)).await.unwrap();
        }
        let is_mirrored = |host: &str| scene.attacher.ovs.is_mirrored(host);
        assert_eq!(["05", "06", "07"].map(|n| is_mirrored(&format!("{n}cafe012345_h"))), [true, false, false]);
        scene.attacher.check(&attachment(5, &five.1), &[]).await.unwrap();

        // A request and its reply between two ports, of which one is selected, then none, then both. Flows that exist are
        // not looked at again by Open vSwitch 3.1, so that each pair of ports is asked once.
        let copies = async |wanted: usize| {
            eventually("the copies arrive", || capture.lines().len() >= wanted).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(capture.lines().len(), wanted, "{:#?}", capture.lines());
        };
        five.1.run("ping", &["-c", "5", "-i", "0.05", "10.16.0.6"]).await;
        copies(10).await;
        seven.1.run("ping", &["-c", "5", "-i", "0.05", "10.16.0.6"]).await;
        copies(10).await;
        scene.pods.send_replace(pods(&[(5, Some(true)), (6, None), (7, Some(true))]));
        eventually("another one is selected", || is_mirrored("07cafe012345_h")).await;
        scene.sandbox.settle();
        seven.1.run("ping", &["-c", "5", "-i", "0.05", "10.16.0.5"]).await;
        copies(20).await;
        // Long packets are copied whole.
        seven.1.run("ping", &["-c", "1", "-s", "1372", "10.16.0.5"]).await;
        copies(22).await;
        assert!(capture.lines().last().unwrap().contains("length 1414"), "{:#?}", capture.lines());

        // The admin chooses all.
        scene.node.send_replace(scene::node(Some(true)));
        eventually("all are selected", || is_mirrored("06cafe012345_h")).await;
        scene.node.send_replace(scene::node(None));
        eventually("only the chosen ones are", || !is_mirrored("06cafe012345_h") && is_mirrored("05cafe012345_h"))
            .await;
    });
}

#[test]
fn what_others_change_of_the_mirror_is_repaired() {
    in_netns(|| async {
        let scene = Scene::new([5, 6]);
        scene.pods.send_replace(pods(&[(5, Some(true)), (6, Some(false))]));
        let sandbox = &scene.sandbox;
        // kube-ovn's mirror, and one of the administrator.
        sandbox.vsctl(&["add-port", "br-int", "mirror0", "--", "set", "interface", "mirror0", "type=internal"]);
        sandbox.vsctl(&[
            "--id=@m",
            "create",
            "mirror",
            "name=m0",
            "select_all=true",
            "--",
            "add",
            "bridge",
            "br-int",
            "mirrors",
            "@m",
        ]);
        sandbox.vsctl(&["--id=@m", "create", "mirror", "name=m1", "--", "add", "bridge", "br-int", "mirrors", "@m"]);
        let (_rules, written) = watch::channel(Ok(()));
        let mut state = spawn(&scene, written);
        state.wait_for(Result::is_ok).await.unwrap();
        // A pod that kube-ovn has connected. Its port does not say which container it is of.
        sandbox.vsctl(&[
            "add-port",
            "br-int",
            "left_h",
            "--",
            "set",
            "interface",
            "left_h",
            "type=internal",
            "external_ids={vendor=kube-ovn,iface-id=pod-5.ns,pod_name=pod-5,pod_namespace=ns}",
        ]);
        eventually("the pod of kube-ovn is mirrored", || scene.attacher.ovs.is_mirrored("left_h")).await;
        sandbox.vsctl(&["del-port", "left_h"]);
        let [five, six] = [5, 6].map(|n| (n, PodNs::new()));
        for (n, ns) in [&five, &six] {
            scene.attacher.add(&attachment(*n, ns)).await.unwrap();
        }
        let right = || {
            let select = sandbox.vsctl(&["get", "mirror", "m0", "select_all"]) == "false\n";
            let output = sandbox.vsctl(&["get", "mirror", "m0", "output_port"]);
            let up = run("ip", &["link", "show", "mirror0"]);
            select
                && output == sandbox.vsctl(&["get", "port", "mirror0", "_uuid"])
                && up.contains(",UP")
                && up.contains("NOARP")
                && scene.attacher.ovs.is_mirrored("05cafe012345_h")
                && !scene.attacher.ovs.is_mirrored("06cafe012345_h")
        };
        eventually("kube-ovn's mirror is taken over", right).await;
        for breaks in [
            &["clear", "mirror", "m0", "select_src_port"][..],
            &["clear", "mirror", "m0", "output_port"],
            &["set", "mirror", "m0", "select_all=true"],
            &[
                "add",
                "mirror",
                "m0",
                "select_dst_port",
                &sandbox.vsctl(&["get", "port", "06cafe012345_h", "_uuid"])[..36],
            ],
            &["del-port", "mirror0"],
        ] {
            sandbox.vsctl(breaks);
            eventually(&format!("repaired after {breaks:?}"), right).await;
        }
        run("ip", &["link", "set", "mirror0", "down"]);
        eventually("up again", right).await;
        run("ip", &["link", "set", "mirror0", "arp", "on"]);
        eventually("without ARP again", right).await;
        let m1 = sandbox.vsctl(&["get", "mirror", "m1", "_uuid"]);
        sandbox.vsctl(&["set", "bridge", "br-int", &format!("mirrors={}", m1.trim())]);
        eventually("the mirror is back", || {
            sandbox.vsctl(&["--columns=name", "--bare", "list", "mirror"]).contains("m0") && right()
        })
        .await;
        assert!(sandbox.vsctl(&["--columns=name", "--bare", "list", "mirror"]).contains("m1"), "the administrator's");

        // CHECK names what differs. Nobody repairs it while nobody owns the mirror.
        drop(state);
        tokio::time::sleep(Duration::from_millis(100)).await;
        sandbox.vsctl(&["clear", "mirror", "m0", "select_src_port"]);
        eventually("cleared", || !scene.attacher.ovs.is_mirrored("05cafe012345_h")).await;
        let error = scene.attacher.check(&attachment(5, &five.1), &[]).await.unwrap_err();
        assert!(error.to_string().contains("port 05cafe012345_h is not in mirror m0"), "{error}");
    });
}

/// A pod sends a frame to the MAC address of the mirror's device, and so its copy looks like a packet for the node.
#[test]
fn the_node_receives_no_copies() {
    in_netns(|| async {
        let scene = Scene::new([5]);
        scene.pods.send_replace(pods(&[(5, Some(true))]));
        let inputs = rules::Inputs {
            served: watch::channel(Served::new(scene::seen([scene::subnet()]), Some([].into()))).1,
            sources: watch::channel(Some(Sources::default())).1,
            databases: watch::channel(Databases { known: true, ..Databases::default() }).1,
            services: [].into(),
            firewall: Firewall::Auto,
            own: scene::own(),
            metrics: Metrics::register(&prometheus::Registry::new(), "n1").unwrap(),
        };
        let rules = rules::keep(inputs);
        let mut state = spawn(&scene, rules.clone());
        state.wait_for(Result::is_ok).await.unwrap();
        let five = PodNs::new();
        scene.attacher.add(&attachment(5, &five)).await.unwrap();
        run("ip", &["address", "add", "10.16.0.99/32", "dev", "lo"]);
        // Without a check of the way back, only the rule drops the copies.
        run(
            "sh",
            &[
                "-c",
                "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/mirror0/rp_filter",
            ],
        );
        let socket = UdpSocket::bind("10.16.0.99:9").await.unwrap();
        let mac = scene.attacher.links.find("mirror0").await.unwrap().unwrap().mac;
        let mac = mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let send = format!("ip neigh replace 10.16.0.99 lladdr {mac} dev eth0 && echo hello > /dev/udp/10.16.0.99/9");
        let send: &'static str = send.leak();
        let received = async || {
            five.run("bash", vec!["-c", send].leak()).await;
            let mut buffer = [0; 16];
            tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut buffer)).await.is_ok()
        };
        assert!(!received().await, "the node has taken a copy for a packet");
        drop((state, rules));
        // The owner of the rules ends by itself, and on a busy machine it writes them once more before.
        let mut taken = false;
        for _ in 0..10 {
            run("sh", &["-c", "nft delete table ip kube-ovn || true"]);
            taken |= received().await;
            if taken {
                break;
            }
        }
        assert!(taken, "the rule is what keeps it away");
    });
}
