//! Where packets are sent from: a pod, a node, or a host outside. Every check is a real command there; its error says from
//! where to where, and what the command said.
//!
//! What answers everywhere is `lab-peer`: HTTP on [`HTTP`], UDP on [`UDP`], each telling its own name and the client's address.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::layout::{Node, kubeconfig};
use crate::{kube, process, rootfs};

/// Where a peer answers HTTP.
pub const HTTP: u16 = 8080;
/// Where a peer answers UDP.
pub const UDP: u16 = 8081;

/// Where a command runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a pod's first container.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// On a node, outside of all pods.
    Node(Node),
    /// In a network namespace of the lab that is a host outside of the cluster.
    Host(&'static str),
}

/// What a peer answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Who answered: a pod's name, or `outside`.
    pub who: String,
    /// The source address with which the question arrived there.
    pub seen: IpAddr,
}

impl Place {
    /// Runs a command to its end; what it printed. Of OVN and OVS it is the node's own version.
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

    /// Three echo requests, every one of which must be answered.
    ///
    /// ping does not wait for its last answer for longer than its interval, or twice the longest so far, and a busy machine keeps
    /// a packet for longer than that. So it may send more, until it has one answer more than those that count.
    pub async fn ping(&self, to: &str) -> Result<()> {
        let printed = self
            .run("ping", &["-c", "4", "-i", "0.1", "-w", "3", to])
            .await
            .with_context(|| format!("ping from {self} to {to}"))?;
        let all = (1..=3).all(|request| printed.contains(&format!("icmp_seq={request} ")));
        ensure!(all, "ping from {self} to {to}: {printed}");
        Ok(())
    }

    /// Three echo requests, none of which may be answered.
    pub async fn no_ping(&self, to: &str) -> Result<()> {
        // ping's exit status 1 is "no answer"; anything else is an error of its own.
        let script = format!("ping -c 3 -i 0.1 -W 1 {to}; echo status $?");
        let printed = self.run("sh", &["-c", &script]).await?;
        ensure!(printed.contains("status 1"), "{to} must not answer {self}, but: {printed}");
        Ok(())
    }

    /// Asks the peer at `to` over TCP (HTTP).
    pub async fn tcp(&self, to: &str) -> Result<Answer> {
        let url = format!("http://{}/", socket(to, HTTP));
        let printed = self.run("curl", &["-sS", "--noproxy", "*", "--max-time", "5", &url]).await;
        answer(&printed.with_context(|| format!("TCP from {self} to {to}"))?)
    }

    /// Asks the peer called `name` over TCP at its address of that family, 4 or 6, as the resolver here tells it.
    pub async fn tcp_by_name(&self, name: &str, family: u8) -> Result<Answer> {
        let (family, url) = (format!("-{family}"), format!("http://{name}:{HTTP}/"));
        let printed = self.run("curl", &[&family, "-sS", "--noproxy", "*", "--max-time", "5", &url]).await;
        answer(&printed.with_context(|| format!("TCP {family} from {self} to {name}"))?)
    }

    /// Asks the peer at `to` over UDP, once.
    pub async fn udp(&self, to: &str) -> Result<Answer> {
        // Unlike nc, this has done as soon as the answer is there. (bash's own read takes single bytes, and so loses a datagram.)
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
