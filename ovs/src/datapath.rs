//! Which datapath forwards: the kernel's where its modules are there, else the one in ovs-vswitchd itself.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use daemons::tool;

/// How packets travel between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tunnel {
    /// The default.
    Geneve,
    /// For networks that know only this.
    Vxlan,
}

/// A datapath, in the words of `datapath_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's.
    System,
    /// Userspace.
    Netdev,
}

/// What this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The modules that the kernel's datapath needs, each with why it is not there, if it is not.
    modules: Vec<(&'static str, Result<(), String>)>,
    /// Whether there is `/dev/net/tun`, which the userspace datapath makes its own ports with.
    taps: bool,
}

/// What is wanted is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatapathError {
    /// The kernel's was insisted on.
    #[error("--datapath kernel: {0}")]
    Kernel(String),
    /// Neither can be had.
    #[error("the userspace datapath needs /dev/net/tun, which is not there{0}")]
    NoTaps(String),
}

/// Which datapath is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// The kernel's where it is there, else userspace.
    Auto,
    /// The kernel's, or none.
    Kernel,
    /// Userspace.
    Userspace,
}

impl Tunnel {
    fn module(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
        }
    }
}

impl Machine {
    /// Looks, and loads what can be loaded.
    pub async fn look(tunnel: Tunnel) -> Self {
        let mut modules = Vec::new();
        for name in ["openvswitch", tunnel.module()] {
            let there = if Path::new("/sys/module").join(name).exists() {
                Ok(())
            } else {
                // Says yes of what is built in, too.
                tool::run("modprobe", [name]).await.map(drop).map_err(|error| error.to_string())
            };
            modules.push((name, there));
        }
        Self { modules, taps: Path::new("/dev/net/tun").exists() }
    }

    /// The datapath, and why it is this one.
    pub fn choose(&self, wanted: Wanted) -> Result<(Datapath, String), DatapathError> {
        let missing: Vec<_> = self.modules.iter().filter_map(|(name, why)| Some((name, why.as_ref().err()?))).collect();
        let missing = missing.iter().map(|(name, why)| format!("module {name} is not there ({why})"));
        let missing = missing.collect::<Vec<_>>().join(", ");
        match wanted {
            Wanted::Kernel if !missing.is_empty() => Err(DatapathError::Kernel(missing)),
            Wanted::Kernel => Ok((Datapath::System, "--datapath says so".to_owned())),
            Wanted::Auto if missing.is_empty() => Ok((Datapath::System, "its modules are there".to_owned())),
            Wanted::Auto if !self.taps => Err(DatapathError::NoTaps(format!("; for the kernel's, {missing}"))),
            Wanted::Auto => Ok((Datapath::Netdev, missing)),
            Wanted::Userspace if !self.taps => Err(DatapathError::NoTaps(String::new())),
            Wanted::Userspace => Ok((Datapath::Netdev, "--datapath says so".to_owned())),
        }
    }
}

impl Datapath {
    /// Its value in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Netdev => "netdev",
        }
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "kernel",
            Self::Netdev => "userspace",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(module: Result<(), &str>, taps: bool, wanted: Wanted) -> Result<(Datapath, String), String> {
        let modules = vec![("openvswitch", Ok(())), ("geneve", module.map_err(str::to_owned))];
        Machine { modules, taps }.choose(wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn the_kernels_is_taken_where_it_is_whole_and_the_reason_is_said() {
        let missing = "module geneve is not there (no such file)";
        let there = choose(Ok(()), false, Wanted::Auto);
        assert_eq!(there, Ok((Datapath::System, "its modules are there".to_owned())));
        let half = choose(Err("no such file"), true, Wanted::Auto);
        assert_eq!(half, Ok((Datapath::Netdev, missing.to_owned())));
        assert_eq!(choose(Ok(()), true, Wanted::Userspace).unwrap().0, Datapath::Netdev);
        let refused = choose(Err("no such file"), true, Wanted::Kernel);
        assert_eq!(refused, Err(format!("--datapath kernel: {missing}")));
        let neither = choose(Err("no such file"), false, Wanted::Auto).unwrap_err();
        assert_eq!(
            neither,
            format!("the userspace datapath needs /dev/net/tun, which is not there; for the kernel's, {missing}")
        );
    }
}
