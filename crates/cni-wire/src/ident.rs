//! Validates identifiers from outside. They become parts of interface names, OVSDB rows and log lines.

use crate::{CniError, Code};

/// Validates a container ID: letters, digits, `_`, `.` and `-`, starting with a letter or a digit, at most 256 bytes. A
/// valid ID contains no separator and is not `..`, so it is safe as a file name.
pub fn container_id(text: &str) -> Result<&str, CniError> {
    let ok = !text.is_empty()
        && text.len() <= 256
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    check(ok, "CNI_CONTAINERID", text)
}

/// Validates an interface name by the rules of Linux: 1 to 15 bytes, not `.` or `..`, no `/`, `:` or white space.
pub fn ifname(text: &str) -> Result<&str, CniError> {
    let ok = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
    check(ok, "CNI_IFNAME", text)
}

/// Validates the path of a network namespace: absolute, without `..` components and control characters.
pub fn netns(text: &str) -> Result<&str, CniError> {
    let ok = text.starts_with('/')
        && text.len() <= 4096
        && !text.chars().any(char::is_control)
        && !text.split('/').any(|part| part == "..");
    check(ok, "CNI_NETNS", text)
}

/// Validates the name of a Kubernetes object (RFC 1123 subdomain) or namespace: lower-case letters, digits, `-` and
/// `.`.
pub fn object_name<'a>(field: &str, text: &'a str) -> Result<&'a str, CniError> {
    let ok = (1..=253).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !text.contains("..")
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
    check(ok, field, text)
}

/// Validates a Kubernetes UID: letters, digits and dashes, at most 64 bytes.
pub fn uid<'a>(field: &str, text: &'a str) -> Result<&'a str, CniError> {
    let ok = (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    check(ok, field, text)
}

fn check<'a>(ok: bool, field: &str, text: &'a str) -> Result<&'a str, CniError> {
    if ok { Ok(text) } else { Err(CniError::new(Code::ENVIRONMENT, format!("{field}: {text:?} is not valid"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_walks_a_path_passes() {
        for bad in ["", ".", "..", "../x", "a/b", "/a", "a\0", "a b", "-a", &"a".repeat(257)] {
            assert!(container_id(bad).is_err(), "{bad:?}");
        }
        assert!(container_id("9688b4ab4bec.a_b-c").is_ok());
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            assert!(ifname(bad).is_err(), "{bad:?}");
        }
        assert!(ifname("eth0").is_ok());
        for bad in ["", "a", "/var/../etc", "/a\nb"] {
            assert!(netns(bad).is_err(), "{bad:?}");
        }
        assert!(netns("/var/run/netns/cni-1").is_ok());
        assert!(netns("/proc/1/ns/net").is_ok());
        for bad in ["", "A", "a/b", "..", "a..b", "a_b", "-a", "a.", "a b"] {
            assert!(object_name("K8S_POD_NAME", bad).is_err(), "{bad:?}");
        }
        assert!(object_name("K8S_POD_NAME", "web-0.a").is_ok());
        assert!(uid("K8S_POD_UID", "e2c1-ab").is_ok());
        assert!(uid("K8S_POD_UID", "e2/ab").is_err());
    }
}
