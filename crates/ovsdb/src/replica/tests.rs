//! Tests the replica against a model: the updates between any two states produce the same rows in both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::*;
use crate::{Datum, Schema};

const SCHEMA: &str = include_str!("../../tests/shop.ovsschema");

fn replica() -> Replica {
    let key = |row: &Row| row["note"].as_str().map(str::to_owned);
    let columns = &["name", "tags", "labels", "count", "open", "weight", "note"];
    let mut replica = Replica::new([Table { name: "Shelf", columns, key: Some(key) }]);
    assert!(replica.adopt(&Schema::from_json(SCHEMA.as_bytes()).unwrap()));
    replica
}

fn raw(json: &Value) -> Box<RawValue> {
    to_raw_value(json).unwrap()
}

fn decode(replica: &Replica, json: &Value) -> Result<Updates, serde_json::Error> {
    Updates::decode(&replica.tables().collect::<Vec<_>>(), &raw(json))
}

fn apply(replica: &mut Replica, json: &Value) -> Result<BTreeSet<RowId>, UpdateError> {
    let updates = decode(replica, json).unwrap();
    replica.apply(updates)
}

const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";

fn a() -> Uuid {
    A.parse().unwrap()
}

#[test]
fn absent_columns_are_at_their_defaults() {
    let mut replica = replica();
    apply(&mut replica, &json!({"Shelf": {A: {"initial": {"name": "a", "colour": "red"}}}, "Attic": {"?": 7}}))
        .unwrap();
    let row = Row::from([
        ("name", "a".into()),
        ("tags", Datum::empty()),
        ("labels", Datum::empty_map()),
        ("count", 0.into()),
        ("open", Datum::empty()),
        ("weight", 0.into()),
        ("note", Datum::empty()),
    ]);
    assert_eq!(replica.get("Shelf", a()), Some(&row));
}

#[test]
fn the_index_follows_the_rows() {
    let mut replica = replica();
    let note = |note: Value| json!({"Shelf": {A: {"modify": {"note": note}}}});
    let found = |replica: &Replica, note: &str| replica.find("Shelf", note).count();
    apply(&mut replica, &json!({"Shelf": {A: {"insert": {"note": "x"}}}})).unwrap();
    assert_eq!((found(&replica, "x"), found(&replica, "y")), (1, 0));
    apply(&mut replica, &note(json!("y"))).unwrap();
    assert_eq!((found(&replica, "x"), found(&replica, "y")), (0, 1));
    apply(&mut replica, &note(json!(["set", []]))).unwrap();
    assert_eq!(found(&replica, "y"), 0);
    apply(&mut replica, &note(json!("z"))).unwrap();
    apply(&mut replica, &json!({"Shelf": {A: {"delete": null}}})).unwrap();
    assert_eq!((found(&replica, "z"), replica.len("Shelf")), (0, 0));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let mut replica = replica();
    apply(&mut replica, &json!({"Shelf": {A: {"insert": {"name": "a"}}}})).unwrap();
    let b = "bbbbbbbb-0000-4000-8000-000000000000";
    let before = replica.get("Shelf", a()).cloned();
    for (update, error) in [
        (
            json!({"Shelf": {A: {"delete": null}, b: {"modify": {"count": 1}}}}),
            format!("update of Shelf {b}: no such row in the replica"),
        ),
        (
            json!({"Shelf": {A: {"modify": {"tags": ["map", []]}}}}),
            format!("update of Shelf {A}: column tags changes between set and map"),
        ),
    ] {
        assert_eq!(apply(&mut replica, &update).unwrap_err().to_string(), error);
        assert_eq!(replica.get("Shelf", a()).cloned(), before);
    }
}

#[test]
fn unreadable_updates_are_errors() {
    for json in [
        json!(null),
        json!([]),
        json!({"Shelf": []}),
        json!({"Shelf": {"a": {"insert": {}}}}),
        json!({"Shelf": {A: {}}}),
        json!({"Shelf": {A: {"replace": {}}}}),
        json!({"Shelf": {A: {"insert": null}}}),
        json!({"Shelf": {A: {"insert": {"name": null}}}}),
        json!({"Shelf": {A: {"insert": {}, "delete": null}}}),
    ] {
        assert!(decode(&replica(), &json).is_err(), "{json}");
    }
}

#[test]
fn a_snapshot_says_what_differs() {
    let mut old = replica();
    let (b, c) = ("bbbbbbbb-0000-4000-8000-000000000000", "cccccccc-0000-4000-8000-000000000000");
    let rows =
        json!({"Shelf": {A: {"initial": {"name": "a"}}, b: {"initial": {"name": "b"}}, c: {"initial": {"name": "c"}}}});
    apply(&mut old, &rows).unwrap();
    let snapshot = json!({"Shelf": {A: {"initial": {"name": "a"}}, b: {"initial": {"name": "B"}}}});
    let (new, changed) = old.snapshot(decode(&old, &snapshot).unwrap()).unwrap();
    assert_eq!(changed, BTreeSet::from([("Shelf", b.parse().unwrap()), ("Shelf", c.parse().unwrap())]));
    assert_eq!(new.len("Shelf"), 2);
}

#[test]
fn a_schema_that_lacks_columns_leaves_them_out() {
    let mut replica = replica();
    assert!(!replica.adopt(&Schema::from_json(SCHEMA.as_bytes()).unwrap()), "the same schema again");
    assert_eq!(replica.lacking().next(), None);
    let schema =
        br#"{"name": "Shop", "version": "0.9.0", "tables": {"Shelf": {"columns": {"name": {"type": "string"}}}}}"#;
    assert!(replica.adopt(&Schema::from_json(schema).unwrap()));
    assert_eq!(replica.columns("Shelf").collect::<Vec<_>>(), ["name"]);
    let lacking: Vec<_> = replica.lacking().filter(|(table, _)| *table == "Shelf").map(|(_, column)| column).collect();
    assert!(lacking.contains(&"tags") && !lacking.contains(&"name"), "{lacking:?}");
    assert_eq!(replica.version(), "0.9.0");
    let snapshot = Updates::decode(&replica.tables().collect::<Vec<_>>(), &to_raw_value(&json!({})).unwrap()).unwrap();
    assert_eq!(replica.snapshot(snapshot).unwrap().0.version(), "0.9.0", "it goes on to a new snapshot");
    assert!(Schema::from_json(br#"{"tables": 7}"#).is_err());
}

type Model = BTreeMap<Uuid, Row>;

fn row() -> impl Strategy<Value = Row> {
    let word = || "[a-c]";
    let optional = |word| prop::collection::btree_set(word, 0..2);
    (
        word(),
        prop::collection::btree_set(word(), 0..4),
        prop::collection::btree_map(word(), word(), 0..4),
        0_i64..3,
        optional(word()),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|(name, tags, labels, count, note, open)| {
            Row::from([
                ("name", name.into()),
                ("tags", Datum::set(tags)),
                ("labels", Datum::map(labels)),
                ("count", count.into()),
                ("open", Datum::set(open)),
                ("weight", 0.into()),
                ("note", Datum::set(note)),
            ])
        })
}

fn model() -> impl Strategy<Value = Model> {
    prop::collection::btree_map((0_u128..6).prop_map(Uuid::from_u128), row(), 0..6)
}

/// Returns the update that the server sends when the rows change from `old` to `new` (ovsdb-server(7), section 4.1.14).
fn update3(old: &Model, new: &Model) -> Value {
    let defaults: Row =
        replica().table("Shelf").unwrap().columns.iter().map(|(n, c)| (*n, c.default.clone())).collect();
    let mut rows = Map::new();
    for uuid in old.keys().filter(|uuid| !new.contains_key(uuid)) {
        rows.insert(uuid.to_string(), json!({"delete": null}));
    }
    for (uuid, row) in new {
        let update = match old.get(uuid) {
            None => {
                let given = row.iter().filter(|(column, value)| defaults[*column] != *value);
                json!({"insert": given.map(|(c, v)| ((*c).to_owned(), json!(v))).collect::<Map<_, _>>()})
            }
            Some(old) if old == row => continue,
            Some(old) => {
                let changed = row.iter().filter(|(column, value)| old[*column] != *value);
                json!({"modify": changed.map(|(c, v)| ((*c).to_owned(), json!(difference(&old[c], v, c)))).collect::<Map<_, _>>()})
            }
        };
        rows.insert(uuid.to_string(), update);
    }
    json!({"Shelf": rows})
}

fn difference(old: &Datum, new: &Datum, column: &str) -> Datum {
    match column {
        "tags" => {
            let (gone, came) = (old.atoms().filter(|atom| !new.contains(atom)), new.atoms());
            Datum::set(gone.chain(came.filter(|atom| !old.contains(atom))).cloned())
        }
        "labels" => {
            let gone = old.pairs().filter(|(key, _)| !new.contains(key));
            let came = new.pairs().filter(|(key, value)| old.value(key) != Some(value));
            Datum::map(gone.chain(came).map(|(k, v)| (k.clone(), v.clone())))
        }
        _ => new.clone(),
    }
}

proptest! {
    #[test]
    fn differences_bring_the_copy_to_the_model(states in prop::collection::vec(model(), 1..6)) {
        let mut replica = replica();
        let mut old = Model::new();
        for new in states {
            let touched = apply(&mut replica, &update3(&old, &new)).unwrap();
            let ids = old.keys().chain(new.keys());
            let differs: BTreeSet<_> = ids.filter(|id| old.get(id) != new.get(id)).map(|id| ("Shelf", *id)).collect();
            prop_assert_eq!(&touched, &differs);
            prop_assert_eq!(&replica.rows("Shelf").map(|(id, row)| (id, row.clone())).collect::<Model>(), &new);
            for note in ["a", "b", "c"] {
                let expected: Vec<_> =
                    new.iter().filter(|(_, row)| row["note"].as_str() == Some(note)).map(|(id, _)| *id).collect();
                prop_assert_eq!(replica.find("Shelf", note).collect::<Vec<_>>(), expected);
            }

            // A snapshot of the same rows changes nothing. A snapshot of the old rows changes the same rows back.
            let whole = decode(&replica, &update3(&Model::new(), &new)).unwrap();
            prop_assert_eq!(replica.snapshot(whole).unwrap().1, BTreeSet::new());
            let before = decode(&replica, &update3(&Model::new(), &old)).unwrap();
            prop_assert_eq!(replica.snapshot(before).unwrap().1, differs);
            old = new;
        }
    }

    #[test]
    fn no_json_makes_the_decoder_panic(text in r#"(\{"Shelf":\{"00000000-0000-0000-0000-000000000000":\{"(insert|modify)":\{"tags":)?[\[\]{}",:a-z0-9]{0,30}"#) {
        if let Ok(json) = RawValue::from_string(text) {
            let _ = Updates::decode(&replica().tables().collect::<Vec<_>>(), &json);
        }
    }
}
