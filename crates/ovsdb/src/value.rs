//! OVSDB values: [`Atom`] and [`Datum`]. They have a total order, so rows can be compared, hashed and sorted.
//!
//! Every value has exactly one representation. A scalar is a set of one element, an absent optional value is the empty
//! set, and a number without a fraction is always [`Atom::Int`].

mod atom;
mod datum;
mod json;
mod words;

pub use atom::{Atom, Real};
pub use datum::Datum;
