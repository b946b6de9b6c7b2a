//! The places that send packets: a pod, a node, or a host outside of the cluster. Every check runs a real command
//! there. Its error names both ends and contains the output of the command.
//!
//! `lab-peer` answers at every destination: HTTP on [`HTTP`], UDP on [`UDP`]. Its answer is its name and the client's
//! address.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::layout::{Node, kubeconfig, sibling};
use crate::{kube, pace, process, rootfs};

/// The HTTP port of a peer.
pub const HTTP: u16 = 8080;
/// The UDP port of a peer.
pub const UDP: u16 = 8081;

/// Where a command runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// The first container of a pod.
    Pod {
        /// The namespace of the pod.
        namespace: String,
        /// The name of the pod.
        name: String,
    },
    /// A node, outside of all pods.
    Node(Node),
    /// A pod of a lab without container runtimes: a network namespace on a node. See [`crate::bare`].
    Plugged {
        /// The node.
        node: Node,
        /// The name of the network namespace on the node.
        netns: String,
    },
    /// A network namespace of the lab that acts as a host outside of the cluster.
    Host(&'static str),
}

/// The answer of a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The name of the peer: a pod's name, or `outside`.
    pub who: String,
    /// The source address of the request as the peer saw it.
    pub seen: IpAddr,
}

/// What to ask a peer. See `e2e/peer/src/ask.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// An HTTP request.
    Tcp(SocketAddr),
    /// A datagram of this size.
    Udp(SocketAddr, u32),
}

impl Target {
    /// Returns an HTTP request and a small datagram to the usual ports.
    pub fn both(ip: IpAddr) -> [Self; 2] {
        [Self::Tcp((ip, HTTP).into()), Self::Udp((ip, UDP).into(), 100)]
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(to) => write!(f, "tcp,{to}"),
            Self::Udp(to, bytes) => write!(f, "udp,{to},{bytes}"),
        }
    }
}

impl Place {
    /// Runs a command and returns its output. For OVN and OVS, the node's own version runs.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::run(self.command(program, arguments)?).await
    }

    /// Returns a command that runs there.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<Command> {
        match self {
            Self::Pod { namespace, name } => {
                let kubeconfig = format!("--kubeconfig={}", kubeconfig().display());
                let mut command =
                    process::command(kube::program("kubectl"), &[&kubeconfig, "exec", "-n", namespace, name, "--"]);
                command.arg(program).args(arguments);
                Ok(command)
            }
            Self::Node(node) if program.starts_with("ovs-") || program.starts_with("ovn-") => {
                rootfs::on(*node, program, arguments)
            }
            Self::Node(node) => process::on(*node, program, arguments),
            Self::Plugged { node, netns } => {
                let pid = node.pid().with_context(|| format!("{} does not run", node.name()))?;
                let path = format!("--net=/proc/{pid}/root/run/netns/{netns}");
                let mut command = process::command("nsenter", &[&path, "--"]);
                command.arg(program).args(arguments);
                Ok(command)
            }
            Self::Host(netns) => Ok(process::in_netns(netns, program, arguments)),
        }
    }

    /// Sends three echo requests. All must be answered.
    ///
    /// ping waits for the last answer only for its interval, or for twice the longest time so far. A packet can take
    /// longer on a busy machine. The command therefore sends one more request, whose answer does not count.
    pub async fn ping(&self, to: &str) -> Result<()> {
        let printed = self
            .run("ping", &["-c", "4", "-i", &pace::interval(), "-w", &pace::seconds(3), to])
            .await
            .with_context(|| format!("ping from {self} to {to}"))?;
        let all = (1..=3).all(|request| printed.contains(&format!("icmp_seq={request} ")));
        ensure!(all, "ping from {self} to {to}: {printed}");
        Ok(())
    }

    /// Returns whether a TCP connection can be opened within these seconds.
    pub async fn opens(&self, address: &str, port: &str, seconds: u8) -> Result<bool> {
        let script = format!("nc -z -w {seconds} {address} {port} && echo open || echo closed");
        Ok(self.run("sh", &["-c", &script]).await?.trim() == "open")
    }

    /// Sends three echo requests. None may be answered.
    pub async fn no_ping(&self, to: &str) -> Result<()> {
        // Exit status 1 of ping means "no answer". Any other status is an error.
        let script = format!("ping -c 3 -i {} -W {} {to}; echo status $?", pace::interval(), pace::seconds(1));
        let printed = self.run("sh", &["-c", &script]).await?;
        ensure!(printed.trim_end().ends_with("status 1"), "{to} must not answer {self}, but: {printed}");
        Ok(())
    }

    /// Sends an HTTP request to the peer at `to`.
    pub async fn tcp(&self, to: &str) -> Result<Answer> {
        let url = format!("http://{}/", socket(to, HTTP));
        let printed = self.run("curl", &["-sS", "--noproxy", "*", "--max-time", &pace::seconds(5), &url]).await;
        answer(&printed.with_context(|| format!("TCP from {self} to {to}"))?)
    }

    /// Sends an HTTP request to the peer `name`, at the address of this family (4 or 6) that the resolver returns.
    pub async fn tcp_by_name(&self, name: &str, family: u8) -> Result<Answer> {
        let (family, url) = (format!("-{family}"), format!("http://{name}:{HTTP}/"));
        let printed =
            self.run("curl", &[&family, "-sS", "--noproxy", "*", "--max-time", &pace::seconds(5), &url]).await;
        answer(&printed.with_context(|| format!("TCP {family} from {self} to {name}"))?)
    }

    /// Asks several peers at the same time, with one process. See [`Target`].
    pub async fn ask(&self, targets: &[Target]) -> Result<Vec<Result<Answer>>> {
        let peer = sibling("static/lab-peer")?.display().to_string();
        let (patience, words) = (pace::seconds(2), targets.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut arguments = vec!["ask", &patience];
        arguments.extend(words.iter().map(String::as_str));
        let printed = self.run(&peer, &arguments).await?;
        let lines: Vec<_> = printed.lines().collect();
        ensure!(lines.len() == targets.len(), "{self} asks {words:?}: {printed}");
        let check = |(line, word): (&&str, &String)| match line.strip_prefix("- ") {
            Some(reason) => bail!("{word} from {self}: {reason}"),
            None => answer(line),
        };
        Ok(lines.iter().zip(&words).map(check).collect())
    }

    /// Sends one UDP request to the peer at `to`.
    pub async fn udp(&self, to: &str) -> Result<Answer> {
        // Unlike nc, this ends as soon as the answer arrives. bash's `read` reads single bytes and would lose a
        // datagram.
        let patience = pace::seconds(2);
        let script = format!("exec 3<>/dev/udp/{to}/{UDP}; echo hello >&3; timeout {patience} head -n 1 <&3");
        let printed = self.run("bash", &["-c", &script]).await;
        answer(&printed.with_context(|| format!("UDP from {self} to {to}"))?)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::Node(node) => write!(f, "node {}", node.name()),
            Self::Plugged { node, netns } => write!(f, "pod {netns} on {}", node.name()),
            Self::Host(netns) => write!(f, "host {netns}"),
        }
    }
}

fn socket(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn answer(line: &str) -> Result<Answer> {
    let mut words = line.split_whitespace();
    let (who, seen) = (words.next(), words.next().and_then(|w| w.parse().ok()));
    Ok(Answer {
        who: who.with_context(|| format!("no answer: {line:?}"))?.to_owned(),
        seen: seen.with_context(|| format!("no peer's answer: {line:?}"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_who_and_whom() {
        let expected = Answer { who: "web".into(), seen: "10.16.0.5".parse().unwrap() };
        assert_eq!(answer("web 10.16.0.5\n").unwrap(), expected);
        assert_eq!(answer("web 10.16.0.5 hello\n").unwrap(), expected);
        assert!(answer("").is_err());
        assert!(answer("<html>").is_err());
    }

    #[test]
    fn v6_hosts_are_bracketed() {
        assert_eq!(socket("fd00::1", 80), "[fd00::1]:80");
        assert_eq!(socket("10.0.0.1", 80), "10.0.0.1:80");
    }
}
