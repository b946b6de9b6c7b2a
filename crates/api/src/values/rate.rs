//! A data rate.

use std::{fmt, str::FromStr};

use super::ValueError;

const MBIT: u64 = 1_000_000;

/// A rate in bits per second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Parses a whole number of Mbit/s (10^6 bits), as in `ovn.kubernetes.io/ingress_rate`. `"0"` means no limit and gives
    /// `None`.
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

    /// The rate in bits per second.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The rate in kbit/s, rounded up: the unit of OVN's quality of service rows.
    pub fn kbits(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

/// Parses a Kubernetes quantity of bits per second, in all forms of `resource.Quantity`: `10M`, `1.5G`, `1Gi`, `1e6`.
///
/// A fraction of a bit is rounded up. The largest rate is [`u64::MAX`] bits per second; a larger value gives that rate.
impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = |why: &str| ValueError::new(text, "a bandwidth", why);
        let trimmed = text.trim();
        let (negative, unsigned) = match trimmed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(error("it is not a decimal number with a unit, as in 10M"));
        }
        let (exponent, factor) = scale(unit).ok_or_else(|| {
            error("the unit is none of n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, and no exponent as in 1e6")
        })?;
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
        if digits.iter().all(|digit| *digit == 0) {
            return Err(error("it is zero"));
        }
        if negative {
            return Err(error("it is negative"));
        }
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent);
        Ok(Self(rounded_up(&digits, point, factor)))
    }
}

/// The scale of a unit: the exponent of a power of ten, and a factor.
fn scale(unit: &str) -> Option<(i64, u64)> {
    Some(match unit {
        "n" => (-9, 1),
        "u" => (-6, 1),
        "m" => (-3, 1),
        "" => (0, 1),
        "k" => (3, 1),
        "M" => (6, 1),
        "G" => (9, 1),
        "T" => (12, 1),
        "P" => (15, 1),
        "E" => (18, 1),
        "Ki" => (0, 1 << 10),
        "Mi" => (0, 1 << 20),
        "Gi" => (0, 1 << 30),
        "Ti" => (0, 1 << 40),
        "Pi" => (0, 1 << 50),
        "Ei" => (0, 1 << 60),
        _ => (exponent(unit)?, 1),
    })
}

/// The exponent in `e6`, `E+6` or `e-1`. One that does not fit gives the largest or the smallest number.
fn exponent(unit: &str) -> Option<i64> {
    let signed = unit.strip_prefix(['e', 'E'])?;
    let digits = signed.strip_prefix(['+', '-']).unwrap_or(signed);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let limit = if signed.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(signed.parse().unwrap_or(limit))
}

/// The product of a decimal number and `factor`, rounded up, at most `u64::MAX`. The decimal point comes after the first
/// `point` of the digits; it can be before the first digit or after the last one.
fn rounded_up(digits: &[u8], point: i64, factor: u64) -> u64 {
    let factor = u128::from(factor);
    let split = usize::try_from(point).unwrap_or(0).min(digits.len());
    let (whole, fraction) = digits.split_at(split);

    // The whole part, with zeros between its last digit and a later decimal point. After 20 zeros it is too large.
    let zeros = point.saturating_sub_unsigned(whole.len() as u64).clamp(0, 20);
    let zeros = std::iter::repeat_n(&0, usize::try_from(zeros).unwrap_or(0));
    let whole = whole.iter().chain(zeros);
    let whole = whole.fold(0_u128, |sum, digit| sum.saturating_mul(10).saturating_add(u128::from(*digit)));
    let mut product = whole.saturating_mul(factor);

    // The fraction is multiplied digit by digit, the last one first, so that the result is exact. Zeros follow between its
    // first digit and an earlier decimal point. After 40 zeros the carry is zero.
    let zeros = usize::try_from(point.saturating_neg().clamp(0, 40)).unwrap_or(0);
    let (mut carry, mut rest) = (0_u128, false);
    for digit in fraction.iter().rev().chain(std::iter::repeat_n(&0, zeros)) {
        carry += u128::from(*digit) * factor;
        rest |= carry % 10 != 0;
        carry /= 10;
    }
    product = product.saturating_add(carry).saturating_add(u128::from(rest));
    u64::try_from(product).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests;
