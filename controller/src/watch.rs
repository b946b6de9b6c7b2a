//! Watches one kind of object and sends [`WatchEvent`]s to the owner.
//!
//! A broken watch resumes with backoff. The objects of a list are forwarded one by one as the pages arrive, so that the
//! list is never held in memory as a whole.
//!
//! Lists are consistent: the request has no resource version, so the answer is at least as new as the request. A list
//! at resource version 0 can come from an API server that is behind, and running pods would look deleted. `kube` 4.2
//! also requests streaming lists at version 0, so they are not used.

use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// An event of one watch.
#[derive(Debug)]
pub enum WatchEvent<T> {
    /// A list begins. Known objects that are not applied before [`WatchEvent::Listed`] no longer exist.
    Listing,
    /// The object exists in this state.
    Apply(T),
    /// The object was deleted; this is its last state.
    Delete(T),
    /// The list is complete.
    Listed,
}

/// Watches all objects of a kind until the owner drops its receiver. `convert` reduces an object to the fields that the
/// owner needs; objects for which it returns `None` are ignored.
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
        let event = match events.try_next().await {
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
        if let Some(event) = event
            && owner.send(wrap(event)).await.is_err()
        {
            return;
        }
    }
}
