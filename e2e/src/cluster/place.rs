//! The places that send packets: a pod, a node, or a host outside of the cluster. Every check runs a real command
//! there. Its error names both ends and contains the output of the command.
//!
//! `lab-peer` answers at every destination: HTTP on [`HTTP`], UDP on [`UDP`]. Its answer is its name and the client's
//! address.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::layout::{Node, kubeconfig};
use crate::{kube, process, rootfs};

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

impl Place {
    /// Runs a command and returns its output. For OVN and OVS, the node's own version runs.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        process::run(self.command(program, arguments)?).await
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Result<Command> {
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
            Self::Host(netns) => Ok(process::in_netns(netns, program, arguments)),
        }
    }

    /// Sends three echo requests. All must be answered.
    ///
    /// ping waits for the last answer only for its interval, or for twice the longest time so far. A packet can take
    /// longer on a busy machine. The command therefore sends one more request, whose answer does not count.
    pub async fn ping(&self, to: &str) -> Result<()> {
        let printed = self
            .run("ping", &["-c", "4", "-i", "0.1", "-w", "3", to])
            .await
            .with_context(|| format!("ping from {self} to {to}"))?;
        let all = (1..=3).all(|request| printed.contains(&format!("icmp_seq={request} ")));
        ensure!(all, "ping from {self} to {to}: {printed}");
        Ok(())
    }

    /// Sends three echo requests. None may be answered.
    pub async fn no_ping(&self, to: &str) -> Result<()> {
        // Exit status 1 of ping means "no answer". Any other status is an error.
        let script = format!("ping -c 3 -i 0.1 -W 1 {to}; echo status $?");
        let printed = self.run("sh", &["-c", &script]).await?;
        ensure!(printed.trim_end().ends_with("status 1"), "{to} must not answer {self}, but: {printed}");
        Ok(())
    }

    /// Sends an HTTP request to the peer at `to`.
    pub async fn tcp(&self, to: &str) -> Result<Answer> {
        let url = format!("http://{}/", socket(to, HTTP));
        let printed = self.run("curl", &["-sS", "--noproxy", "*", "--max-time", "5", &url]).await;
        answer(&printed.with_context(|| format!("TCP from {self} to {to}"))?)
    }

    /// Sends an HTTP request to the peer `name`, at the address of this family (4 or 6) that the resolver returns.
    pub async fn tcp_by_name(&self, name: &str, family: u8) -> Result<Answer> {
        let (family, url) = (format!("-{family}"), format!("http://{name}:{HTTP}/"));
        let printed = self.run("curl", &[&family, "-sS", "--noproxy", "*", "--max-time", "5", &url]).await;
        answer(&printed.with_context(|| format!("TCP {family} from {self} to {name}"))?)
    }

    /// Sends one UDP request to the peer at `to`.
    pub async fn udp(&self, to: &str) -> Result<Answer> {
        // Unlike nc, this ends as soon as the answer arrives. bash's `read` reads single bytes and would lose a
        // datagram.
        let script = format!("exec 3<>/dev/udp/{to}/{UDP}; echo hello >&3; timeout 2 head -n 1 <&3");
        let printed = self.run("bash", &["-c", &script]).await;
        answer(&printed.with_context(|| format!("UDP from {self} to {to}"))?)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod {namespace}/{name}"),
            Self::Node(node) => write!(f, "node {}", node.name()),
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
