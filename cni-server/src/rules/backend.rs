//! Which firewall the kernel and the host have.

use std::io;
use std::path::Path;

use super::Family;
use super::command::{self, CommandError};

/// How the rules are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Firewall {
    /// With nftables where the kernel has it, else with iptables and ipset.
    #[default]
    Auto,
    /// In tables of our own of nftables.
    Nftables,
    /// In chains of iptables, with sets of ipset.
    Iptables,
}

impl Firewall {
    /// Returns whether nftables is used. Fails if that cannot be found out now.
    pub(super) async fn is_nftables(self) -> Result<bool, CommandError> {
        match self {
            Self::Nftables => Ok(true),
            Self::Iptables => Ok(false),
            Self::Auto => match command::run("nft", &["list", "tables"], "").await {
                Ok(_) => Ok(true),
                Err(error) if says_no(&error) => {
                    tracing::info!(%error, "no nftables: rules are written with iptables and ipset");
                    Ok(false)
                }
                Err(error) => Err(error),
            },
        }
    }
}

/// Whether a failed command shows that there is no nftables: the tool is not installed, or the kernel refuses.
fn says_no(error: &CommandError) -> bool {
    match error {
        CommandError::Run { source, .. } => source.kind() == io::ErrorKind::NotFound,
        CommandError::Refused { .. } => true,
        CommandError::Hung { .. } => false,
    }
}

/// One of the two implementations of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iptables {
    /// On nftables.
    Nft,
    /// On the old interface of the kernel.
    Legacy,
    /// The only one that is installed.
    Only,
}

impl Iptables {
    /// The programs that print and write the rules of a family.
    pub(super) fn programs(self, family: Family) -> (&'static str, &'static str) {
        match (self, family) {
            (Self::Nft, Family::V4) => ("iptables-nft-save", "iptables-nft-restore"),
            (Self::Nft, Family::V6) => ("ip6tables-nft-save", "ip6tables-nft-restore"),
            (Self::Legacy, Family::V4) => ("iptables-legacy-save", "iptables-legacy-restore"),
            (Self::Legacy, Family::V6) => ("ip6tables-legacy-save", "ip6tables-legacy-restore"),
            (Self::Only, Family::V4) => ("iptables-save", "iptables-restore"),
            (Self::Only, Family::V6) => ("ip6tables-save", "ip6tables-restore"),
        }
    }

    /// Returns the implementation that the host uses, by the chains that the kubelet creates for this purpose. Without
    /// them, the one with more rules, as kube-proxy's wrapper of iptables decides.
    pub(super) async fn of_host() -> Result<Self, CommandError> {
        if !Self::Nft.is_in_use() {
            return Ok(if Self::Legacy.is_in_use() { Self::Legacy } else { Self::Only });
        }
        if !Self::Legacy.is_in_use() {
            return Ok(Self::Nft);
        }
        for tables in [&["-t", "mangle"][..], &[]] {
            let Ok(legacy) = command::run(Self::Legacy.programs(Family::V4).0, tables, "").await else {
                return Ok(Self::Nft);
            };
            // A kernel without nftables refuses.
            let Ok(nft) = command::run(Self::Nft.programs(Family::V4).0, tables, "").await else {
                return Ok(Self::Legacy);
            };
            if is_hinted(&nft) || is_hinted(&legacy) || tables.is_empty() {
                return Ok(choose(&nft, &legacy));
            }
        }
        Ok(Self::Nft)
    }

    /// Returns whether the host can have rules of it. To list the tables of the old interface would create them, so look
    /// whether there are any.
    pub(super) fn is_in_use(self) -> bool {
        let is_there = |path: &str| std::fs::read_to_string(path).is_ok_and(|names| !names.is_empty());
        match self {
            Self::Nft => is_installed("iptables-nft-save"),
            Self::Legacy => {
                is_installed("iptables-legacy-save")
                    && (is_there("/proc/thread-self/net/ip_tables_names")
                        || is_there("/proc/thread-self/net/ip6_tables_names"))
            }
            Self::Only => !is_installed("iptables-nft-save"),
        }
    }

    /// Returns whether the kernel announces changes of the rules.
    pub(super) fn is_announced(self) -> bool {
        match self {
            Self::Nft => true,
            Self::Legacy => false,
            // The link leads to the implementation.
            Self::Only => !links_to_legacy(Path::new("/usr/sbin/iptables")),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

fn links_to_legacy(program: &Path) -> bool {
    std::fs::canonicalize(program).is_ok_and(|path| path.to_string_lossy().contains("legacy"))
}

fn is_hinted(rules: &str) -> bool {
    rules.lines().any(|line| {
        let name = line.strip_prefix(':').and_then(|line| line.split(' ').next());
        name.is_some_and(|name| ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"].contains(&name))
    })
}

fn choose(nft: &str, legacy: &str) -> Iptables {
    let rules = |rules: &str| rules.lines().filter(|line| line.starts_with("-A ")).count();
    if is_hinted(nft) || (!is_hinted(legacy) && rules(nft) >= rules(legacy)) { Iptables::Nft } else { Iptables::Legacy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_chain_tells_the_implementation_else_the_number_of_rules() {
        let hint = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
        let two = "*filter\n-A INPUT -j A\n-A INPUT -j B\nCOMMIT\n";
        assert_eq!(choose(hint, two), Iptables::Nft);
        assert_eq!(choose(two, hint), Iptables::Legacy);
        assert_eq!(choose("", two), Iptables::Legacy);
        assert_eq!(choose(two, two), Iptables::Nft);
        assert_eq!(choose("", ""), Iptables::Nft);
    }
}
