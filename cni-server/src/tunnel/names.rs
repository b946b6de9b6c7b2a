//! Names of interfaces.

use api::annotations::interface_pattern;
use links::Link;

/// Interface names from the user: exact names, or regular expressions for the whole name, for example `eth.*`.
#[derive(Clone, Debug)]
pub struct Names {
    /// Who says so: `--iface`, or an annotation.
    from: &'static str,
    list: Vec<(String, regex::Regex)>,
}

impl Default for Names {
    fn default() -> Self {
        Self { from: "--iface", list: Vec::new() }
    }
}

impl Names {
    /// Parses a list. Skips empty entries.
    pub fn parse<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, regex::Error> {
        let names = list.into_iter().map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| Ok((name.to_owned(), interface_pattern(name)?)))
            .collect::<Result<_, _>>()
            .map(|list| Self { list, ..Self::default() })
    }

    /// Parses the value of an annotation of the Node.
    pub fn of_annotation(name: &'static str, value: &str) -> Result<Self, regex::Error> {
        Ok(Self { from: name, ..Self::parse(value.split(','))? })
    }

    /// Returns the name of an existing interface, and nothing else.
    pub fn exactly(name: &str) -> Self {
        Self {
            from: "the interface of the tunnels,",
            ..Self::parse([regex::escape(name).as_str()]).unwrap_or_default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the matching links in order of preference. Within an entry, an exact match comes first.
    pub(super) fn pick<'a>(&self, all: &'a [Link]) -> impl Iterator<Item = &'a Link> {
        self.list.iter().flat_map(|(name, pattern)| {
            let exact = all.iter().filter(move |link| &link.name == name);
            exact.chain(all.iter().filter(move |link| &link.name != name && pattern.is_match(&link.name)))
        })
    }
}

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.list.iter().map(|(name, _)| name.as_str()).collect();
        write!(f, "{} {}", self.from, names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::link;

    #[test]
    fn names_are_exact_or_expressions() {
        let all = ["eth10", "eth1", "bond0", "br-phy"].map(|name| link(1, name));
        let pick = |list: &str| {
            let names = Names::parse(list.split(',')).unwrap();
            names.pick(&all).map(|link| link.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(pick("eth1"), "eth1");
        assert_eq!(pick("bond1, eth.*"), "eth10 eth1");
        assert_eq!(pick("br-phy,bond0"), "br-phy bond0");
        assert!(Names::parse(["("]).is_err());
    }
}
