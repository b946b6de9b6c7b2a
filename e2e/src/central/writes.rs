//! Writes to the northbound database without a pause, to see when it takes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use ovsdb::{Accept, Client, Config, Datum, Endpoint, Mutation, Mutator, Op, Where};

use crate::central;
use crate::layout::Node;

/// Writes to the northbound database without a pause. Returns the longest time between two writes that succeeded.
pub async fn longest_gap(nodes: &[Node], meanwhile: impl Future<Output = Result<()>>) -> Result<Duration> {
    // The ports take connections of nodes only.
    let endpoints = nodes.iter().filter_map(|node| Some(Endpoint::Unix(central::socket(*node)?))).collect();
    let table = ovsdb::Table { name: "NB_Global", columns: &["external_ids"], key: None };
    let config = Config { accept: Accept::Leader, ..Config::new(endpoints, "OVN_Northbound", vec![table]) };
    let (client, _changes) = Client::spawn(config);
    client.synced().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writes = tokio::spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            let pair = |number: u32| Datum::map([("gap", number.to_string().as_str())]);
            let mutation = |mutator, value| Mutation { column: "external_ids", mutator, value };
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let mutations =
                    vec![mutation(Mutator::Delete, pair(number - 1)), mutation(Mutator::Insert, pair(number))];
                let write = Op::Mutate { table: "NB_Global", on: Where::All, mutations };
                if client.transact(&[write]).await.is_ok() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            longest.max(last.elapsed())
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = meanwhile.await;
    stop.store(true, Ordering::Relaxed);
    let longest = writes.await?;
    outcome.map(|()| longest)
}
