//! A range of addresses, as in `excludeIps`.

use std::{fmt, fmt::Write as _, net::IpAddr, str::FromStr};

use super::{Cidr, Family, ValueError, as_string, parse_address, to_bits};

const WHAT: &str = "an address range";

/// All addresses from `start` to `end`, both included, which are of one family. The text form is `a..b`, or `a` for a
/// single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    start: IpAddr,
    end: IpAddr,
}

impl IpRange {
    /// The range from `start` to `end`, both included.
    pub fn new(start: IpAddr, end: IpAddr) -> Result<Self, ValueError> {
        let error = |why: &str| ValueError::new(&format!("{start}..{end}"), WHAT, why);
        if Family::of(start) != Family::of(end) {
            return Err(error("its ends are of different families"));
        }
        if start > end {
            return Err(error("it ends before it starts"));
        }
        Ok(Self { start, end })
    }

    /// The first address.
    pub fn start(&self) -> IpAddr {
        self.start
    }

    /// The last address.
    pub fn end(&self) -> IpAddr {
        self.end
    }

    /// The family of the addresses.
    pub fn family(&self) -> Family {
        Family::of(self.start)
    }

    /// The number of addresses; `u128::MAX` for the whole of IPv6, which has one more.
    #[allow(clippy::len_without_is_empty)] // a range is never empty
    pub fn len(&self) -> u128 {
        (to_bits(self.end) - to_bits(self.start)).saturating_add(1)
    }

    /// Whether `address` is inside the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.start <= address && address <= self.end
    }

    /// Whether the whole range is inside `cidr`.
    pub fn within(&self, cidr: &Cidr) -> bool {
        cidr.contains(self.start) && cidr.contains(self.end)
    }
}

impl From<IpAddr> for IpRange {
    fn from(address: IpAddr) -> Self {
        Self { start: address, end: address }
    }
}

/// The range from the first to the last address of the network.
impl From<Cidr> for IpRange {
    fn from(cidr: Cidr) -> Self {
        Self { start: cidr.network(), end: cidr.last() }
    }
}

impl FromStr for IpRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let address = |part: &str| parse_address(part).map_err(|e| ValueError::new(text, WHAT, e));
        match text.split_once("..") {
            None => address(text).map(Self::from),
            Some((start, end)) => {
                Self::new(address(start)?, address(end)?).map_err(|e| ValueError::new(text, WHAT, e.why))
            }
        }
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end { self.start.fmt(f) } else { write!(f, "{}..{}", self.start, self.end) }
    }
}

as_string!(IpRange);

/// How many ranges a status shows: with every second address of a large subnet in use it would grow beyond what the API
/// server stores.
const SHOWN: usize = 100;

/// The ranges as text, as in a Subnet's status: `10.16.0.2,10.16.0.5-10.16.0.9`. Of more than 100 ranges the first are
/// given, and how many more there are.
pub fn print_ranges(ranges: &[IpRange]) -> String {
    let mut text = String::new();
    for range in ranges.iter().take(SHOWN) {
        let comma = if text.is_empty() { "" } else { "," };
        let IpRange { start, end } = range;
        // Writing to a String cannot fail.
        let _ = if start == end { write!(text, "{comma}{start}") } else { write!(text, "{comma}{start}-{end}") };
    }
    if let Some(more) = ranges.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(text, ",and {more} more");
    }
    text
}
