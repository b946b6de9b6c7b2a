//! Tests `Datum` against a plain model of a value: a set or a map of the standard library.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use proptest::prelude::*;

use super::*;

/// The model of a datum. Models have the same order as data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Model {
    Set(BTreeSet<Atom>),
    Map(BTreeMap<Atom, Atom>),
}

impl Model {
    fn datum(&self) -> Datum {
        match self {
            Model::Set(set) => Datum::set(set.iter().cloned()),
            Model::Map(map) => Datum::map(map.clone()),
        }
    }
}

/// A small range of values of each kind, so that collisions occur.
fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        (0..3_i64).prop_map(Atom::from),
        (0..2_i64).prop_map(|number| Atom::from(f64::from(u8::try_from(number).unwrap()) + 0.5)),
        any::<bool>().prop_map(Atom::from),
        "[ab]{0,2}".prop_map(Atom::from),
        (0..3_u128).prop_map(|bits| Atom::from(Uuid::from_u128(bits))),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    prop_oneof![
        3 => prop::collection::btree_set(atom(), 0..5).prop_map(Model::Set),
        2 => prop::collection::btree_map(atom(), atom(), 0..5).prop_map(Model::Map),
    ]
}

fn hash(datum: &Datum) -> u64 {
    let mut hasher = DefaultHasher::new();
    datum.hash(&mut hasher);
    hasher.finish()
}

proptest! {
    #[test]
    fn it_says_what_the_model_says(model in model(), key in atom()) {
        let datum = model.datum();
        match &model {
            Model::Set(set) => {
                prop_assert_eq!(datum.atoms().collect::<Vec<_>>(), set.iter().collect::<Vec<_>>());
                prop_assert_eq!(datum.pairs().count(), 0);
                prop_assert_eq!(datum.as_atom(), if set.len() == 1 { set.first() } else { None });
                prop_assert_eq!((datum.len(), datum.contains(&key), datum.value(&key)), (set.len(), set.contains(&key), None));
            }
            Model::Map(map) => {
                prop_assert_eq!(datum.pairs().collect::<Vec<_>>(), map.iter().collect::<Vec<_>>());
                prop_assert_eq!(datum.atoms().count(), 0);
                prop_assert_eq!(datum.as_atom(), None);
                prop_assert_eq!((datum.len(), datum.contains(&key), datum.value(&key)), (map.len(), map.contains_key(&key), map.get(&key)));
                let text = key.as_str().unwrap_or("a");
                prop_assert_eq!(datum.get(text), map.get(&Atom::from(text)).and_then(Atom::as_str));
            }
        }
        prop_assert_eq!(datum.is_map(), matches!(model, Model::Map(_)));
    }

    #[test]
    fn order_and_equality_are_those_of_the_model(one in model(), other in model()) {
        prop_assert_eq!(one.datum().cmp(&other.datum()), one.cmp(&other));
        prop_assert_eq!(one.datum() == other.datum(), one == other);
        if one == other {
            prop_assert_eq!(hash(&one.datum()), hash(&other.datum()));
        }
    }

    #[test]
    fn how_it_was_made_makes_no_difference(elements in prop::collection::vec(atom(), 0..6), pairs in prop::collection::vec((atom(), atom()), 0..6)) {
        let set: BTreeSet<Atom> = elements.iter().cloned().collect();
        prop_assert_eq!(Datum::set(elements), Model::Set(set).datum());
        let map: BTreeMap<Atom, Atom> = pairs.iter().cloned().collect();
        prop_assert_eq!(Datum::map(pairs), Model::Map(map).datum());
    }

    #[test]
    fn a_difference_leads_from_old_to_new(
        (old, new) in (prop::collection::btree_set(atom(), 0..5), prop::collection::btree_set(atom(), 0..5)),
        (before, after) in (prop::collection::btree_map(atom(), atom(), 0..5), prop::collection::btree_map(atom(), atom(), 0..5)),
    ) {
        let mut set = Datum::set(old.clone());
        set.toggle(Datum::set(old.symmetric_difference(&new).cloned()));
        prop_assert_eq!(set, Datum::set(new));

        let gone = before.iter().filter(|(key, _)| !after.contains_key(key));
        let came = after.iter().filter(|(key, value)| before.get(key) != Some(value));
        let mut map = Datum::map(before.clone());
        map.toggle(Datum::map(gone.chain(came).map(|(key, value)| (key.clone(), value.clone()))));
        prop_assert_eq!(map, Datum::map(after));
    }
}

#[test]
fn it_is_no_larger_than_an_atom() {
    assert_eq!(size_of::<Datum>(), size_of::<Atom>());
}

#[test]
fn values_read_well() {
    for (datum, text) in [
        (Datum::empty(), "[]"),
        (Datum::from("a"), r#""a""#),
        (Datum::set(["b", "a"]), r#"["a", "b"]"#),
        (Datum::empty_map(), "{}"),
        (Datum::map([("l", 2), ("k", 1)]), r#"{"k"=1, "l"=2}"#),
    ] {
        assert_eq!((datum.to_string(), format!("{datum:?}")), (text.to_owned(), text.to_owned()));
    }
}
