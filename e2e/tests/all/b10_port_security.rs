//! B10: neighbors of a pod with port security see only what it may send. The test sends raw frames from a pod and looks
//! at what arrives at two neighbors, one on the same node and one on another, with port security and without.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Subnet;
use api::annotations::ALLOCATED;
use e2e::cluster::{Place, Pod};
use e2e::{Cluster, process};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout};

type Mac = [u8; 6];

const GATEWAY: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 89, 0, 1), Ipv6Addr::new(0xfd00, 0x89, 0, 0, 0, 0, 0, 1));
const OTHER: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 89, 0, 99), Ipv6Addr::new(0xfd00, 0x89, 0, 0, 0, 0, 0, 99));
const ALL_NODES: (Mac, Ipv6Addr) = ([0x33, 0x33, 0, 0, 0, 1], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// The addresses of a pod.
#[derive(Clone, Copy)]
struct Station {
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Station {
    fn of(pod: &Pod) -> Result<Self> {
        let text = pod.annotation("ovn.kubernetes.io/mac_address").context("no MAC")?;
        let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
        let mac = bytes.try_into().map_err(|_| anyhow::anyhow!("{text:?} is no MAC"))?;
        Ok(Self { mac, v4: pod.ip4()?.parse()?, v6: pod.ip6()?.parse()? })
    }

    /// The link-local address that follows from the MAC.
    fn link_local(self) -> Ipv6Addr {
        let mut bytes = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
        bytes[8..11].copy_from_slice(&self.mac[..3]);
        bytes[13..].copy_from_slice(&self.mac[3..]);
        bytes[8] ^= 2;
        bytes.into()
    }
}

fn ethernet(from: Mac, to: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), content].concat()
}

/// The checksum of the internet protocols.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes()
}

fn udp(ports: (u16, u16), text: &str) -> Vec<u8> {
    let size = length(&[&[0; 8], text.as_bytes()].concat());
    [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &size, &[0, 0], text.as_bytes()].concat()
}

fn udp4(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), ports: (u16, u16), text: &str) -> Vec<u8> {
    let datagram = udp(ports, text);
    let size = length(&[&[0; 20], datagram.as_slice()].concat());
    let mut header = [&[0x45, 0][..], &size, &[0, 1, 0, 0, 64, 17, 0, 0], &from.1.octets(), &to.1.octets()].concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    ethernet(from.0, to.0, 0x0800, &[header, datagram].concat())
}

/// A packet of IPv6. `at`: where its checksum is.
fn ip6(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), next: u8, hops: u8, mut content: Vec<u8>, at: usize) -> Vec<u8> {
    let (size, ends) = (length(&content), [from.1.octets(), to.1.octets()].concat());
    let sum = checksum(&[&ends[..], &[0, 0], &size, &[0, 0, 0, next], &content].concat());
    content[at..at + 2].copy_from_slice(&sum);
    ethernet(from.0, to.0, 0x86dd, &[&[0x60, 0, 0, 0][..], &size, &[next, hops], &ends, &content].concat())
}

fn udp6(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), ports: (u16, u16), text: &str) -> Vec<u8> {
    ip6(from, to, 17, 64, udp(ports, text), 6)
}

/// An ARP reply: `claimed` is at the sender's MAC.
fn arp_reply(from: Mac, claimed: Ipv4Addr, to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    ethernet(from, to.0, 0x0806, &[&head[..], &from, &claimed.octets(), &to.0, &to.1.octets()].concat())
}

/// A neighbor advertisement: `claimed` is at the sender's MAC.
fn neighbor_advertisement(from: (Mac, Ipv6Addr), claimed: Ipv6Addr, to: (Mac, Ipv6Addr)) -> Vec<u8> {
    let content = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &claimed.octets(), &[2, 1], &from.0].concat();
    ip6(from, to, 58, 255, content, 2)
}

fn router_advertisement(from: (Mac, Ipv6Addr)) -> Vec<u8> {
    let head = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    ip6(from, ALL_NODES, 58, 255, [&head[..], &[1, 1], &from.0].concat(), 2)
}

/// What it is, the frame, and whether port security lets it pass.
type Sent = (&'static str, Vec<u8>, bool);

/// What a pod sends to a neighbor.
fn frames(own: Station, to: Station) -> Vec<Sent> {
    let (v4, v6) = ((own.mac, own.v4), (own.mac, own.v6));
    let (to4, to6) = ((to.mac, to.v4), (to.mac, to.v6));
    let stranger = [0x0a, 0x58, 0x0a, 0x59, 0, 0x63];
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let everybody = ([0xff; 6], Ipv4Addr::BROADCAST);
    vec![
        ("from another MAC", udp4((stranger, own.v4), to4, (9, 9), "mac"), false),
        ("from another IPv4 address", udp4((own.mac, OTHER.0), to4, (9, 9), "v4"), false),
        ("from another IPv6 address", udp6((own.mac, OTHER.1), to6, (9, 9), "v6"), false),
        ("an ARP reply for the gateway", arp_reply(own.mac, GATEWAY.0, to4), false),
        ("a neighbor advertisement for the gateway", neighbor_advertisement(v6, GATEWAY.1, to6), false),
        ("a router advertisement of the router", router_advertisement((own.mac, router)), false),
        ("an answer of DHCP", udp4(v4, to4, (67, 68), "offer"), false),
        ("an answer of DHCP to all, from another port", udp4(v4, everybody, (1067, 68), "offer"), false),
        ("an answer of DHCPv6", udp6(v6, to6, (547, 546), "advertise"), false),
        ("a question to DHCP servers", udp4((own.mac, own.v4), everybody, (68, 67), "discover"), true),
        // OVN lets no rule drop it; docs/subnets.md says so.
        ("a router advertisement of its own", router_advertisement((own.mac, own.link_local())), true),
        ("an ARP reply for itself", arp_reply(own.mac, own.v4, to4), true),
        ("a neighbor advertisement for itself", neighbor_advertisement(v6, own.v6, to6), true),
        ("IPv4 of its own", udp4(v4, to4, (9, 9), "v4"), true),
        ("IPv6 of its own", udp6(v6, to6, (9, 9), "v6"), true),
    ]
}

/// The frames that arrive at a pod.
struct Capture {
    // Its end is that of tcpdump.
    _tcpdump: Child,
    packets: BufReader<ChildStdout>,
}

impl Capture {
    /// On return, it records.
    async fn start(at: &Place) -> Result<Self> {
        let arguments = ["-i", "eth0", "-Q", "in", "-Z", "root", "-U", "--immediate-mode", "-w", "-"];
        let mut command = tokio::process::Command::from(at.command("tcpdump", &arguments)?);
        let piped = || Stdio::piped();
        let mut tcpdump = command.stdin(Stdio::null()).stdout(piped()).stderr(piped()).kill_on_drop(true).spawn()?;
        let mut said = BufReader::new(tcpdump.stderr.take().context("a pipe")?).lines();
        while let Some(line) = said.next_line().await? {
            if line.contains("listening on") {
                break;
            }
        }
        // tcpdump ends when it cannot write.
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let mut packets = BufReader::new(tcpdump.stdout.take().context("a pipe")?);
        packets.read_exact(&mut [0; 24]).await.context("the head of the capture")?;
        Ok(Self { _tcpdump: tcpdump, packets })
    }

    async fn next(&mut self) -> Result<Vec<u8>> {
        let mut head = [0; 16];
        self.packets.read_exact(&mut head).await?;
        let size = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
        let mut frame = vec![0; size.try_into()?];
        self.packets.read_exact(&mut frame).await?;
        Ok(frame)
    }
}

/// Sends frames from a place, one after the other.
async fn send(from: &Place, frames: impl Iterator<Item = &Vec<u8>>) -> Result<()> {
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat();
    let one = |frame| format!("echo {} | basenc --base16 -d | socat -u - INTERFACE:eth0", hex(frame));
    let script = frames.map(one).collect::<Vec<_>>().join(" && ");
    from.run("bash", &["-c", &script]).await.map(drop)
}

/// Sends all frames twice, because the first packets of a flow can be overtaken, each time with a frame at the end. Checks
/// that those arrive that should.
async fn check(from: &Place, frames: &[Sent], ends: &[Vec<u8>], at: &Place, secured: bool) -> Result<()> {
    let mut capture = Capture::start(at).await?;
    let mut seen = BTreeSet::new();
    for end in ends {
        send(from, frames.iter().map(|(_, frame, _)| frame).chain([end])).await?;
        let arrives = async {
            loop {
                match capture.next().await? {
                    frame if frame == *end => return anyhow::Ok(()),
                    frame => drop(seen.insert(frame)),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), arrives).await.context("the last frame does not arrive")??;
    }
    let wrong = frames.iter().filter(|(_, frame, passes)| seen.contains(frame) != (*passes || !secured));
    let wrong: Vec<_> = wrong.map(|(what, frame, _)| (what, seen.contains(frame))).collect();
    ensure!(wrong.is_empty(), "port security {secured}; seen at {at} against expectation, or not: {wrong:?}");
    Ok(())
}

#[tokio::test]
async fn b10_neighbors_see_only_what_a_pod_may_send() -> Result<()> {
    const NAME: &str = "b10";
    let cluster = Cluster::running().await?;
    let scene = cluster.scene(NAME).await?;
    scene.subnet(NAME, "10.89.0.0/24,fd00:89::/64").await?;
    let sender = scene.pod(NAME, "sender").on("n1").ready().await?.annotated(ALLOCATED, "true").await?;
    let near = scene.pod(NAME, "near").on("n1").ready().await?.annotated(ALLOCATED, "true").await?;
    let far = scene.pod(NAME, "far").on("n2").ready().await?.annotated(ALLOCATED, "true").await?;
    let (from, own) = (sender.netns().await?, Station::of(&sender)?);
    let subnets = Api::<Subnet>::all(cluster.client());
    // The rules of a private subnet are stateful.
    for private in [false, true] {
        let patch = Patch::Merge(json!({ "spec": { "private": private } }));
        subnets.patch(NAME, &PatchParams::default(), &patch).await?;
        for annotation in [Value::Null, json!("true"), json!("false")] {
            let annotations = json!({ "ovn.kubernetes.io/port_security": annotation });
            let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
            sender.api().patch(sender.name(), &PatchParams::default(), &patch).await?;
            for neighbor in [&near, &far] {
                let (place, to) = (neighbor.netns().await?, Station::of(neighbor)?);
                let mut frames = frames(own, to);
                // Nothing to all passes in a private subnet.
                frames.retain(|(_, frame, _)| !(private && frame.starts_with(&[0xff; 6])));
                let end = |round: &str| udp4((own.mac, own.v4), (to.mac, to.v4), (9, 9), round);
                let ends = [end("end 1"), end("end 2")];
                let secured = annotation == json!("true");
                let follows = || check(&from, &frames, &ends, &place, secured);
                process::until(Duration::from_secs(20), follows).await?;
                println!("private {private}, port_security {annotation}: {} sees what it should", neighbor.name());
            }
        }
    }
    Ok(())
}
