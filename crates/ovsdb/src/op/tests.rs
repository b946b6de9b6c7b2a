//! The JSON of each operation.

use expect_test::{Expect, expect};

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "reads better in a table of snapshots")]
fn check(op: Op, expected: Expect) {
    expected.assert_eq(&op.to_json().to_string());
}

#[test]
fn operations_have_the_json_of_the_rfc() {
    let uuid: Uuid = "6d1d2a60-9a0f-4e3f-8e1c-0f3a54d4f0aa".parse().unwrap();
    let row = || Row::from([("name", "a".into()), ("tags", Datum::set(["x", "y"]))]);
    check(
        Op::Insert { table: "Shelf", uuid: Some(uuid), row: row() },
        expect![[
            r#"{"op":"insert","row":{"name":"a","tags":["set",["x","y"]]},"table":"Shelf","uuid":"6d1d2a60-9a0f-4e3f-8e1c-0f3a54d4f0aa"}"#
        ]],
    );
    check(
        Op::Insert { table: "Shelf", uuid: None, row: Row::new() },
        expect![[r#"{"op":"insert","row":{},"table":"Shelf"}"#]],
    );
    check(
        Op::Update { table: "Shelf", on: Where::Row(uuid), row: row() },
        expect![[
            r#"{"op":"update","row":{"name":"a","tags":["set",["x","y"]]},"table":"Shelf","where":[["_uuid","==",["uuid","6d1d2a60-9a0f-4e3f-8e1c-0f3a54d4f0aa"]]]}"#
        ]],
    );
    let mutations = vec![
        Mutation { column: "tags", mutator: Mutator::Insert, value: "z".into() },
        Mutation { column: "labels", mutator: Mutator::Delete, value: Datum::set(["k"]) },
        Mutation { column: "count", mutator: Mutator::Add, value: 1.into() },
    ];
    check(
        Op::Mutate { table: "Shelf", on: Where::All, mutations },
        expect![[
            r#"{"mutations":[["tags","insert","z"],["labels","delete","k"],["count","+=",1]],"op":"mutate","table":"Shelf","where":[]}"#
        ]],
    );
    let on = Where::Conditions(vec![
        Condition { column: "name", function: Function::Equal, value: "a".into() },
        Condition { column: "tags", function: Function::Includes, value: Datum::set(["x", "y"]) },
    ]);
    check(
        Op::Delete { table: "Shelf", on: on.clone() },
        expect![[
            r#"{"op":"delete","table":"Shelf","where":[["name","==","a"],["tags","includes",["set",["x","y"]]]]}"#
        ]],
    );
    let rows = vec![Row::from([("labels", Datum::map([("epoch", "4")]))]), Row::from([("labels", Datum::empty_map())])];
    check(
        Op::Wait { table: "Shelf", on, columns: vec!["labels"], until: Until::Equal, rows, timeout_ms: Some(0) },
        expect![[
            r#"{"columns":["labels"],"op":"wait","rows":[{"labels":["map",[["epoch","4"]]]},{"labels":["map",[]]}],"table":"Shelf","timeout":0,"until":"==","where":[["name","==","a"],["tags","includes",["set",["x","y"]]]]}"#
        ]],
    );
    check(
        Op::Select { table: "Shelf", on: Where::All, columns: vec!["_uuid", "name"] },
        expect![[r#"{"columns":["_uuid","name"],"op":"select","table":"Shelf","where":[]}"#]],
    );
    check(Op::Comment("hello".into()), expect![[r#"{"comment":"hello","op":"comment"}"#]]);
    check(Op::Abort, expect![[r#"{"op":"abort"}"#]]);
}
