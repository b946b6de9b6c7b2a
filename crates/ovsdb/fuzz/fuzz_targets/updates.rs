//! Fuzzes a sequence of updates: the replica applies an update completely or not at all, and its index matches its
//! rows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::{Replica, Row, Schema, Table, Updates, Uuid};
use serde_json::value::RawValue;

const SCHEMA: &[u8] = include_bytes!("../../tests/shop.ovsschema");

const TABLES: [Table; 2] = [
    Table { name: "Shelf", columns: &["name", "goods", "tags", "labels", "count", "open", "weight", "note"], key },
    Table { name: "Good", columns: &["name", "price"], key },
];

#[allow(non_upper_case_globals, reason = "the field's name")]
const key: Option<fn(&Row) -> Option<String>> = Some(|row| row.get("name")?.as_str().map(str::to_owned));

fn rows(replica: &Replica) -> Vec<(&'static str, Uuid, Row)> {
    let rows = |table: Table| replica.rows(table.name).map(move |(id, row)| (table.name, id, row.clone()));
    let mut rows: Vec<_> = TABLES.into_iter().flat_map(rows).collect();
    rows.sort_by_key(|(table, id, _)| (*table, *id));
    rows
}

fn check(replica: &Replica) {
    for table in TABLES {
        for (id, row) in replica.rows(table.name) {
            if let Some(name) = row["name"].as_str() {
                assert!(replica.find(table.name, name).any(|found| found == id));
                let same = |found| replica.get(table.name, found).and_then(|row| row["name"].as_str());
                assert!(replica.find(table.name, name).all(|found| same(found) == Some(name)));
            }
        }
    }
}

// Each line is one update. The first line is a snapshot.
fuzz_target!(|stream: &str| {
    let mut replica = Replica::new(TABLES);
    assert!(replica.adopt(&Schema::from_json(SCHEMA).unwrap()));
    for (at, line) in stream.lines().enumerate() {
        let Ok(json) = serde_json::from_str::<&RawValue>(line) else { continue };
        let Ok(updates) = Updates::decode(&TABLES, json) else { continue };
        if at == 0 {
            if let Ok((fresh, changed)) = replica.snapshot(updates) {
                assert!(changed.len() >= rows(&fresh).len());
                replica = fresh;
            }
        } else {
            let before = rows(&replica);
            match replica.apply(updates) {
                Ok(changed) => {
                    let untouched = |rows: Vec<(&'static str, Uuid, Row)>| {
                        rows.into_iter().filter(|(table, id, _)| !changed.contains(&(*table, *id))).collect::<Vec<_>>()
                    };
                    assert_eq!(untouched(before), untouched(rows(&replica)));
                }
                Err(_) => assert_eq!(before, rows(&replica)),
            }
        }
        check(&replica);
    }
});
