//! Records when a watch first shows each object in its expected state.

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A time limit that is far beyond every expected duration.
const PATIENCE: Duration = Duration::from_mins(5);

/// Objects by name, with the time they were first seen. Dropping it ends the watch.
#[derive(Debug)]
pub struct Seen {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    synced: bool,
    when: HashMap<String, Instant>,
}

impl Seen {
    /// Starts a watch. On return, it has seen all existing objects. `right` checks whether an object has its expected
    /// state.
    pub async fn follow<K>(api: Api<K>, right: impl Fn(&K) -> bool + Send + Sync + 'static) -> Result<Self>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let (sender, mut state) = watch::channel(State::default());
        let task = tokio::spawn(async move {
            // The backoff is short, so that the measurement does not contain it.
            let pause = watcher::ExponentialBackoff::from(
                backon::ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(50))
                    .with_max_delay(Duration::from_millis(500))
                    .without_max_times()
                    .with_jitter(),
            );
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).backoff(pause));
            loop {
                let event = match events.try_next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => return,
                    Err(_) => continue, // the watch restarts after the backoff
                };
                let now = Instant::now();
                sender.send_if_modified(|state| match event {
                    watcher::Event::InitDone => !std::mem::replace(&mut state.synced, true),
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        let name = object.meta().name.clone().unwrap_or_default();
                        let fresh = right(&object) && !state.when.contains_key(&name);
                        fresh && state.when.insert(name, now).is_none()
                    }
                    watcher::Event::Delete(object) => {
                        state.when.remove(object.meta().name.as_deref().unwrap_or_default()).is_some()
                    }
                    watcher::Event::Init => false,
                });
            }
        });
        let synced = tokio::time::timeout(PATIENCE, state.wait_for(|state| state.synced)).await;
        synced.context("the API server does not list")??;
        Ok(Self { state, task })
    }

    /// Returns the number of objects.
    pub fn len(&self) -> usize {
        self.state.borrow().when.len()
    }

    /// Returns true if there are no objects.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there are exactly `count` objects.
    pub async fn count(&self, count: usize) -> Result<()> {
        let mut state = self.state.clone();
        let wait = async { state.wait_for(|state| state.when.len() == count).await.map(drop) };
        let ended = tokio::time::timeout(PATIENCE, wait).await;
        ended.with_context(|| format!("{} of {count} after {PATIENCE:?}", self.len()))?.context("the watch has ended")
    }

    /// Waits until there are at least `count` objects.
    pub async fn at_least(&self, count: usize) -> Result<()> {
        let mut state = self.state.clone();
        let wait = async { state.wait_for(|state| state.when.len() >= count).await.map(drop) };
        let ended = tokio::time::timeout(PATIENCE, wait).await;
        ended.with_context(|| format!("{} of {count} after {PATIENCE:?}", self.len()))?.context("the watch has ended")
    }

    /// Waits for an object. Returns when it was seen.
    pub async fn until(&self, name: &str) -> Result<Instant> {
        let mut state = self.state.clone();
        let wait =
            async { state.wait_for(|state| state.when.contains_key(name)).await.map(|s| s.when.get(name).copied()) };
        let ended = tokio::time::timeout(PATIENCE, wait).await;
        let when =
            ended.with_context(|| format!("{name} was not seen in {PATIENCE:?}"))?.context("the watch has ended")?;
        when.with_context(|| format!("{name} was not seen"))
    }

    /// Returns when each object was seen, in the same order. An error names the first missing object.
    pub fn when(&self, names: &[String]) -> Result<Vec<Instant>> {
        let state = self.state.borrow();
        names.iter().map(|name| state.when.get(name).copied().with_context(|| format!("{name} was not seen"))).collect()
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}
