//! How fast packets pass between two places.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Place;
use crate::layout::sibling;
use crate::{pace, process};

/// The bytes that a place has received by `eth0`.
pub async fn received(place: &Place) -> Result<u64> {
    let text = place.run("cat", &["/proc/net/dev"]).await?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("eth0")?;
    line.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).context("bytes")
}

/// Returns the rate in Mbit/s.
#[allow(clippy::cast_precision_loss)] // far below 2^53
pub fn mbit(bytes: u64, time: Duration) -> f64 {
    8e-6 * bytes as f64 / time.as_secs_f64()
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
        Ok(mbit(bytes, start.elapsed()))
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

/// Returns the longest time between two answers in what `ping -D -i 0.01` prints. Fails if the first or the last answers
/// are missing: the pause had begun before, or was not over.
pub fn longest_pause(printed: &str) -> Result<Duration> {
    let answers = printed.lines().filter(|line| line.contains("icmp_seq="));
    let answers: Vec<(f64, u64)> = answers
        .filter_map(|line| {
            let (time, rest) = line.strip_prefix('[')?.split_once(']')?;
            let number = rest.split_once("icmp_seq=")?.1.split_whitespace().next()?;
            Some((time.parse().ok()?, number.parse().ok()?))
        })
        .collect();
    let sent = printed.lines().find_map(|line| line.split_once(" packets transmitted")?.0.parse::<u64>().ok());
    let (Some(first), Some(last), Some(sent)) = (answers.first(), answers.last(), sent) else {
        bail!("no answers: {printed}");
    };
    ensure!(first.1 <= FEW && last.1 + FEW >= sent, "answers are missing at the begin or the end: {printed}");
    let longest = answers.windows(2).map(|pair| pair[1].0 - pair[0].0).reduce(f64::max);
    longest.map(Duration::from_secs_f64).context("one answer alone")
}

/// The packets that can be without an answer at both ends of a measurement.
const FEW: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_answers_go_on_after_the_largest_one() {
        let numbers = [1, 2, 65534, 65535, 1, 0, 70, 65535, 3];
        let line = |number: usize| format!("64 bytes from 10.16.0.4: icmp_seq={number} ttl=64 time=0.1 ms\n");
        // A long pause is told by the count of requests alone, so the numbers in between are near each other.
        let printed: String = (1..65534).chain(numbers[2..].iter().copied()).map(line).collect();
        let answered = answered(&printed);
        assert!([65535, 65536, 65537, 65606, 65539].iter().all(|number| answered.contains(number)));
        assert!(!answered.contains(&65538));
    }

    #[test]
    fn a_pause_that_is_not_over_is_no_measurement() {
        let answer =
            |number: u32| format!("[{}.{:03}] 64 bytes: icmp_seq={number} ttl=62\n", number / 100, number % 100 * 10);
        let printed = |numbers: &[u32]| {
            let answers: String = numbers.iter().map(|number| answer(*number)).collect();
            format!("{answers}\n--- 172.30.0.250 ping statistics ---\n600 packets transmitted, 9 received\n")
        };
        assert_eq!(longest_pause(&printed(&[1, 2, 90, 590])).unwrap(), Duration::from_secs(5));
        assert!(longest_pause(&printed(&[1, 2, 90])).is_err());
        assert!(longest_pause(&printed(&[90, 590])).is_err());
        assert!(longest_pause(&printed(&[])).is_err());
    }
}

/// A ping, one each 20 ms, that runs until it is stopped.
#[derive(Debug)]
pub struct Pings {
    child: tokio::process::Child,
    /// What ping prints. It must not wait for a reader.
    output: File,
}

impl Pings {
    /// Starts to ping an address from a place.
    pub fn start(from: &Place, to: &str) -> Result<Self> {
        let mut command = tokio::process::Command::from(from.command("ping", &["-i", "0.02", to])?);
        let output = tempfile::tempfile()?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).kill_on_drop(true);
        Ok(Self { child: command.spawn().context("ping")?, output })
    }

    /// Stops. Returns the number of requests, and the numbers of those that had no answer. The last one does not count: its
    /// answer can be on its way.
    pub async fn stop(mut self) -> Result<(usize, Vec<usize>)> {
        let pid = self.child.id().context("ping has ended")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGINT)?;
        self.child.wait().await?;
        let mut printed = String::new();
        self.output.rewind()?;
        self.output.read_to_string(&mut printed)?;
        let (sent, _) = counts(&printed)?;
        let answered = answered(&printed);
        Ok((sent, (1..sent).filter(|request| !answered.contains(request)).collect()))
    }
}

/// Parses the output of ping: the numbers of the requests that were answered. Those in packets begin again after 65,535.
fn answered(printed: &str) -> BTreeSet<usize> {
    const ALL: usize = 1 << 16;
    let answers = printed.lines().filter(|line| line.contains(" bytes from "));
    let numbers = answers.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse::<usize>().ok());
    let mut last = 0;
    let unwrapped = numbers.map(|number| {
        // The nearest one to the last answer that has this number.
        let near = last - last % ALL + number;
        let candidates = [near.checked_sub(ALL), Some(near), Some(near + ALL)];
        last = candidates.into_iter().flatten().min_by_key(|candidate| candidate.abs_diff(last)).unwrap_or(near);
        last
    });
    unwrapped.collect()
}

/// Parses the output of `ping -q`: the numbers of requests and of answers.
fn counts(printed: &str) -> Result<(usize, usize)> {
    let line = printed.lines().find(|line| line.contains("packets transmitted")).context("ping counted nothing")?;
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| line.to_owned())
}
