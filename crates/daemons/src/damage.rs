//! Damaged database files, which no server can open.

use std::io;
use std::path::{Path, PathBuf};

/// Returns true if this error of `ovsdb-tool` means that the contents are damaged, and not that the file cannot be
/// read.
pub fn is_damage(said: &str) -> bool {
    let words = ["syntax error: ", "unexpected file format", "cannot identify file type", "(End of file)"];
    words.iter().any(|words| said.contains(words)) || names_record(said)
}

/// Returns true if the error is about the contents of one record: `nb.db: record 155 advances commit index to 76 but last log index is
/// 75`. A record is missing for example where the disk was full.
fn names_record(said: &str) -> bool {
    said.split(": record ").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns true if this error of `ovsdb-tool` means that the last record is incomplete, as after a power cut. A server repairs
/// that when it opens the file.
pub fn is_torn(said: &str) -> bool {
    said.ends_with("(End of file)")
}

/// Returns true if this error means that the disk is full, or the quota exhausted.
pub fn lacks_space(said: &str) -> bool {
    ["No space left on device", "Disk quota exceeded"].iter().any(|words| said.contains(words))
}

/// Renames the file, with the reason (`damaged`) and the time (`20250131T235959Z`) in the new name. Keeps the contents.
/// Returns the new name.
pub fn put_aside(file: &Path, reason: &str) -> io::Result<PathBuf> {
    put_aside_at(file, reason, &jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn put_aside_at(file: &Path, reason: &str, time: &str) -> io::Result<PathBuf> {
    let name = |number: u32| {
        let mut name = file.to_owned().into_os_string();
        name.push(format!(".{reason}-{time}"));
        if number > 0 {
            name.push(format!("-{number}"));
        }
        PathBuf::from(name)
    };
    let free = (0..=u32::MAX).map(name).find(|path| !path.exists());
    let aside = free.ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
    std::fs::rename(file, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_damage_from_what_stands_in_the_way() {
        for said in [
            "ovsdb error: nb.db: unexpected file format",
            "ovsdb error: nb.db: cannot identify file type",
            "I/O error: nb.db: error reading 14750 bytes starting at offset 61 (End of file)",
            "syntax error: nb.db: 14750 bytes starting at offset 61 have SHA-1 hash 22db but should have hash 0c91",
            "ovsdb-tool: /etc/ovn/ovnnb_db.db: record 155 advances commit index to 76 but last log index is 75",
        ] {
            assert!(is_damage(said), "{said}");
        }
        for said in ["I/O error: nb.db: open failed (Permission denied)", "ovsdb-tool: a: record of: b"] {
            assert!(!is_damage(said), "{said}");
        }
    }

    #[test]
    fn two_of_one_second_are_both_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nb.db");
        for (text, name) in [("1", "nb.db.damaged-T"), ("2", "nb.db.damaged-T-1")] {
            std::fs::write(&file, text).unwrap();
            let aside = put_aside_at(&file, "damaged", "T").unwrap();
            assert_eq!(aside, dir.path().join(name));
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
        }
    }
}
