//! Whatever is a value comes back from its own JSON; nothing else is one.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::Datum;

fuzz_target!(|json: &[u8]| {
    if let Ok(value) = serde_json::from_slice::<Datum>(json) {
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<Datum>(&written).unwrap(), value, "{written}");
    }
});
