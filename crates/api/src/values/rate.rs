//! A data rate.

use std::{fmt, str::FromStr};

use super::ValueError;

const MBIT: u64 = 1_000_000;

/// A rate in bits per second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// From whole Mbit/s (10^6 bits), as `ovn.kubernetes.io/ingress_rate` says it. `"0"` means no limit: `None`.
    pub fn parse_mbit(text: &str) -> Result<Option<Self>, ValueError> {
        const WHAT: &str = "a rate in Mbit/s";
        let trimmed = text.trim();
        let mbit: u64 = Some(trimmed)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| ValueError::new(text, WHAT, "not a whole number"))?;
        let bits = mbit.checked_mul(MBIT).ok_or_else(|| ValueError::new(text, WHAT, "too large"))?;
        Ok((bits > 0).then_some(Self(bits)))
    }

    /// Bits per second.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// kbit/s, rounded up, at least one: the unit of OVN's quality of service rows.
    pub fn kbits(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

/// A Kubernetes quantity of bits per second, as `kubernetes.io/ingress-bandwidth` says it: `10M`, `1.5G`, `500k`.
impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const WHAT: &str = "a bandwidth";
        let error = |why: &str| ValueError::new(text, WHAT, why);
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let unit: u64 = match unit {
            "" => 1,
            "k" => 1000,
            "M" => MBIT,
            "G" => 1000 * MBIT,
            "T" => 1_000_000 * MBIT,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return Err(error("the unit is none of k, M, G, T, Ki, Mi, Gi, Ti")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| -> Option<u128> { if part.is_empty() { Some(0) } else { part.parse().ok() } };
        let scale = u32::try_from(fraction.len()).ok().filter(|len| *len <= 9).and_then(|len| 10_u128.checked_pow(len));
        let bits = match (digits(whole), digits(fraction), scale) {
            (Some(whole), Some(fraction), Some(scale)) if !number.is_empty() && number != "." => whole
                .checked_mul(scale)
                .and_then(|scaled| scaled.checked_add(fraction))
                .and_then(|scaled| scaled.checked_mul(u128::from(unit)))
                .map(|scaled| scaled.div_ceil(scale))
                .and_then(|bits| u64::try_from(bits).ok()),
            _ => return Err(error("not a decimal number with a unit, as in 10M")),
        };
        match bits {
            Some(0) => Err(error("zero")),
            Some(bits) => Ok(Self(bits)),
            None => Err(error("too large")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % MBIT == 0 => write!(f, "{}M", bits / MBIT),
            bits if bits % 1000 == 0 => write!(f, "{}k", bits / 1000),
            bits => bits.fmt(f),
        }
    }
}
