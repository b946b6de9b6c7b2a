//! TCP with all offloads that the kernel has: segments stay large up to the last device, and no checksum is wrong.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::bare::Pod;
use e2e::cluster::Place;
use e2e::cluster::traffic::iperf3;
use e2e::layout::OUTSIDE;

use crate::stage::{MTU, stage};

/// The bytes of a transfer.
const BYTES: u64 = 40_000_000;

/// Returns the counters of `/proc/net/snmp` and `/proc/net/netstat` of a place, as `Tcp.RetransSegs`.
async fn counters(place: &Place) -> Result<BTreeMap<String, u64>> {
    let text = place.run("cat", &["/proc/net/snmp", "/proc/net/netstat"]).await?;
    let mut counters = BTreeMap::new();
    for pair in text.lines().collect::<Vec<_>>().chunks(2) {
        let [names, values] = pair else { continue };
        let (kind, names) = names.split_once(": ").context("a heading")?;
        let values = values.split_once(": ").context("values")?.1.split(' ');
        counters
            .extend(names.split(' ').zip(values).filter_map(|(n, v)| Some((format!("{kind}.{n}"), v.parse().ok()?))));
    }
    Ok(counters)
}

/// Returns the bytes and packets that a pod has sent by its interface.
async fn sent(pod: &Pod) -> Result<(u64, u64)> {
    let text = pod.place().run("cat", &["/proc/net/dev"]).await?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("eth0")?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Ok((*numbers.get(8).context("bytes")?, *numbers.get(9).context("packets")?))
}

/// Transfers [`BYTES`] from a pod and checks the counters of both ends.
async fn transfer(from: &Pod, to: &str, server: &Place) -> Result<()> {
    let what = format!("from {} to {server}", from.name);
    let before = (counters(&from.place()).await?, counters(server).await?, sent(from).await?);
    iperf3(&from.place(), server, to, &["--bytes", &BYTES.to_string()]).await?;
    let after = (counters(&from.place()).await?, counters(server).await?, sent(from).await?);
    let grown = |before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, name: &str| -> Result<u64> {
        Ok(after.get(name).with_context(|| format!("no counter {name}"))? - before.get(name).unwrap_or(&0))
    };
    for name in ["Tcp.InCsumErrors", "Tcp.InErrs", "Udp.InCsumErrors"] {
        let both = (grown(&before.0, &after.0, name)?, grown(&before.1, &after.1, name)?);
        ensure!(both == (0, 0), "{what}: {name} at the sender and the receiver: {both:?}");
    }
    let sender = |name| grown(&before.0, &after.0, name);
    let (segments, again) = (sender("Tcp.OutSegs")?, sender("Tcp.RetransSegs")?);
    // The receiver says which segments it had already: the sender was impatient, and nothing was lost.
    let needless = sender("TcpExt.TCPDSACKRecvSegs")?;
    let (bytes, packets) = (after.2.0 - before.2.0, after.2.1 - before.2.1);
    println!(
        "{what}: {segments} segments, {again} sent again, {needless} of them needlessly; {packets} packets of {} bytes on average",
        bytes / packets
    );
    ensure!(segments * u64::from(MTU) >= BYTES, "{what}: only {segments} segments of {BYTES} bytes are counted");
    // One large packet is some 46 segments, and a machine that is emulated loses one now and then.
    let lost = again.saturating_sub(needless);
    ensure!(lost * 20 <= segments, "{what}: {lost} of {segments} segments were lost");
    // With offloads, the device gets several segments at once.
    ensure!(bytes / packets > 2 * u64::from(MTU), "{what}: {packets} packets for {bytes} bytes: no offload");
    Ok(())
}

#[tokio::test]
async fn offloads_do_not_break_tcp() -> Result<()> {
    let stage = stage().await?;
    let cluster = Cluster::running().await?;
    let (near, next, far) = (&stage.near, &stage.next, &stage.far);
    for feature in ["tx-checksumming: on", "tcp-segmentation-offload: on"] {
        let shown = near.place().run("ethtool", &["--show-features", "eth0"]).await?;
        ensure!(shown.contains(feature), "{feature} is not among {shown}");
    }
    transfer(near, &next.ip(false)?.to_string(), &next.place()).await?;
    transfer(near, &far.ip(false)?.to_string(), &far.place()).await?;
    transfer(near, &far.ip(true)?.to_string(), &far.place()).await?;
    transfer(near, &near.node.ip4(), &Place::Node(near.node)).await?;
    transfer(far, OUTSIDE, &cluster.outside()).await
}
