//! Fuzzes values: every JSON document that parses as a value survives a round trip through its own JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::Datum;

fuzz_target!(|json: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<Datum>(json) {
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<Datum>(&written).unwrap(), value, "{written}");
    }
});
