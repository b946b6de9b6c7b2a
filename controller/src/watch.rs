//! One watch for each kind of object, turned into [`WatchEvent`] for the owner.
//!
//! A watch that breaks is resumed with backoff. A list is passed on object by object as its pages arrive, so that no kind is
//! held in memory twice.
//!
//! Lists are consistent: they are requested without a resource version, so that the API server answers with nothing older
//! than the time of the request. A list at version 0, and a streaming list as `kube` 4.2 requests it (at version 0 too), may
//! come from an API server that is behind, and would make running pods look deleted.

use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// What one watch saw.
#[derive(Debug)]
pub enum WatchEvent<T> {
    /// A list begins. What it does not name by [`WatchEvent::Listed`] no longer exists.
    Listing,
    /// The object exists and is now as given.
    Apply(T),
    /// The object no longer exists; this is its last state.
    Delete(T),
    /// The list is complete.
    Listed,
}

/// Follows every object of a kind for as long as the owner listens. `convert` keeps what the owner needs and drops the
/// rest at once; objects for which it returns `None` are ignored.
pub async fn follow<K, T, E>(
    api: Api<K>,
    convert: impl Fn(K) -> Option<T> + Send,
    wrap: impl Fn(WatchEvent<T>) -> E + Send,
    owner: mpsc::Sender<E>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let events = watcher(api, watcher::Config::default()).backoff(kit::kubernetes::pause());
    forward(&kind, std::pin::pin!(events), convert, wrap, owner).await;
}

async fn forward<K, T, E>(
    kind: &str,
    mut events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Unpin,
    convert: impl Fn(K) -> Option<T>,
    wrap: impl Fn(WatchEvent<T>) -> E,
    owner: mpsc::Sender<E>,
) {
    loop {
        let seen = match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => Some(WatchEvent::Listing),
            Ok(Some(watcher::Event::InitApply(object) | watcher::Event::Apply(object))) => {
                convert(object).map(WatchEvent::Apply)
            }
            Ok(Some(watcher::Event::InitDone)) => Some(WatchEvent::Listed),
            Ok(Some(watcher::Event::Delete(object))) => convert(object).map(WatchEvent::Delete),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(kind, %error, "the watch broke and is resumed");
                None
            }
        };
        if let Some(seen) = seen
            && owner.send(wrap(seen)).await.is_err()
        {
            return;
        }
    }
}
