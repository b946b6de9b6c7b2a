//! An Ethernet address of one interface.

use std::{fmt, str::FromStr};

use super::{ValueError, as_string};

const WHAT: &str = "a MAC address";

/// A unicast MAC address that is not all zero. It prints in lower case with colons, and parses from either case with colons
/// or dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address with these bytes, in the order of the text form.
    pub fn new(bytes: [u8; 6]) -> Result<Self, ValueError> {
        let error = |why: &str| ValueError::new(&Self(bytes).to_string(), WHAT, why);
        if bytes[0] & 1 == 1 {
            return Err(error("a multicast address"));
        }
        if bytes == [0; 6] {
            return Err(error("all zero"));
        }
        Ok(Self(bytes))
    }

    /// The bytes, in the order of the text form.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = |why: &str| ValueError::new(text, WHAT, why);
        let trimmed = text.trim();
        let separator = if trimmed.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = trimmed.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(|| error("fewer than six bytes"))?;
            // `from_str_radix` accepts a sign, so check the length and the digits first.
            *byte = Some(part)
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| error("each byte is two hexadecimal digits, as in 00:00:00:aa:bb:cc"))?;
        }
        if parts.next().is_some() {
            return Err(error("more than six bytes"));
        }
        Self::new(bytes).map_err(|e| error(&e.why))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

as_string!(Mac);
