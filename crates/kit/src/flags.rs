//! Flags of kube-ovn's programs that our programs accept but do not implement.
//!
//! kube-ovn's manifests set dozens of flags. A program ignores a flag of this kind and logs a warning that explains
//! what applies instead. A completely unknown flag is an error. This module contains the flags that the programs have
//! in common. Each program adds its own.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

use clap::Parser;

/// A group of accepted flags without effect. Names can contain `_` instead of `-`.
#[derive(Debug)]
pub struct Unserved {
    /// What applies instead, as a clause.
    pub instead: &'static str,
    /// Boolean flags.
    pub switches: &'static [&'static str],
    /// Flags with a value.
    pub values: &'static [&'static str],
}

/// The output flags of klog and glog. `--v` works, see [`crate::logs`].
const KLOG: &[Unserved] = &[
    Unserved {
        instead: "log lines go to stderr and nowhere else",
        switches: &["logtostderr", "alsologtostderr", "one-output"],
        values: &["stderrthreshold", "log-dir", "log-file", "log-file-max-size", "log-perm"],
    },
    Unserved {
        instead: "--log-format says how lines are written",
        switches: &["add-dir-header", "skip-headers", "skip-log-headers"],
        values: &[],
    },
    Unserved {
        instead: "--log-level=info,<module>=debug says which lines are written",
        switches: &[],
        values: &["vmodule", "log-backtrace-at"],
    },
];

/// Flags of both kube-ovn's controller and its node agent.
const BOTH: &[Unserved] = &[
    Unserved { instead: "Services are left to kube-proxy", switches: &[], values: &["node-local-dns-ip"] },
    Unserved {
        instead: "every subnet is an overlay",
        switches: &[],
        values: &["default-provider-name", "default-interface-name"],
    },
    Unserved {
        instead: "metrics and health are always there, by plain HTTP on --metrics-address, and there is no profiling",
        switches: &["enable-metrics", "enable-pprof", "secure-serving"],
        values: &["tls-min-version", "tls-max-version", "tls-cipher-suites"],
    },
    Unserved {
        instead: "tunnels are not encrypted",
        switches: &["enable-ovn-ipsec", "cert-manager-ipsec-cert"],
        values: &["ipsec-cert-duration", "cert-manager-issuer-name"],
    },
    Unserved { instead: "it is the network of every pod", switches: &["non-primary-cni-mode"], values: &[] },
];

/// A flag on the command line that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The flag as given, without its value.
    pub flag: String,
    /// What applies instead.
    pub instead: &'static str,
}

impl Ignored {
    /// Logs a warning.
    pub fn warn(&self) {
        tracing::warn!(flag = self.flag, "the flag is known from kube-ovn and does nothing here: {}", self.instead);
    }
}

/// Parses a command line, starting with the program's name. Removes and returns the flags without effect: those in
/// `own`, those of all programs, and klog's.
///
/// A flag with an empty value counts as absent. kube-ovn's installer writes `--iface=` if the value is not set.
pub fn read<A: Parser>(
    line: impl IntoIterator<Item = OsString>,
    own: &'static [Unserved],
) -> Result<(A, Vec<Ignored>), clap::Error> {
    let served = A::command();
    let is_served = |name: &str| served.get_arguments().any(|argument| argument.get_long() == Some(name));
    let (line, ignored) = sort_out(line, own, is_served);
    Ok((A::try_parse_from(line)?, ignored))
}

/// Returns the flags that are declared more than once: as implemented and as without effect, or twice as without
/// effect. The tests of each program check that there are none.
pub fn contested<A: Parser>(own: &'static [Unserved]) -> Vec<String> {
    let served = A::command();
    let served = served.get_arguments().filter_map(clap::Arg::get_long);
    let unserved = known(own).flat_map(|group| group.switches.iter().chain(group.values)).copied();
    let mut seen = BTreeSet::new();
    served.chain(unserved).filter(|name| !seen.insert(*name)).map(ToOwned::to_owned).collect()
}

/// Returns all groups: those in `own` and those of all programs.
fn known(own: &'static [Unserved]) -> impl Iterator<Item = &'static Unserved> {
    KLOG.iter().chain(BOTH).chain(own)
}

fn sort_out(
    line: impl IntoIterator<Item = OsString>,
    own: &'static [Unserved],
    is_served: impl Fn(&str) -> bool,
) -> (Vec<OsString>, Vec<Ignored>) {
    let (mut left, mut ignored) = (Vec::new(), Vec::new());
    let mut line = line.into_iter().peekable();
    while let Some(word) = line.next() {
        let Some((flag, value)) = flag(&word) else {
            let end = word == "--";
            left.push(word);
            if end {
                left.extend(line.by_ref());
            }
            continue;
        };
        match known(own).find_map(|group| group.knows(flag)) {
            None if value == Some("") && is_served(flag.trim_start_matches('-')) => {}
            None => left.push(word),
            Some(_) if value == Some("") => {}
            Some((group, takes_value)) => {
                ignored.push(Ignored { flag: flag.to_owned(), instead: group.instead });
                if takes_value && value.is_none() {
                    line.next_if(|next| !next.as_encoded_bytes().starts_with(b"-"));
                }
            }
        }
    }
    (left, ignored)
}

impl Unserved {
    /// Returns this group and whether the flag takes a value, if the flag is in this group.
    fn knows(&self, flag: &str) -> Option<(&Self, bool)> {
        let name = flag.trim_start_matches('-').replace('_', "-");
        let among = |names: &[&str]| names.iter().any(|known| *known == name);
        if among(self.switches) { Some((self, false)) } else { among(self.values).then_some((self, true)) }
    }
}

/// Splits `--name` or `--name=value`.
fn flag(word: &OsStr) -> Option<(&str, Option<&str>)> {
    let word = word.to_str().filter(|word| word.len() > 2 && word.starts_with("--"))?;
    Some(word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[Unserved] =
        &[Unserved { instead: "services are not balanced yet", switches: &["enable-lb"], values: &["gc-interval"] }];

    #[track_caller]
    fn check(line: &str, left: &str, ignored: &[&str]) {
        let (words, found) = sort_out(line.split(' ').map(Into::into), OURS, |flag| flag == "iface");
        assert_eq!(words.join(OsStr::new(" ")), left);
        assert_eq!(found.iter().map(|found| found.flag.as_str()).collect::<Vec<_>>(), ignored);
    }

    #[test]
    fn what_is_known_and_not_served_is_taken_out_with_its_value_and_nothing_else_is() {
        check("a --default-cidr=10.16.0.0/16 --mtu 1400", "a --default-cidr=10.16.0.0/16 --mtu 1400", &[]);
        check("a --enable-lb --mtu=0", "a --mtu=0", &["--enable-lb"]);
        check("a --secure-serving --tls-min-version 1.3 b", "a b", &["--secure-serving", "--tls-min-version"]);
        check("a --enable-lb=true --gc-interval=360 b", "a b", &["--enable-lb", "--gc-interval"]);
        check("a --gc-interval 360 b", "a b", &["--gc-interval"]);
        check("a --gc-interval --mtu=0", "a --mtu=0", &["--gc-interval"]);
        check("a --gc-interval", "a", &["--gc-interval"]);
        check("a --log_file=/x --log-file-max_size 200 b", "a b", &["--log_file", "--log-file-max_size"]);
        check("a --iface= --mtu=0", "a --mtu=0", &[]);
        check("a --gc-interval= --mtu=0", "a --mtu=0", &[]);
        check("a --no-such-flag= --mtu=0", "a --no-such-flag= --mtu=0", &[]);
        check("a --no-such-flag=1 -v=3 -- --enable-lb", "a --no-such-flag=1 -v=3 -- --enable-lb", &[]);
    }

    #[test]
    fn a_flag_that_is_served_or_named_twice_is_found() {
        #[derive(Debug, Parser)]
        struct Served {
            #[arg(long)]
            gc_interval: u64,
            #[arg(long)]
            mtu: u32,
        }
        const TWICE: &[Unserved] =
            &[Unserved { instead: "", switches: &["enable-lb"], values: &["enable-lb", "log-dir"] }];
        assert_eq!(contested::<Served>(&[]), [""; 0]);
        assert_eq!(contested::<Served>(OURS), ["gc-interval"]);
        assert_eq!(contested::<Served>(TWICE), ["enable-lb", "log-dir"]);
    }
}
