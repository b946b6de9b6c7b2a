//! Reads the transactions of the northbound database from its file. Each transaction is one record, whoever wrote it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::{central, process, rootfs};

/// A position in the file. Later transactions come after it.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    inode: u64,
    length: u64,
}

/// A transaction.
#[derive(Clone, Debug)]
pub struct Record {
    /// The changed rows.
    pub changes: Vec<Change>,
}

/// The changes of one row by one transaction.
#[derive(Clone, Debug)]
pub struct Change {
    /// The table of the row.
    pub table: String,
    /// The UUID of the row.
    pub row: String,
    /// The columns, each as the difference from before. Null for a deleted row.
    pub columns: Value,
}

impl Mark {
    /// Returns the current end of the file. Compacts the database first: the server does not compact it again for ten
    /// minutes, and a compaction would remove the records.
    pub async fn now() -> Result<Self> {
        let control = format!("{}/ovnnb_db.ctl", central::run_directory());
        process::run(rootfs::on(central::NODE, "ovn-appctl", &["-t", &control, "ovsdb-server/compact"])?).await?;
        let file = fs::metadata(central::northbound_file())?;
        Ok(Self { inode: file.ino(), length: file.len() })
    }

    /// Returns the records after this position.
    pub fn records(self) -> Result<Vec<Record>> {
        let path = central::northbound_file();
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        ensure!(file.metadata()?.ino() == self.inode, "the northbound database has been compacted meanwhile");
        file.seek(SeekFrom::Start(self.length))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        parse(&text)
    }
}

impl Record {
    /// Returns true if the record contains only what northd writes: the `up` column of ports.
    pub fn is_northd(&self) -> bool {
        self.changes.iter().all(|change| {
            let columns = change.columns.as_object();
            change.table == "Logical_Switch_Port" && columns.is_some_and(|c| c.keys().all(|column| column == "up"))
        })
    }
}

impl Change {
    /// Returns true if the change applies to this row or refers to it.
    pub fn names(&self, row: &str) -> bool {
        self.row == row || self.columns.to_string().contains(row)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.table, self.row, self.columns)
    }
}

/// Each record is a line `OVSDB CLUSTER <length> <hash>` followed by `length` bytes. An incomplete last record is
/// skipped. Records of transactions have a member `data` with the schema, if it is new, and the changes (ovsdb(5),
/// "Clustered Format"). Other records are about the cluster.
fn parse(mut text: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
        let header = std::str::from_utf8(&text[..end])?;
        let mut words = header.split(' ');
        ensure!(words.next() == Some("OVSDB") && words.next() == Some("CLUSTER"), "no record begins with {header:?}");
        let length: usize = words.next().unwrap_or_default().parse().with_context(|| header.to_owned())?;
        let Some(body) = text.get(end + 1..end + 1 + length) else { break };
        let whole: Value = serde_json::from_slice(body)?;
        records.extend(whole["data"][1].as_object().cloned().map(record));
        text = &text[end + 1 + length..];
    }
    Ok(records)
}

fn record(tables: Map<String, Value>) -> Record {
    let tables = tables.into_iter().filter(|(table, _)| !table.starts_with('_')); // `_date`, `_comment`, `_is_diff`
    let rows =
        tables.filter_map(|(table, rows)| if let Value::Object(rows) = rows { Some((table, rows)) } else { None });
    let changes = rows.flat_map(|(table, rows)| {
        rows.into_iter().map(move |(row, columns)| Change { table: table.clone(), row, columns })
    });
    Record { changes: changes.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[&str]) -> String {
        let wrapped = records.iter().map(|text| format!(r#"{{"data":[null,{}],"index":7,"term":1}}"#, text.trim_end()));
        let all = wrapped.chain([r#"{"commit_index":7}"#.to_owned()]);
        let records = all.map(|text| format!("OVSDB CLUSTER {} 0123\n{text}\n", text.len() + 1));
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_record_tells_what_was_written_to_each_row() {
        let one = r#"{"Logical_Switch":{"s1":{"ports":["uuid","p1"]}},"Logical_Switch_Port":{"p1":{"name":"a.ns"}},"_is_diff":true}"#;
        let up = r#"{"_date":1,"Logical_Switch_Port":{"p1":{"up":false}}}"#;
        let gone = r#"{"Logical_Switch_Port":{"p1":null}}"#;
        let whole = file(&[&format!("{one}\n"), up, gone]);
        let records = parse(whole.as_bytes()).unwrap();
        let shown = |r: &Record| r.changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_eq!(
            records.iter().map(shown).collect::<Vec<_>>(),
            [
                r#"Logical_Switch s1: {"ports":["uuid","p1"]}; Logical_Switch_Port p1: {"name":"a.ns"}"#,
                r#"Logical_Switch_Port p1: {"up":false}"#,
                "Logical_Switch_Port p1: null",
            ]
        );
        assert!(records[0].changes.iter().all(|change| change.names("p1")));
        assert_eq!(records.iter().map(Record::is_northd).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(parse(&whole.as_bytes()[..whole.len() - 60]).unwrap().len(), 2, "the last one is being written");
        assert!(parse(b"rubbish\n").is_err());
    }
}
