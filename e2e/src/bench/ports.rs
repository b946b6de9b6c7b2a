//! Monitors the ports in the northbound database. Polling all ports would cost more than what is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ovsdb::{Changes, Client, Config, Datum, Row, Table};

use crate::central;

const TABLE: &str = "Logical_Switch_Port";
/// A time limit that is far beyond every expected duration.
const PATIENCE: Duration = Duration::from_mins(5);

/// Monitors the ports of a namespace's pods until it is dropped.
#[derive(Debug)]
pub struct Ports {
    client: Client,
    changes: Changes,
    suffix: String,
}

impl Ports {
    /// Returns when the replica contains all existing ports.
    pub async fn of(namespace: &str) -> Result<Self> {
        let ports = Table { name: TABLE, columns: &["name", "addresses"], key: None };
        // Only nodes may use the TCP port.
        let endpoint = format!("unix:{}", central::northbound_socket()?.display()).parse()?;
        let (client, changes) = Client::spawn(Config::new(vec![endpoint], "OVN_Northbound", vec![ports]));
        let synced = tokio::time::timeout(PATIENCE, client.synced()).await;
        synced.context("the northbound database does not answer")?;
        Ok(Self { client, changes, suffix: format!(".{namespace}") })
    }

    /// Returns the MAC and IP addresses of each port, by name.
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

    /// Waits until the ports have exactly these addresses.
    pub async fn until(&mut self, wanted: &BTreeMap<String, Vec<String>>) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.addresses() != *wanted {
            let changed = tokio::time::timeout_at(deadline, self.changes.next()).await;
            changed.with_context(|| format!("the ports do not have the same addresses after {PATIENCE:?}"))?;
        }
        Ok(())
    }

    /// Waits until no port is left. Returns when this was seen.
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

    /// Returns the name if the row is one of these ports.
    fn name<'a>(&self, row: &'a Row) -> Option<&'a str> {
        row.get("name")?.strs().next().filter(|name| name.ends_with(&self.suffix))
    }
}
