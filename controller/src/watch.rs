//! One watch per kind of object, each turned into [`Event`]s for the one owner.
//!
//! A watch that breaks is taken up again with backoff; after a relist the owner gets the whole kind as one
//! [`Seen::Reset`], so that what was deleted meanwhile is not missed.

use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// What one watch saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// The object exists, and looks like this now.
    Apply(T),
    /// The object is gone; this is how it looked last.
    Delete(T),
    /// This is every object of the kind; those not in the list are gone.
    Reset(Vec<T>),
}

/// Follows every object of a kind for as long as the owner listens. `convert` keeps what the owner needs and drops the
/// rest at once; objects for which it answers `None` are none of ours.
pub async fn follow<K, T, E>(
    api: Api<K>,
    convert: impl Fn(K) -> Option<T> + Send,
    wrap: impl Fn(Seen<T>) -> E + Send,
    owner: mpsc::Sender<E>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Default,
{
    let kind = K::kind(&K::DynamicType::default()).into_owned();
    let events = watcher(api, watcher::Config::default().any_semantic()).backoff(kit::kubernetes::pause());
    forward(&kind, std::pin::pin!(events), convert, wrap, owner).await;
}

async fn forward<K, T, E>(
    kind: &str,
    mut events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Unpin,
    convert: impl Fn(K) -> Option<T>,
    wrap: impl Fn(Seen<T>) -> E,
    owner: mpsc::Sender<E>,
) {
    let mut relisted = Vec::new();
    loop {
        let seen = match events.try_next().await {
            Ok(Some(watcher::Event::Init)) => {
                relisted = Vec::new();
                None
            }
            Ok(Some(watcher::Event::InitApply(object))) => {
                relisted.extend(convert(object));
                None
            }
            Ok(Some(watcher::Event::InitDone)) => Some(Seen::Reset(std::mem::take(&mut relisted))),
            Ok(Some(watcher::Event::Apply(object))) => convert(object).map(Seen::Apply),
            Ok(Some(watcher::Event::Delete(object))) => convert(object).map(Seen::Delete),
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(kind, %error, "the watch broke and is taken up again");
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
