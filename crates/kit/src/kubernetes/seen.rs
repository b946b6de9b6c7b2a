//! The objects of one kind, kept from a watch.

use std::collections::BTreeMap;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;

/// The objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// Whether the objects have been listed once.
    pub synced: bool,
    /// What is read of each object, by name.
    pub objects: BTreeMap<String, T>,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self { synced: false, objects: BTreeMap::new() }
    }
}

/// Applies the events of one watch to what is seen. A list replaces the objects as a whole when it is complete, so
/// nothing that is gone stays, and a list in progress is not seen.
#[derive(Debug)]
pub struct Lister<T> {
    listing: BTreeMap<String, T>,
}

impl<T> Default for Lister<T> {
    fn default() -> Self {
        Self { listing: BTreeMap::new() }
    }
}

impl<T: PartialEq> Lister<T> {
    /// Applies an event. `read` returns the name and what is read of an object, or `None` to ignore the object. Returns
    /// whether something else is seen now.
    pub fn apply<K>(&mut self, seen: &mut Seen<T>, event: Event<K>, read: impl Fn(K) -> Option<(String, T)>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply(object) => {
                self.listing.extend(read(object));
                false
            }
            Event::InitDone => {
                let now = Seen { synced: true, objects: std::mem::take(&mut self.listing) };
                let changed = *seen != now;
                *seen = now;
                changed
            }
            Event::Apply(object) => read(object).is_some_and(|(name, new)| {
                let changed = seen.objects.get(&name) != Some(&new);
                seen.objects.insert(name, new);
                changed
            }),
            Event::Delete(object) => read(object).is_some_and(|(name, _)| seen.objects.remove(&name).is_some()),
        }
    }
}

/// Starts the task that owns the objects of one kind, for as long as the process runs. When the watch is interrupted, the next
/// list replaces the objects. `read` returns the name and what is read of an object, or `None` to ignore the object. Readers
/// wake up only when something that is read has changed.
pub fn keep<K, T>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(K) -> Option<(String, T)> + Send + 'static,
) -> watch::Receiver<Seen<T>>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
    T: PartialEq + Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(Seen::default());
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, config).backoff(super::pause()));
        let mut lister = Lister::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => drop(sender.send_if_modified(|seen| lister.apply(seen, event, &read))),
                Err(error) => tracing::warn!(what, %error, "watch interrupted; going on"),
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_replaces_all_objects_at_its_end() {
        let (mut lister, mut seen) = (Lister::default(), Seen::default());
        let mut apply = |event: Event<(&str, u8)>| {
            let changed = lister.apply(&mut seen, event, |(name, value)| (value < 9).then(|| (name.to_owned(), value)));
            let names: Vec<String> = seen.objects.iter().map(|(name, value)| format!("{name}{value}")).collect();
            (changed, seen.synced, names.join(" "))
        };
        for (event, changed, synced, names) in [
            (Event::Init, false, false, ""),
            (Event::InitApply(("a", 1)), false, false, ""),
            (Event::InitApply(("ignored", 9)), false, false, ""),
            (Event::InitDone, true, true, "a1"),
            (Event::Apply(("a", 1)), false, true, "a1"),
            (Event::Apply(("b", 2)), true, true, "a1 b2"),
            (Event::Init, false, true, "a1 b2"),
            (Event::InitApply(("dropped", 3)), false, true, "a1 b2"),
            // The watch broke during the list, and lists again.
            (Event::Init, false, true, "a1 b2"),
            (Event::InitApply(("b", 2)), false, true, "a1 b2"),
            (Event::InitDone, true, true, "b2"),
            (Event::Delete(("a", 1)), false, true, "b2"),
            (Event::Delete(("b", 5)), true, true, ""),
        ] {
            let what = format!("{event:?}");
            assert_eq!(apply(event), (changed, synced, names.to_owned()), "{what}");
        }
    }
}
