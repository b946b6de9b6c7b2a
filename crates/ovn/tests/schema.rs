//! Checks that every declared table and column exists in the installed OVN and Open vSwitch schemas with the expected
//! type.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use ovn::{Kind, TableId};
use serde_json::Value;

fn schema(path: &Path, package: &str) -> Value {
    let text = std::fs::read(path)
        .unwrap_or_else(|e| panic!("{}: {e}; install it with: apt-get install {package}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Columns that the oldest tested schema lacks, with the first schema version that contains them.
const LATER: [(&str, &str, [u64; 3]); 1] = [("ACL", "tier", [7, 0, 1])];

fn version(schema: &Value) -> Vec<u64> {
    schema["version"].as_str().unwrap_or_default().split('.').filter_map(|part| part.parse().ok()).collect()
}

fn is_map(ty: &Value) -> bool {
    ty.get("value").is_some()
}

fn is_scalar(ty: &Value) -> bool {
    ty.is_string() || !is_map(ty) && ty.get("max").is_none_or(|max| max == 1)
}

#[test]
fn northbound_is_as_declared() {
    // To test with another version than the installed one, set the variable to the directory of its schema.
    let dir = std::env::var_os("OVN_SCHEMA_DIR").map_or_else(|| PathBuf::from("/usr/share/ovn"), PathBuf::from);
    let schema = schema(&dir.join("ovn-nb.ovsschema"), "ovn-central");
    let tables = ovn::northbound();
    for (id, monitored) in TableId::ALL.into_iter().zip(&tables) {
        let known = id.descriptor();
        assert_eq!((known.name, known.names), (monitored.name, monitored.columns));
        let table = &schema["tables"][known.name];
        assert!(table.is_object(), "no table {} in the schema", known.name);
        assert_eq!(table["isRoot"].as_bool().unwrap_or(false), known.root, "{} isRoot", known.name);
        for column in known.columns {
            let ty = &table["columns"][column.name]["type"];
            let later = LATER.iter().find(|(table, name, _)| (*table, *name) == (known.name, column.name));
            if later.is_some_and(|(.., since)| version(&schema) < since.to_vec()) {
                assert!(ty.is_null(), "{}.{} is there already", known.name, column.name);
                continue;
            }
            assert!(!ty.is_null(), "no column {}.{} in the schema", known.name, column.name);
            let right = match column.kind {
                Kind::Scalar => is_scalar(ty),
                Kind::Set | Kind::Values => !is_scalar(ty) && !is_map(ty) && ty["key"].get("refTable").is_none(),
                Kind::Map | Kind::Keys(_) => is_map(ty),
                Kind::References(link) => {
                    let strong = ty["key"]["refType"].as_str().unwrap_or("strong") == "strong";
                    let many = ty["max"] == "unlimited";
                    ty["key"]["refTable"] == link.to.name() && (strong, many) == (link.strong, link.many)
                }
            };
            assert!(right, "{}.{} is not a {:?}: {ty}", known.name, column.name, column.kind);
        }
    }
    assert_eq!(schema["tables"]["NB_Global"]["maxRows"], 1);
}

#[test]
fn what_is_only_read_is_there() {
    let schemas = [
        ("/usr/share/openvswitch/vswitch.ovsschema", "openvswitch-common", ovn::local::open_vswitch()),
        ("/usr/share/ovn/ovn-sb.ovsschema", "ovn-common", ovn::southbound::tables()),
    ];
    for (file, package, tables) in schemas {
        let schema = schema(Path::new(file), package);
        for table in tables {
            for column in table.columns {
                let found = &schema["tables"][table.name]["columns"][column];
                assert!(found.is_object(), "no column {}.{column} in the schema", table.name);
            }
        }
    }
}
