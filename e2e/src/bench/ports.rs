//! The northbound database's ports, as the database itself tells of them: asking it again and again for all of them costs it,
//! and us, more than what is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ovsdb::{Changes, Client, Config, Datum, Row, Table};

use crate::central;

const TABLE: &str = "Logical_Switch_Port";
/// Far beyond what anything takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// The ports of a namespace's pods. It listens to the database from when it is made until it is dropped.
#[derive(Debug)]
pub struct Ports {
    client: Client,
    changes: Changes,
    suffix: String,
}

impl Ports {
    /// Has all that are there when it returns.
    pub async fn of(namespace: &str) -> Result<Self> {
        let ports = Table { name: TABLE, columns: &["name", "addresses"], key: None };
        let endpoint = format!("tcp:{}:6641", central::address()).parse()?;
        let (client, changes) = Client::spawn(Config::new(vec![endpoint], "OVN_Northbound", vec![ports]));
        let synced = tokio::time::timeout(PATIENCE, client.synced()).await;
        synced.context("the northbound database does not answer")?;
        Ok(Self { client, changes, suffix: format!(".{namespace}") })
    }

    /// The MAC and IP addresses of each, by name.
    pub fn addresses(&self) -> BTreeMap<String, Vec<String>> {
        self.client.read(|replica| {
            let ours = replica.rows(TABLE).filter_map(|(_, row)| Some((self.name(row)?, row)));
            let words = |row: &Row| {
                let texts = row.get("addresses").into_iter().flat_map(Datum::strs);
                texts.flat_map(str::split_whitespace).map(str::to_owned).collect()
            };
            ours.map(|(name, row)| (name.to_owned(), words(row))).collect()
        })
    }

    /// Waits until none is there; when that was seen.
    pub async fn gone(&mut self) -> Result<Instant> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = self.len();
            if left == 0 {
                return Ok(Instant::now());
            }
            let changed = tokio::time::timeout_at(deadline, self.changes.next()).await;
            changed.with_context(|| format!("{left} ports stay after {PATIENCE:?} though their pods are gone"))?;
        }
    }

    fn len(&self) -> usize {
        self.client.read(|replica| replica.rows(TABLE).filter(|(_, row)| self.name(row).is_some()).count())
    }

    /// The name of one of these ports.
    fn name<'a>(&self, row: &'a Row) -> Option<&'a str> {
        row.get("name")?.strs().next().filter(|name| name.ends_with(&self.suffix))
    }
}
