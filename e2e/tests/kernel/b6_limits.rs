//! The limits of pods, a worse network for them, and the copies of their packets, on the kernel's datapath.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::bare::Pod;
use e2e::cluster::traffic::rate;
use e2e::cluster::{Capture, Place};
use e2e::{Cluster, process};
use serde_json::json;

use crate::stage::stage;

/// The time from an annotation to its effect, and the requests that show it.
const SOON: Duration = Duration::from_secs(6);

/// Returns the median round-trip time of ten requests in ms, and how many of them were lost.
async fn ping(from: &Place, to: &str) -> Result<(f64, usize)> {
    let script = format!("ping -c 10 -i 0.2 -W 2 {to} || true");
    let printed = from.run("sh", &["-c", &script]).await?;
    let times = printed.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok());
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    Ok((times.get(times.len() / 2).copied().unwrap_or_default(), 10 - times.len()))
}

#[tokio::test]
async fn limits_are_metered() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let annotations = json!({ "ovn.kubernetes.io/ingress_rate": "5", "ovn.kubernetes.io/egress_rate": "10" });
    stage.near.annotate(&cluster.client(), annotations).await?;
    let own = (stage.near.place(), stage.near.ip(false)?.to_string());
    let mut amiss = Vec::new();
    for (where_, other) in [("same node", &stage.next), ("other node", &stage.far)] {
        let other = (other.place(), other.ip(false)?.to_string());
        // The emulated machine sends datagrams unevenly: long pauses, and what the burst then lets pass at once.
        for (how, less, more) in [("TCP", 0.9, 1.1), ("UDP", 0.5, 1.2)] {
            for (way, wanted, from, to) in [("in", 5.0, &other, &own), ("out", 10.0, &own, &other)] {
                let udp = (how == "UDP").then_some(if way == "in" { 8 } else { 15 });
                let rate = rate(&from.0, &to.0, &to.1, udp).await?;
                let what = format!("{how}, {way}, {where_}: {rate:.1} of {wanted} Mbit/s");
                println!("{what}");
                if !(less * wanted..=more * wanted).contains(&rate) {
                    amiss.push(what);
                }
            }
        }
    }
    let annotations = json!({ "ovn.kubernetes.io/ingress_rate": null, "ovn.kubernetes.io/egress_rate": null });
    stage.near.annotate(&cluster.client(), annotations).await?;
    ensure!(amiss.is_empty(), "{}", amiss.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_pod_can_ask_for_a_worse_network() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    let (pod, to): (&Pod, _) = (&stage.next, stage.next.ip(false)?.to_string());
    let from = stage.far.place();
    let (before, lost) = ping(&from, &to).await?;
    ensure!(lost == 0, "{lost} of 10 are lost before");
    let set = async |annotations: serde_json::Value, is: &dyn Fn(f64, usize) -> bool| {
        pod.annotate(&cluster.client(), annotations.clone()).await?;
        let changed = async || {
            let (time, lost) = ping(&from, &to).await?;
            println!("{annotations}: {time:.0} ms, {lost} of 10 lost; before {before:.0} ms");
            ensure!(is(time, lost), "{annotations}: {time:.0} ms, {lost} of 10 lost");
            Ok(())
        };
        process::until(SOON, changed).await
    };
    set(json!({ "ovn.kubernetes.io/latency": "300" }), &|time, lost| time >= before + 250.0 && lost == 0).await?;
    set(json!({ "ovn.kubernetes.io/latency": null, "ovn.kubernetes.io/loss": "60" }), &|_, lost| lost >= 2).await?;
    set(json!({ "ovn.kubernetes.io/loss": null }), &|time, lost| time < before + 200.0 && lost == 0).await
}

#[tokio::test]
async fn mirrored_packets_are_shown_once() -> Result<()> {
    let (cluster, stage) = (Cluster::running().await?, stage().await?);
    stage.near.annotate(&cluster.client(), json!({ "ovn.kubernetes.io/mirror": "true" })).await?;
    let own = stage.near.ip(false)?.to_string();
    for other in [&stage.next, &stage.far] {
        let to = other.ip(false)?.to_string();
        let shown = async || {
            let capture =
                Capture::start(stage.near.node, "mirror0", &format!("icmp and host {own} and host {to}")).await?;
            let (_, lost) = ping(&stage.near.place(), &to).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let packets = capture.packets().await?;
            let requests = packets.iter().filter(|line| line.contains("echo request")).count();
            let answers = packets.iter().filter(|line| line.contains("echo reply")).count();
            println!("{to}: {requests} requests, {answers} answers");
            ensure!(
                (requests, answers, lost) == (10, 10, 0),
                "{requests} requests and {answers} answers of 10 are shown"
            );
            Ok(())
        };
        process::until(SOON, shown).await.context("the mirror")?;
    }
    stage.near.annotate(&cluster.client(), json!({ "ovn.kubernetes.io/mirror": null })).await
}
