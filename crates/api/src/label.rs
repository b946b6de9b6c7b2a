//! Names of objects as label values.

use std::borrow::Cow;

/// The maximum length of a label value.
const LONGEST: usize = 63;

/// The length of the part of a longer name that is kept. A dash and the hash follow it.
const KEPT: usize = 52;

/// `name` as a label value, or as a label key.
///
/// A label value has at most 63 characters, and the name of an object at most 253. A longer name is cut after its first
/// characters, and a hash of the whole name follows them, so that names with the same beginning differ. The result for a
/// name is the same in all versions of the program, so users can rely on it in selectors.
pub fn label_value(name: &str) -> Cow<'_, str> {
    if is_label_value(name) {
        return Cow::Borrowed(name);
    }
    let odd = |c: char| !c.is_ascii_alphanumeric();
    let kept: String = name.chars().take(KEPT).map(|c| if is_inside(c) { c } else { '-' }).collect();
    let hash = hash(name);
    Cow::Owned(match kept.trim_matches(odd) {
        "" => format!("{hash:010x}"),
        kept => format!("{kept}-{hash:010x}"),
    })
}

fn is_label_value(text: &str) -> bool {
    let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let mut chars = text.chars();
    text.len() <= LONGEST && text.chars().all(is_inside) && end(chars.next()) && end(chars.next_back())
}

fn is_inside(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// 40 bits of FNV-1a, which is the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 40) ^ (hash & ((1 << 40) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_fit_are_their_own_values() {
        let longest = "a".repeat(63);
        for name in ["", "n1", "ovn-default", "a.b-c", "0", &longest] {
            assert_eq!(label_value(name), name);
        }
    }

    #[test]
    fn longer_names_are_cut_and_told_apart() {
        let long = |end: &str| format!("{}{end}", "a".repeat(60));
        let cut = "a".repeat(52);
        for (name, value) in [
            (long("bcde"), format!("{cut}-66a61d8257")),
            (long("bcdf"), format!("{cut}-66a61d88bb")),
            (format!("{}.-.{}", "a".repeat(49), "b".repeat(20)), format!("{}-89038d4e92", "a".repeat(49))),
            (format!("n1.{}", "a".repeat(250)), format!("n1.{}-f70a66b220", "a".repeat(49))),
            ("-".repeat(70), "2297bcc2be".to_owned()),
            ("a/b".to_owned(), "a-b-19048eefa2".to_owned()),
            ("a-".to_owned(), "a-07b54d8e64".to_owned()),
        ] {
            assert_eq!(label_value(&name), value, "{name}: it must never change");
        }
    }

    proptest! {
        #[test]
        fn every_value_is_legal(name in "[a-z0-9.-]{0,253}|\\PC*") {
            let value = label_value(&name);
            prop_assert!(is_label_value(&value), "{name:?} gives {value:?}");
            prop_assert_eq!(label_value(&value), value.as_ref());
            prop_assert_eq!(value == name, is_label_value(&name));
        }
    }
}
