//! How fast packets pass between two places.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Place;
use crate::layout::sibling;
use crate::{pace, process};

/// The bytes that a place has received by `eth0`.
async fn received(place: &Place) -> Result<u64> {
    let text = place.run("cat", &["/proc/net/dev"]).await?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("eth0")?;
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("bytes")
}

/// Starts a server of iperf3 that ends after one client, and then the client. `how` are more arguments of the client.
pub async fn iperf3(from: &Place, to: &Place, address: &str, how: &[&str]) -> Result<()> {
    let serve = process::run(to.command("iperf3", &["--server", "--one-off"])?);
    let ask = async {
        // The server says nothing when it listens.
        let listens = async || {
            let sockets = to.run("ss", &["--listening", "--numeric", "--tcp"]).await?;
            ensure!(sockets.contains(":5201"), "{sockets}");
            Ok(())
        };
        process::until(Duration::from_secs(5), listens).await?;
        let patience = format!("{}000", pace::seconds(3));
        from.run("iperf3", &[&["--client", address, "--connect-timeout", &patience], how].concat()).await
    };
    let what = format!("iperf3 from {from} to {to}");
    tokio::try_join!(serve, ask).with_context(|| what).map(drop)
}

/// Sends from one place to another, until enough has been seen: with TCP, or with UDP at `udp` Mbit/s. Returns the rate in
/// Mbit/s that arrives, without the first seconds, in which the burst of a limit passes. TCP loses speed for moments at a
/// limit that drops packets, so it is seen for longer than UDP.
pub async fn rate(from: &Place, to: &Place, address: &str, udp: Option<u32>) -> Result<f64> {
    let measure = async {
        let begins = received(to).await?;
        let flows = async || {
            ensure!(received(to).await? > begins + 100_000, "nothing arrives at {to}");
            Ok(())
        };
        process::until(Duration::from_secs(20), flows).await?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let (before, start) = (received(to).await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(if udp.is_some() { 3 } else { 8 })).await;
        let bytes = received(to).await? - before;
        Ok(8e-6 * f64::from(u32::try_from(bytes)?) / start.elapsed().as_secs_f64())
    };
    let send = async {
        match udp {
            None => iperf3(from, to, address, &["--time", "300"]).await,
            Some(mbit) => {
                let peer = sibling("static/lab-peer")?.display().to_string();
                from.run(&peer, &["flood", address, &mbit.to_string()]).await.map(drop)
            }
        }
    };
    // The senders are killed when the rate is known.
    tokio::select! {
        ended = send => ended.and_then(|()| bail!("what sends from {from} to {to} has ended")),
        rate = measure => rate,
    }
}
