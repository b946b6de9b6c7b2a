//! The routes of the userspace datapath's tunnels.
//!
//! Whenever a link of the node changes, ovs-vswitchd forgets all routes that it has read from the kernel, and reads them
//! anew. It has no tunnels meanwhile, for about 12 ms each time, and a pod that comes or goes changes several links. It
//! keeps the routes that it was told on its control socket (`ovs-appctl ovs/route/add`), with which the gap is about
//! 0.2 ms. These take precedence over longer prefixes of the kernel, so they are only for the networks of the tunnel
//! interface's own addresses.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use daemons::control::{self, ControlError};
use futures::{Stream, StreamExt};
use ipnet::IpNet;
use links::{Assigned, Event, LinkError, Links};

/// The pause after a failure, which doubles with each. ovs-vswitchd refuses a route while it has not yet read the address that
/// the link has got.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_mins(1));

/// Tells an ovs-vswitchd the routes of one link.
#[derive(Debug)]
pub struct Routes {
    links: Links,
    link: &'static str,
    control: PathBuf,
    /// The networks whose routes ovs-vswitchd may have from us.
    told: BTreeSet<IpNet>,
    /// The state that it was told completely.
    seen: Seen,
}

/// What the routes depend on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// The index of the link, if it exists. With another index, it is another link of this name.
    index: Option<u32>,
    /// The link's addresses with their networks. Their routes have the address as source.
    addresses: BTreeSet<IpNet>,
}

/// Why ovs-vswitchd was not told all routes.
#[derive(Debug, thiserror::Error)]
enum RoutesError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl Routes {
    /// `control` is the control socket of an ovs-vswitchd that has been told no routes yet.
    pub fn new(links: Links, link: &'static str, control: PathBuf) -> Self {
        Self { links, link, control, told: BTreeSet::new(), seen: Seen::default() }
    }

    /// Keeps the routes as the link's addresses are. Runs until it is aborted.
    pub async fn keep(mut self) -> io::Result<()> {
        let mut events = links::events()?;
        let mut pause = RETRY.0;
        loop {
            links::skip_arrived(&mut events);
            match self.tell().await {
                Ok(()) => {
                    pause = RETRY.0;
                    self.change(&mut events).await?;
                }
                Err(error) => {
                    tracing::info!(%error, link = self.link, "ovs-vswitchd does not know the routes; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }

    /// Waits until something about the link has changed.
    async fn change(&self, events: &mut (impl Stream<Item = Event> + Unpin)) -> io::Result<()> {
        while let Some(event) = events.next().await {
            if self.seen.index.is_none_or(|index| links::concerns(&event, index)) {
                return Ok(());
            }
        }
        Err(io::Error::other("the netlink socket is closed"))
    }

    async fn tell(&mut self) -> Result<(), RoutesError> {
        let now = self.see().await?;
        if now == self.seen {
            return Ok(());
        }
        let networks: BTreeSet<_> = now.addresses.iter().map(IpNet::trunc).collect();
        for network in &self.told - &networks {
            match control::ask(&self.control, "ovs/route/del", &[&network.to_string()]).await {
                // It does not have the route.
                Err(ControlError::Refused { .. }) => {}
                other => drop(other?),
            }
            self.told.remove(&network);
        }
        // All of them: ovs-vswitchd stops listening on the link whenever one of its routes is deleted, and starts again
        // when one is added.
        for network in networks {
            self.told.insert(network);
            control::ask(&self.control, "ovs/route/add", &[&network.to_string(), self.link]).await?;
        }
        tracing::info!(link = self.link, routes = ?self.told, "told ovs-vswitchd the routes");
        self.seen = now;
        Ok(())
    }

    async fn see(&self) -> Result<Seen, RoutesError> {
        let Some(link) = self.links.find(self.link).await? else { return Ok(Seen::default()) };
        let connected = self.links.connected(&link).await?;
        let assigned = self.links.assigned().await?;
        let own = assigned.iter().filter(|address| address.link == link.index && address.global && address.usable);
        let networks = own.filter_map(Assigned::with_prefix);
        Ok(Seen {
            index: Some(link.index),
            addresses: networks.filter(|address| connected.contains(&address.trunc())).collect(),
        })
    }
}
