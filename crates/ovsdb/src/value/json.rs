//! The JSON of RFC 7047 section 5.1: `"x"`, `["uuid", "…"]`, `["set", [..]]`, `["map", [[k, v], ..]]`.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

use super::{Atom, Datum, words};

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
        if self.is_map() {
            return ("map", Each(|| self.pairs())).serialize(to);
        }
        ("set", Each(|| self.atoms())).serialize(to)
    }
}

/// Serializes the items of an iterator as an array.
struct Each<F>(F);

impl<T: Serialize, I: Iterator<Item = T>, F: Fn() -> I> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq((self.0)())
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Atom, D::Error> {
        from.deserialize_any(AtomVisitor(|text| text.into()))
    }
}

/// An atom in a map. Its string is likely to occur in other maps too.
struct Word(Atom);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        from.deserialize_any(AtomVisitor(words::shared)).map(Word)
    }
}

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Datum, D::Error> {
        from.deserialize_any(DatumVisitor)
    }
}

/// Scalars are the same for an atom and for a set of one element.
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
    };
}

/// The function decides how the text of a string is stored.
struct AtomVisitor(fn(&str) -> Arc<str>);

impl<'de> Visitor<'de> for AtomVisitor {
    type Value = Atom;

    visit_scalars!();

    fn visit_str<E: Error>(self, text: &str) -> Result<Atom, E> {
        Ok(Atom::Str((self.0)(text)))
    }

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

    fn visit_str<E: Error>(self, text: &str) -> Result<Datum, E> {
        Ok(Datum::from(text))
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB atom, set or map")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Datum, A::Error> {
        match seq.next_element()? {
            Some(Tag::Uuid) => second::<Uuid, A>(seq).map(Datum::from),
            Some(Tag::Set) => second::<Vec<Atom>, A>(seq).map(Datum::set),
            Some(Tag::Map) => {
                let pairs = second::<Vec<(Word, Word)>, A>(seq)?;
                Ok(Datum::map(pairs.into_iter().map(|(Word(key), Word(value))| (key, value))))
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

/// Reads the second and last element of a tagged pair.
fn second<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(mut seq: A) -> Result<T, A::Error> {
    let Some(value) = seq.next_element()? else {
        return Err(A::Error::custom("a tagged value has two elements"));
    };
    if seq.next_element::<IgnoredAny>()?.is_some() {
        return Err(A::Error::custom("a tagged value has two elements"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_have_the_json_of_the_rfc() {
        let uuid: Uuid = "6d1d2a60-9a0f-4e3f-8e1c-0f3a54d4f0aa".parse().unwrap();
        for (value, json) in [
            (Datum::from("a\"b"), r#""a\"b""#),
            (Datum::from(7), "7"),
            (Datum::from(i64::MIN), "-9223372036854775808"),
            (Datum::from(1.5), "1.5"),
            (Datum::from(true), "true"),
            (Datum::from(uuid), r#"["uuid","6d1d2a60-9a0f-4e3f-8e1c-0f3a54d4f0aa"]"#),
            (Datum::empty(), r#"["set",[]]"#),
            (Datum::set(["b", "a"]), r#"["set",["a","b"]]"#),
            (Datum::empty_map(), r#"["map",[]]"#),
            (Datum::map([("k", "v"), ("j", "")]), r#"["map",[["j",""],["k","v"]]]"#),
            (Datum::map([(1, true)]), r#"["map",[[1,true]]]"#),
        ] {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<Datum>(json).unwrap(), value);
        }
    }

    #[test]
    fn one_value_has_one_form() {
        for (json, value) in [
            (r#"["set",["a"]]"#, Datum::from("a")),
            (r#"["set",["a","a"]]"#, Datum::from("a")),
            ("2.0", Datum::from(2)),
            ("1e3", Datum::from(1000)),
            ("-0.0", Datum::from(0)),
            (r#"["map",[["k","v"],["k","w"]]]"#, Datum::map([("k", "w")])),
        ] {
            assert_eq!(serde_json::from_str::<Datum>(json).unwrap(), value, "{json}");
        }
    }

    #[test]
    fn what_is_no_value_is_an_error() {
        for json in [
            "null",
            "{}",
            "[]",
            r#"["set"]"#,
            r#"["set","a"]"#,
            r#"["set",[],1]"#,
            r#"["bag",[]]"#,
            r#"["named-uuid","x"]"#,
            r#"["uuid","x"]"#,
            r#"["uuid",7]"#,
            r#"["map",[["k"]]]"#,
            r#"["map",[["k","v","w"]]]"#,
            r#"["set",[["set",[]]]]"#,
            "18446744073709551615",
        ] {
            assert!(serde_json::from_str::<Datum>(json).is_err(), "{json}");
        }
    }

    fn atom() -> impl Strategy<Value = Atom> {
        prop_oneof![
            any::<i64>().prop_map(Atom::from),
            (-1e18..1e18).prop_map(Atom::from),
            any::<bool>().prop_map(Atom::from),
            ".*".prop_map(Atom::from),
            any::<u128>().prop_map(|bits| Atom::from(Uuid::from_u128(bits))),
        ]
    }

    proptest! {
        #[test]
        fn every_value_comes_back(
            set in prop::collection::btree_set(atom(), 0..4),
            map in prop::collection::btree_map(atom(), atom(), 0..4),
        ) {
            for datum in [Datum::set(set), Datum::map(map)] {
                let json = serde_json::to_string(&datum).unwrap();
                prop_assert_eq!(serde_json::from_str::<Datum>(&json).unwrap(), datum);
            }
        }
    }
}
