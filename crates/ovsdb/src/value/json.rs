//! The JSON of RFC 7047 section 5.1: `"x"`, `["uuid", "…"]`, `["set", [..]]`, `["map", [[k, v], ..]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};
use uuid::Uuid;

use super::{Atom, Datum};

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Atom::Int(number) => to.serialize_i64(*number),
            Atom::Real(number) => to.serialize_f64(number.get()),
            Atom::Bool(value) => to.serialize_bool(*value),
            Atom::Str(text) => to.serialize_str(text),
            Atom::Uuid(uuid) => ("uuid", uuid).serialize(to),
        }
    }
}

impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if let Some(atom) = self.as_atom() {
            return atom.serialize(to);
        }
        match self {
            Datum::Set(set) => ("set", set).serialize(to),
            Datum::Map(map) => {
                let mut seq = to.serialize_seq(Some(2))?;
                seq.serialize_element("map")?;
                seq.serialize_element(&map.iter().collect::<Vec<(&Atom, &Atom)>>())?;
                seq.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Atom, D::Error> {
        from.deserialize_any(AtomVisitor)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Datum, D::Error> {
        from.deserialize_any(DatumVisitor)
    }
}

/// The scalars are the same for an atom and for a set of one.
macro_rules! visit_scalars {
    () => {
        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Atom::Bool(value).into())
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Atom::Int(number).into())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            i64::try_from(number)
                .map(|number| Atom::Int(number).into())
                .map_err(|_| E::custom(format_args!("{number} is beyond a 64-bit signed integer")))
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            Ok(Atom::from(number).into())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Atom::from(text).into())
        }
    };
}

struct AtomVisitor;

impl<'de> Visitor<'de> for AtomVisitor {
    type Value = Atom;

    visit_scalars!();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB atom")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Atom, A::Error> {
        match seq.next_element()? {
            Some(Tag::Uuid) => second::<Uuid, A>(seq).map(Atom::Uuid),
            _ => Err(A::Error::custom("expected [\"uuid\", ..] as an atom")),
        }
    }
}

struct DatumVisitor;

impl<'de> Visitor<'de> for DatumVisitor {
    type Value = Datum;

    visit_scalars!();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB atom, set or map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Datum, A::Error> {
        match seq.next_element()? {
            Some(Tag::Uuid) => second::<Uuid, A>(seq).map(Datum::from),
            Some(Tag::Set) => second::<BTreeSet<Atom>, A>(seq).map(Datum::Set),
            Some(Tag::Map) => {
                let pairs = second::<Vec<(Atom, Atom)>, A>(seq)?;
                Ok(Datum::Map(pairs.into_iter().collect::<BTreeMap<_, _>>()))
            }
            None => Err(A::Error::custom("expected \"uuid\", \"set\" or \"map\" in an array")),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tag {
    Uuid,
    Set,
    Map,
}

/// The second and last element of a tagged pair.
fn second<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut seq: A) -> Result<T, A::Error> {
    let Some(value) = seq.next_element()? else {
        return Err(A::Error::custom("a tagged value has two elements"));
    };
    if seq.next_element::<IgnoredAny>()?.is_some() {
        return Err(A::Error::custom("a tagged value has two elements"));
    }
    Ok(value)
}
