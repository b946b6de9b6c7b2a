//! This node's Open vSwitch, by its database: the pods' ports on `br-int` and the node's own settings.
//!
//! The Interface rows are the durable record of what is plugged: whose container, pod and namespace. Everything here
//! starts from the replica of them; `writer` is the one who adds and removes pods' ports. Owns the session and its stream of
//! changes; others wait for a change by [`Ovs::changed`].

mod writer;

use std::collections::BTreeMap;
use std::path::Path;

use api::{Addresses, Mac};
use ovn::local::{self, Bridge, Interface, NewPort, Settings};
use ovsdb::client::{Changes, Client, Config, Endpoint, TransactError};
use ovsdb::{Op, Replica};
use tokio::sync::watch;

use crate::announce::{AnnounceError, Announcer};
use writer::{Change, Writer};

pub use writer::Coming;

/// The integration bridge, ovn-controller's default.
pub const BRIDGE: &str = "br-int";

/// Keys of `external_ids` that say whose an Interface is. The first ones are kube-ovn's.
mod key {
    pub(super) const IFACE_ID: &str = "iface-id";
    pub(super) const CONTAINER_ID: &str = "container_id";
}

/// Why a port is not plugged or unplugged.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    /// There is no session with the node's database.
    #[error("Open vSwitch is away")]
    Away,
    /// ovs-vswitchd or ovn-controller has not made the bridge yet.
    #[error("bridge {BRIDGE} does not exist")]
    NoBridge,
    /// The row went while we waited for it.
    #[error("interface {0} was removed meanwhile")]
    Gone(String),
    /// The transaction failed.
    #[error("write {what}: {source}")]
    Transact {
        /// What it was about.
        what: String,
        /// Why.
        source: TransactError,
    },
}

/// The node's Open vSwitch.
#[derive(Clone, Debug)]
pub struct Ovs {
    client: Client,
    changed: watch::Receiver<u64>,
    writer: Writer,
    announcer: Announcer,
}

/// A pod's port, as it is written to `external_ids`.
#[derive(Clone, Debug)]
pub struct PodPort {
    /// The device, which is the host end of the veth.
    pub device: String,
    /// The container's id.
    pub container_id: String,
    /// The logical port, `<pod>.<namespace>`.
    pub iface_id: String,
    /// `pod_name`, `pod_namespace`, `pod_netns`, `ip` and so on.
    pub about: BTreeMap<&'static str, String>,
}

impl Ovs {
    /// Starts the session with the database that listens on this socket; it connects, and connects again, for ever.
    pub fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::Unix(socket.to_owned());
        let (client, stream) = Client::spawn(Config::new(vec![endpoint], "Open_vSwitch", local::open_vswitch()));
        let (sender, changed) = watch::channel(0);
        tokio::spawn(forward(stream, sender));
        Self { writer: Writer::spawn(client.clone()), announcer: Announcer::beside(socket, BRIDGE), client, changed }
    }

    /// Counts the changes of the replica: wait on it, then read again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Whether a session is live and the replica current.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.client.connected()
    }

    /// Reads the replica; keep it short.
    pub fn read<R>(&self, read: impl FnOnce(&Replica) -> R) -> R {
        self.client.read(read)
    }

    /// Waits for a live session with an integration bridge. The caller bounds the wait.
    pub async fn bridge(&self) {
        self.client.synced().await;
        let mut changed = self.changed();
        while self.read(|replica| Bridge::find(replica, BRIDGE).is_none()) {
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether the bridge is on the userspace datapath.
    pub fn userspace(&self) -> bool {
        self.read(|replica| Bridge::find(replica, BRIDGE).and_then(|b| b.datapath_type()) == Some("netdev"))
    }

    /// Says that a pod's port is about to be plugged, so that others may be written together with it.
    pub fn coming(&self) -> Coming {
        self.writer.coming()
    }

    /// Adds a pod's port. A port of the same name or for the same logical port, left by an earlier container, goes; the names
    /// of the other devices whose ports went. Nobody else knows of them any more.
    pub async fn plug(&self, port: PodPort, coming: Coming) -> Result<Vec<String>, OvsError> {
        self.writer.write(Change::Plug(port), Some(coming)).await
    }

    /// Waits until ovn-controller says that the flows of this device's port are in place. The caller bounds the wait.
    pub async fn installed(&self, device: &str) -> Result<(), OvsError> {
        let mut changed = self.changed();
        loop {
            let state = self.read(|replica| Interface::find(replica, device).map(|i| i.ovn_installed()));
            match state {
                Some(true) => return Ok(()),
                // Only a current replica can say that a row is gone.
                None if *self.connected().borrow() => return Err(OvsError::Gone(device.to_owned())),
                _ => {}
            }
            if changed.changed().await.is_err() {
                return Err(OvsError::Away);
            }
        }
    }

    /// Why a device is not installed, for an error's details.
    pub fn explain(&self, device: &str) -> String {
        self.read(|replica| match Interface::find(replica, device) {
            None => format!("no interface {device}"),
            Some(i) => match (i.error(), i.ofport()) {
                (Some(error), _) => format!("ovs-vswitchd: {error}"),
                (None, None) => "ovs-vswitchd has not taken the port up".to_owned(),
                (None, Some(_)) => "ovn-controller has not installed the port's flows".to_owned(),
            },
        })
    }

    /// Removes every port of a container; the names of the devices. Nothing there is fine.
    pub async fn unplug(&self, container_id: &str, device: &str) -> Result<Vec<String>, OvsError> {
        let (container_id, device) = (container_id.to_owned(), device.to_owned());
        self.writer.write(Change::Unplug { container_id, device }, None).await
    }

    /// Tells the subnet of a device's port who has these addresses now. A port that is gone tells nobody anything.
    pub async fn announce(&self, device: &str, mac: Mac, ips: &Addresses) -> Result<(), AnnounceError> {
        let ofport = self.read(|replica| Interface::find(replica, device).and_then(|i| i.ofport()));
        match ofport.and_then(|ofport| u32::try_from(ofport).ok()) {
            Some(ofport) => self.announcer.announce(ofport, mac, ips).await,
            None => Ok(()),
        }
    }

    /// Makes the node's own port what is wanted; true when something was written.
    pub async fn own_port(&self, wanted: &NewPort) -> Result<bool, OvsError> {
        let ops = self.read(|replica| {
            let bridge = Bridge::find(replica, BRIDGE).ok_or(OvsError::NoBridge)?;
            Ok(match Interface::find(replica, &wanted.name) {
                None => wanted.add_to(bridge.id),
                Some(interface) => own_port_changes(replica, &interface, wanted),
            })
        })?;
        let written = !ops.is_empty();
        self.transact(&wanted.name, ops).await?;
        Ok(written)
    }

    /// A key of the node's `external_ids`.
    pub fn setting(&self, key: &str) -> Option<String> {
        self.read(|replica| Settings::find(replica)?.external_id(key).map(str::to_owned))
    }

    /// Makes keys of the node's settings what is wanted; true when something was written.
    pub async fn settings(&self, wanted: &[(&str, &str)]) -> Result<bool, OvsError> {
        let op = self.read(|replica| {
            let settings = Settings::find(replica)?;
            let differ: Vec<_> =
                wanted.iter().filter(|(key, value)| settings.external_id(key) != Some(value)).copied().collect();
            (!differ.is_empty()).then(|| local::set_external_ids(local::OPEN_VSWITCH, settings.id, differ))
        });
        let written = op.is_some();
        self.transact("Open_vSwitch external_ids", op.into_iter().collect()).await?;
        Ok(written)
    }

    async fn transact(&self, what: &str, ops: Vec<Op>) -> Result<(), OvsError> {
        if ops.is_empty() {
            return Ok(());
        }
        match self.client.transact(&ops).await {
            Ok(_) => Ok(()),
            Err(TransactError::Disconnected) => Err(OvsError::Away),
            Err(source) => Err(OvsError::Transact { what: what.to_owned(), source }),
        }
    }
}

/// What differs of an existing interface of ours. One of another type, or wrongly made, is replaced in two steps.
fn own_port_changes(replica: &Replica, interface: &Interface<'_>, wanted: &NewPort) -> Vec<Op> {
    if interface.kind() != Some(wanted.kind) {
        return local::delete_port(replica, &wanted.name);
    }
    let mut ops = Vec::new();
    let row = replica.get(local::INTERFACE, interface.id);
    let mut columns = ovsdb::Row::new();
    if let Some(mac) = &wanted.mac
        && row.and_then(|r| r.get("mac")).and_then(ovsdb::Datum::as_str) != Some(mac)
    {
        columns.insert("mac", mac.into());
    }
    if let Some(mtu) = wanted.mtu
        && row.and_then(|r| r.get("mtu_request")).and_then(ovsdb::Datum::as_int) != Some(i64::from(mtu))
    {
        columns.insert("mtu_request", i64::from(mtu).into());
    }
    if !columns.is_empty() {
        let on = ovsdb::Where::Row(interface.id);
        ops.push(Op::Update { table: local::INTERFACE, on, row: columns });
    }
    let ids = wanted.external_ids.iter().filter(|(key, value)| interface.external_id(key) != Some(value.as_str()));
    let ids: Vec<_> = ids.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    if !ids.is_empty() {
        ops.push(local::set_external_ids(local::INTERFACE, interface.id, ids));
    }
    ops
}

/// Turns the session's stream of changes into a counter that any number of tasks can wait on.
async fn forward(mut changes: Changes, sender: watch::Sender<u64>) {
    loop {
        tokio::select! {
            _ = changes.next() => sender.send_modify(|count| *count += 1),
            () = sender.closed() => return,
        }
    }
}
