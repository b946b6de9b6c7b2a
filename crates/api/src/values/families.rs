//! One value for each address family in use: IPv4, IPv6, or both.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Cidr, ValueError, parse_address};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A value for IPv4, for IPv6 or for both.
///
/// The text form is the values separated by a comma, IPv4 first. Text in either order parses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Families<T> {
    /// IPv4 only.
    V4(T),
    /// IPv6 only.
    V6(T),
    /// Dual stack.
    Dual {
        /// The value for IPv4.
        v4: T,
        /// The value for IPv6.
        v6: T,
    },
}

/// The networks of a subnet.
pub type Cidrs = Families<Cidr>;

/// An address for each family.
pub type Addresses = Families<IpAddr>;

impl<T> Families<T> {
    /// The values that are given; `None` when there is none.
    pub fn from_options(v4: Option<T>, v6: Option<T>) -> Option<Self> {
        match (v4, v6) {
            (Some(v4), Some(v6)) => Some(Self::Dual { v4, v6 }),
            (Some(v4), None) => Some(Self::V4(v4)),
            (None, Some(v6)) => Some(Self::V6(v6)),
            (None, None) => None,
        }
    }

    /// A value for one family.
    pub fn one(family: Family, value: T) -> Self {
        match family {
            Family::V4 => Self::V4(value),
            Family::V6 => Self::V6(value),
        }
    }

    /// The value for IPv4.
    pub fn v4(&self) -> Option<&T> {
        match self {
            Self::V4(v4) | Self::Dual { v4, .. } => Some(v4),
            Self::V6(_) => None,
        }
    }

    /// The value for IPv6.
    pub fn v6(&self) -> Option<&T> {
        match self {
            Self::V6(v6) | Self::Dual { v6, .. } => Some(v6),
            Self::V4(_) => None,
        }
    }

    /// The value for `family`.
    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4(),
            Family::V6 => self.v6(),
        }
    }

    /// All values, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.v4().into_iter().chain(self.v6())
    }

    /// All values with their family, IPv4 first.
    pub fn each(&self) -> impl Iterator<Item = (Family, &T)> {
        self.v4().map(|v4| (Family::V4, v4)).into_iter().chain(self.v6().map(|v6| (Family::V6, v6)))
    }

    /// The families in use, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<T> {
        let (v4, v6) = (self.v4().is_some(), self.v6().is_some());
        v4.then_some(Family::V4).into_iter().chain(v6.then_some(Family::V6))
    }

    /// Applies `f` to each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Families<U> {
        match self {
            Self::V4(v4) => Families::V4(f(v4)),
            Self::V6(v6) => Families::V6(f(v6)),
            Self::Dual { v4, v6 } => Families::Dual { v4: f(v4), v6: f(v6) },
        }
    }

    /// Applies `f` to each value, and returns the first error.
    pub fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Families<U>, E> {
        Ok(match self {
            Self::V4(v4) => Families::V4(f(v4)?),
            Self::V6(v6) => Families::V6(f(v6)?),
            Self::Dual { v4, v6 } => Families::Dual { v4: f(v4)?, v6: f(v6)? },
        })
    }

    /// The values whose family is also in `other`; `None` when there is none.
    pub fn only<U>(self, other: &Families<U>) -> Option<Self> {
        match self {
            Self::Dual { v4, v6 } => Self::from_options(other.v4().map(|_| v4), other.v6().map(|_| v6)),
            Self::V4(_) => other.v4().map(|_| self),
            Self::V6(_) => other.v6().map(|_| self),
        }
    }

    /// The same families with references to the values.
    pub fn as_ref(&self) -> Families<&T> {
        match self {
            Self::V4(v4) => Families::V4(v4),
            Self::V6(v6) => Families::V6(v6),
            Self::Dual { v4, v6 } => Families::Dual { v4, v6 },
        }
    }

    /// The families as in `spec.protocol` of a Subnet: `IPv4`, `IPv6` or `Dual`.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::V4(_) => "IPv4",
            Self::V6(_) => "IPv6",
            Self::Dual { .. } => "Dual",
        }
    }
}

/// A value of one address family that can be part of a list separated by commas.
pub trait FamilyMember: Sized + fmt::Display {
    /// The name of a list of such values in error messages.
    const LIST: &'static str;
    /// The family of the value.
    fn family(&self) -> Family;
    /// Parses one value.
    fn parse_one(text: &str) -> Result<Self, ValueError>;
}

impl FamilyMember for IpAddr {
    const LIST: &'static str = "a list of addresses";

    fn family(&self) -> Family {
        Family::of(*self)
    }

    fn parse_one(text: &str) -> Result<Self, ValueError> {
        parse_address(text)
    }
}

impl FamilyMember for Cidr {
    const LIST: &'static str = "a list of CIDRs";

    fn family(&self) -> Family {
        Cidr::family(self)
    }

    fn parse_one(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl<T: FamilyMember> FromStr for Families<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (mut v4, mut v6) = (None, None);
        for part in text.split(',') {
            let value = T::parse_one(part)?;
            let family = value.family();
            let slot = if family == Family::V4 { &mut v4 } else { &mut v6 };
            if slot.replace(value).is_some() {
                return Err(ValueError::new(
                    text,
                    T::LIST,
                    format_args!("two of {family}; one of each family at most"),
                ));
            }
        }
        Families::from_options(v4, v6).ok_or_else(|| ValueError::new(text, T::LIST, "it is empty"))
    }
}

impl<T: fmt::Display> fmt::Display for Families<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(one) | Self::V6(one) => one.fmt(f),
            Self::Dual { v4, v6 } => write!(f, "{v4},{v6}"),
        }
    }
}

impl<T: fmt::Display> Serialize for Families<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FamilyMember> Deserialize<'de> for Families<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
