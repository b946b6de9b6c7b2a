//! Selects the datapath: the kernel datapath if its modules are available, otherwise the userspace datapath of
//! ovs-vswitchd.

use std::path::Path;
use std::{fmt, fs};

use clap::ValueEnum;
use daemons::tool;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use ovn::Encapsulation;

/// The device for taps: misc device 200 (devices.txt of the kernel).
const TUN: &str = "/dev/net/tun";

/// A datapath. See `datapath_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel datapath.
    System,
    /// The userspace datapath.
    Netdev,
}

/// The capabilities of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The modules that the kernel datapath needs, each with the error if it is not available.
    modules: Vec<(&'static str, Result<(), String>)>,
    /// Whether `/dev/net/tun` was looked for and exists. The userspace datapath needs it for its internal ports.
    taps: bool,
}

/// The requested datapath is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatapathError {
    /// The kernel datapath was requested.
    #[error("--datapath kernel: {0}")]
    Kernel(String),
    /// Neither datapath is available.
    #[error("the userspace datapath needs /dev/net/tun, which is not there{0}")]
    NoTaps(String),
}

/// The requested datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// The kernel datapath if available, otherwise the userspace datapath.
    Auto,
    /// Only the kernel datapath.
    Kernel,
    /// The userspace datapath.
    Userspace,
}

impl Machine {
    /// Detects the capabilities. Loads the kernel modules if possible. Without one of them, or if the userspace datapath is wanted,
    /// it looks for taps as well.
    pub async fn look(encapsulation: Encapsulation, wanted: Wanted) -> Self {
        let mut modules = Vec::new();
        for name in ["openvswitch", encapsulation.as_str()] {
            let there = if Path::new("/sys/module").join(name).exists() {
                Ok(())
            } else {
                // modprobe also succeeds for a module that is built into the kernel.
                tool::run("modprobe", [name]).await.map(drop).map_err(|error| error.to_string())
            };
            modules.push((name, there));
        }
        let needs_taps = wanted == Wanted::Userspace || modules.iter().any(|(_, there)| there.is_err());
        Self { modules, taps: needs_taps && has_taps() }
    }

    /// Returns the modules of the kernel datapath, each with the error if it is not available.
    pub fn modules(&self) -> impl Iterator<Item = (&'static str, Result<(), &str>)> {
        self.modules.iter().map(|(name, there)| (*name, there.as_ref().copied().map_err(String::as_str)))
    }

    /// Returns the datapath and the reason for the choice.
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

/// Returns whether [`TUN`] exists. A container without privileges has none at first; the runtime lets it make the one device.
fn has_taps() -> bool {
    let path = Path::new(TUN);
    if !path.exists() {
        let permissions = Mode::from_bits_truncate(0o666);
        let made = path.parent().is_some_and(|directory| fs::create_dir_all(directory).is_ok())
            && mknod(path, SFlag::S_IFCHR, permissions, makedev(10, 200)).is_ok();
        // The kernel loads the module for it when it is opened.
        return made && fs::File::options().read(true).write(true).open(path).is_ok();
    }
    true
}

impl Datapath {
    /// Returns the value in the database.
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
