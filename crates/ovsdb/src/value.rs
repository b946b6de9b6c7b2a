//! OVSDB values: [`Atom`] and [`Datum`], with a total order, so that rows can be compared, hashed and sorted.
//!
//! A value is in one form only: a scalar is a set of one, an absent optional is the empty set,
//! and a number without a fraction is always [`Atom::Int`].

mod atom;
mod datum;
mod json;
mod words;

pub use atom::{Atom, Real};
pub use datum::Datum;
