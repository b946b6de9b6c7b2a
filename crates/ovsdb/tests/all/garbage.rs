//! Feeds invalid JSON to the decoders. The result must be an error or a value. `make fuzz` runs the same for longer.

use ovsdb::{Datum, Replica, Row, Schema, Table, Updates, Uuid};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::SCHEMA;

const SHELF: Table = Table {
    name: "Shelf",
    columns: &["name", "tags", "labels", "count", "open", "weight"],
    key: Some(|row| row.get("name")?.as_str().map(str::to_owned)),
};
const A: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000000";

/// Strings with a special meaning to the decoders, UUIDs included.
fn word() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "uuid", "set", "map", "Shelf", "initial", "insert", "modify", "delete", "name", "tags", "labels", "count",
        "open", "weight", "tables", "columns", "type", "key", "value", "min", "max", "string", "integer", A, B,
    ];
    prop_oneof![4 => select(KNOWN).prop_map(str::to_owned), 1 => ".{0,8}"]
}

/// Arbitrary JSON with a bias towards what the decoders expect.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            (word(), inner.clone()).prop_map(|(tag, inner)| json!([tag, inner])),
            prop::collection::vec((word(), inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Returns a replica with one row.
fn shop() -> Replica {
    let mut replica = Replica::new([SHELF]);
    assert!(replica.adopt(&Schema::from_json(SCHEMA.as_bytes()).unwrap()));
    let row = json!({ "name": "a", "tags": ["set", ["x", "y"]], "labels": ["map", [["k", "v"]]] });
    let rows = json!({ "Shelf": { A: { "initial": row } } }).to_string();
    replica.apply(decode(&rows).unwrap()).unwrap();
    replica
}

fn decode(json: &str) -> Option<Updates> {
    Updates::decode(&[SHELF], serde_json::from_str::<&RawValue>(json).ok()?).ok()
}

fn rows(replica: &Replica) -> Vec<(Uuid, Row)> {
    let mut rows: Vec<_> = replica.rows("Shelf").map(|(id, row)| (id, row.clone())).collect();
    rows.sort_by_key(|(id, _)| *id);
    rows
}

/// Applies what parses. Expects that all of it or nothing is applied and that the index matches the rows.
fn apply(json: &str) {
    let Some(updates) = decode(json) else { return };
    let mut replica = shop();
    let before = rows(&replica);
    if replica.apply(updates.clone()).is_err() {
        assert_eq!(rows(&replica), before, "{json}");
    }
    let _ = replica.snapshot(updates);
    for (id, row) in replica.rows("Shelf") {
        if let Some(name) = row["name"].as_str() {
            assert!(replica.find("Shelf", name).any(|found| found == id), "{json}");
        }
    }
    assert_eq!(
        replica.find("Shelf", "a").count(),
        replica.rows("Shelf").filter(|(_, r)| r["name"].as_str() == Some("a")).count()
    );
}

proptest! {
    #[test]
    fn any_json_is_a_value_or_an_error(json in anything()) {
        let json = json.to_string();
        if let Ok(value) = serde_json::from_str::<Datum>(&json) {
            let written = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Datum>(&written).unwrap(), value);
        }
        let _ = Schema::from_json(json.as_bytes());
        apply(&json);
    }

    #[test]
    fn any_columns_are_applied_wholly_or_not_at_all(
        rows in prop::collection::vec((select(&[A, B][..]), select(&["insert", "modify", "delete"][..]), word(), anything()), 1..4),
    ) {
        let rows = rows.into_iter().map(|(id, kind, column, value)| (id.to_owned(), json!({ kind: { column: value } })));
        apply(&json!({ "Shelf": Value::Object(rows.collect()) }).to_string());
    }

    #[test]
    fn a_message_that_was_damaged_is_read_or_refused(at in any::<prop::sample::Index>(), to in any::<u8>(), length in 0_usize..4) {
        let row = json!({ "name": "b\"{\\", "tags": ["set", ["x"]], "labels": ["map", [["k", "v"], ["l", ""]]], "weight": 1.5 });
        let update = json!({ "Shelf": { B: { "insert": row }, A: { "modify": { "tags": ["set", ["x", "z"]] } } } });
        let mut bytes = update.to_string().into_bytes();
        let start = at.index(bytes.len());
        let end = bytes.len().min(start + length);
        bytes.splice(start..end, [to]);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            apply(text);
        }
        let mut schema = SCHEMA.as_bytes().to_vec();
        let at = at.index(schema.len());
        schema[at] = to;
        let _ = Schema::from_json(&schema);
    }
}

#[test]
fn however_deep_it_is_nested_the_stack_suffices() {
    for open in [
        "[",
        "{\"Shelf\":",
        "[\"set\",[",
        "[\"map\",[[\"k\",",
        "{\"tables\":{\"a\":{\"columns\":{\"b\":{\"type\":{\"key\":",
    ] {
        let deep = open.repeat(100_000);
        assert!(serde_json::from_str::<Datum>(&deep).is_err());
        assert!(Schema::from_json(deep.as_bytes()).is_err());
        assert!(decode(&deep).is_none());
        // Unmonitored tables are skipped, whatever they contain.
        let unread = format!(r#"{{"Good":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(decode(&unread).is_some_and(|updates| updates.is_empty()));
    }
}
