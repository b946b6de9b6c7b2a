//! Formats values for people, similar to `ovn-nbctl list`.

use std::fmt::{self, Formatter, Write};

use ovsdb::{Atom, Datum};

use crate::table::Kind;

/// Formats the value of a column: scalars without delimiters, sets in brackets, maps in braces.
#[derive(Debug)]
pub struct Show<'a>(pub Kind, pub &'a Datum);

/// Returns true for the empty set, the empty map and the empty string.
pub fn is_empty(datum: &Datum) -> bool {
    datum.is_empty() || datum.as_str() == Some("")
}

/// Writes one value. A string is quoted unless it is a plain word.
pub fn atom(f: &mut Formatter<'_>, atom: &Atom) -> fmt::Result {
    match atom {
        Atom::Str(text) if is_word(text) => f.write_str(text),
        Atom::Str(text) => write!(f, "{text:?}"),
        Atom::Int(int) => write!(f, "{int}"),
        Atom::Bool(bool) => write!(f, "{bool}"),
        Atom::Uuid(uuid) => write!(f, "{uuid}"),
        Atom::Real(real) => write!(f, "{real:?}"),
    }
}

fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain) && text != "true" && text != "false"
}

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Show(kind, datum) = *self;
        match datum.as_atom() {
            Some(only) if kind == Kind::Scalar => atom(f, only),
            _ if datum.is_map() => {
                f.write_char('{')?;
                for (at, (key, value)) in datum.pairs().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    atom(f, key)?;
                    f.write_char('=')?;
                    atom(f, value)?;
                }
                f.write_char('}')
            }
            _ => {
                f.write_char('[')?;
                for (at, value) in datum.atoms().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    atom(f, value)?;
                }
                f.write_char(']')
            }
        }
    }
}
