//! The routes of the userspace datapath's tunnels.
//!
//! Whenever a link of the node changes, ovs-vswitchd forgets all routes that it has read from the kernel, and reads them
//! anew. It has no tunnels meanwhile, for about 12 ms each time, and a pod that comes or goes changes several links. It
//! keeps the routes that it was told on its control socket (`ovs-appctl ovs/route/add`), with which the gap is about
//! 0.2 ms. These take precedence over longer prefixes of the kernel, so they are only for the networks of the tunnel
//! interface's own addresses.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemons::control::{self, ControlError};
use futures::{Stream, StreamExt};
use ipnet::IpNet;
use links::{Event, LinkError, Links};

/// The pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Tells an ovs-vswitchd the routes of one link.
#[derive(Debug)]
pub struct Routes {
    links: Links,
    link: &'static str,
    control: PathBuf,
    told: Told,
}

/// What ovs-vswitchd was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
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
        Self { links, link, control, told: Told::default() }
    }

    /// Keeps the routes as the link's addresses are. Runs until it is aborted.
    pub async fn keep(mut self) -> io::Result<()> {
        let mut events = links::events()?;
        loop {
            links::skip_arrived(&mut events);
            if let Err(error) = self.tell().await {
                tracing::warn!(%error, link = self.link, "ovs-vswitchd does not know the routes; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            self.change(&mut events).await?;
        }
    }

    /// Waits until something about the link has changed.
    async fn change(&self, events: &mut (impl Stream<Item = Event> + Unpin)) -> io::Result<()> {
        while let Some(event) = events.next().await {
            if self.told.index.is_none_or(|index| links::concerns(&event, index)) {
                return Ok(());
            }
        }
        Err(io::Error::other("the netlink socket is closed"))
    }

    async fn tell(&mut self) -> Result<(), RoutesError> {
        let wanted = self.wanted().await?;
        if wanted == self.told {
            return Ok(());
        }
        let networks = |told: &Told| told.addresses.iter().map(IpNet::trunc).collect::<BTreeSet<_>>();
        let (old, new) = (networks(&self.told), networks(&wanted));
        for network in old.difference(&new) {
            ask(&self.control, "ovs/route/del", &[&network.to_string()]).await?;
        }
        // All of them: ovs-vswitchd stops listening on the link whenever one of its routes is deleted, and starts again
        // when one is added.
        for network in &new {
            ask(&self.control, "ovs/route/add", &[&network.to_string(), self.link]).await?;
        }
        tracing::info!(link = self.link, routes = ?new, "told ovs-vswitchd the routes");
        self.told = wanted;
        Ok(())
    }

    async fn wanted(&self) -> Result<Told, RoutesError> {
        let Some(link) = self.links.find(self.link).await? else { return Ok(Told::default()) };
        let connected = self.links.connected(&link).await?;
        let assigned = self.links.assigned().await?;
        let own = assigned.iter().filter(|address| address.link == link.index && address.global && address.usable);
        let networks = own.filter_map(|address| IpNet::new(address.own, address.network.prefix_len()).ok());
        Ok(Told {
            index: Some(link.index),
            addresses: networks.filter(|address| connected.contains(&address.trunc())).collect(),
        })
    }
}

/// Runs a command. ovs-vswitchd refuses what has changed meanwhile, which is then announced.
async fn ask(control: &Path, command: &str, arguments: &[&str]) -> Result<(), ControlError> {
    match control::ask(control, command, arguments).await {
        Err(error @ ControlError::Refused { .. }) => {
            tracing::info!(%error, "ovs-vswitchd refuses a change of its routes");
            Ok(())
        }
        other => other.map(drop),
    }
}
