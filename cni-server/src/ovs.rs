//! The node's Open vSwitch database: the pods' ports on `br-int` and the node's settings.
//!
//! The Interface rows are the persistent record of attached containers, with the container and the pod of each port.
//! All functions read the replica of these rows. `writer` adds and removes pods' ports. This module owns the session
//! and its stream of changes; other modules wait for changes with [`Ovs::changed`].

mod writer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use api::annotations::Limit;
use api::{Addresses, Mac};
use ovn::local::{self, Bridge, Interface, Mirror, NewMirror, NewPort, Settings};
use ovn::southbound::{CMS_OPTIONS, NodeReport};
use ovsdb::client::{Changes, Client, Config, Endpoint, TransactError};
use ovsdb::{Op, Replica, Uuid};
use tokio::sync::watch;

use crate::announce;
use crate::mirror::{self, Chosen};
use crate::openflow::{Management, OpenFlowError};
use crate::ports::{self, OfPod};
use writer::{Change, Writer};

pub use writer::PendingPort;

/// The integration bridge, ovn-controller's default.
pub const BRIDGE: &str = local::INTEGRATION_BRIDGE;

/// Keys of `external_ids` that identify the owner of an Interface.
mod key {
    pub(super) const IFACE_ID: &str = "iface-id";
    pub(super) const CONTAINER_ID: &str = "container_id";
    /// The tunnel address of the chassis that the port's packets use (ovn-controller(8)).
    pub(super) const ENCAP: &str = "encap-ip";
}

/// Why a port was not added or removed.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    /// There is no session with the node's database.
    #[error("Open vSwitch is away")]
    Away,
    /// The bridge does not exist yet. ovs-vswitchd or ovn-controller creates it.
    #[error("bridge {BRIDGE} does not exist")]
    NoBridge,
    /// The row was removed during the wait.
    #[error("interface {0} was removed meanwhile")]
    Gone(String),
    /// The transaction failed.
    #[error("write {what}: {source}")]
    Transact {
        /// The object of the transaction.
        what: String,
        /// The error.
        source: TransactError,
    },
}

/// The node's Open vSwitch.
#[derive(Clone, Debug)]
pub struct Ovs {
    client: Client,
    changed: watch::Receiver<u64>,
    writer: Writer,
    bridge: Management,
}

/// A pod's port with its `external_ids`.
#[derive(Clone, Debug)]
pub struct PodPort {
    /// The network device: the host end of the veth pair.
    pub device: String,
    /// The container ID.
    pub container_id: String,
    /// The logical port, `<pod>.<namespace>`.
    pub iface_id: String,
    /// `pod_name`, `pod_namespace`, `pod_netns`, `ip` and so on.
    pub about: BTreeMap<&'static str, String>,
    /// The tunnel address of the node that its packets use.
    pub encap: Encap,
    /// Whether the mirror copies its packets from the start.
    pub mirrored: bool,
}

/// By which of the node's tunnel addresses the packets of a port go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encap {
    /// That of the tunnel interface.
    Interface,
    /// That in a further network of the node.
    Network(IpAddr),
    /// As before, because the network that it should be is not there.
    AsItIs,
}

impl PodPort {
    /// Returns the `external_ids` of the row that say whose port it is.
    fn identity(&self) -> BTreeMap<String, String> {
        let own = [
            (key::IFACE_ID, self.iface_id.as_str()),
            (key::CONTAINER_ID, self.container_id.as_str()),
            (ovn::VENDOR.0, ovn::VENDOR.1),
        ];
        let about = self.about.iter().map(|(key, value)| (*key, value.as_str()));
        about.chain(own).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Returns whether the device has a row that says whose port it is.
    pub fn is_identified_in(&self, replica: &Replica) -> bool {
        Interface::find(replica, &self.device).is_some_and(|row| row.has_external_ids(&self.identity()))
    }

    /// Returns the `external_ids` of the row.
    pub fn external_ids(&self) -> BTreeMap<String, String> {
        let mut ids = self.identity();
        if let Encap::Network(address) = self.encap {
            ids.insert(key::ENCAP.to_owned(), address.to_string());
        }
        ids
    }

    /// Returns whether the device has a row that is as this port should be.
    pub fn is_in(&self, replica: &Replica) -> bool {
        Interface::find(replica, &self.device).is_some_and(|row| {
            row.has_external_ids(&self.external_ids())
                && (self.encap != Encap::Interface || row.external_id(key::ENCAP).is_none())
        })
    }
}

impl Ovs {
    /// Starts the session with the database on this socket. The session reconnects indefinitely.
    pub fn connect(socket: &Path) -> Self {
        let endpoint = Endpoint::Unix(socket.to_owned());
        let (client, stream) = Client::spawn(Config::new(vec![endpoint], "Open_vSwitch", local::open_vswitch()));
        let (sender, changed) = watch::channel(0);
        tokio::spawn(forward(stream, sender));
        Self { writer: Writer::spawn(client.clone()), bridge: Management::beside(socket, BRIDGE), client, changed }
    }

    /// Returns a counter of changes. Wait for a change of it, then read the replica again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// True while a session is live and the replica is current.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.client.connected()
    }

    /// Reads the replica under a lock. The closure must be short.
    pub fn read<R>(&self, read: impl FnOnce(&Replica) -> R) -> R {
        self.client.read(read)
    }

    /// Waits for a live session and the integration bridge. The caller sets the time limit.
    pub async fn bridge(&self) {
        self.client.synced().await;
        let mut changed = self.changed();
        while self.read(|replica| Bridge::find(replica, BRIDGE).is_none()) {
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Returns true if the bridge uses the userspace datapath.
    pub fn userspace(&self) -> bool {
        self.read(|replica| Bridge::find(replica, BRIDGE).and_then(|b| b.datapath_type()) == Some("netdev"))
    }

    /// Announces that a pod's port is about to be added, so that the writer can combine it with others.
    pub fn pending_port(&self) -> PendingPort {
        self.writer.pending_port()
    }

    /// Adds a pod's port. Removes ports of earlier containers with the same name or for the same logical port. Returns
    /// the names of the other devices whose ports were removed. The caller must delete these devices.
    pub async fn plug(&self, port: PodPort, pending: PendingPort) -> Result<Vec<String>, OvsError> {
        self.writer.write(Change::Plug(port), Some(pending)).await
    }

    /// Gives the port's row its `external_ids` back. Returns whether it exists and had others.
    pub async fn identify(&self, port: PodPort) -> Result<bool, OvsError> {
        let written = self.writer.write(Change::Identify(port), None).await?;
        Ok(!written.is_empty())
    }

    /// Waits until ovn-controller has installed the flows of this device's port. The caller sets the time limit.
    pub async fn installed(&self, device: &str) -> Result<(), OvsError> {
        let mut changed = self.changed();
        loop {
            let state = self.read(|replica| Interface::find(replica, device).map(|i| i.ovn_installed()));
            match state {
                Some(true) => return Ok(()),
                // Only a current replica shows reliably that a row is missing.
                None if *self.connected().borrow() => return Err(OvsError::Gone(device.to_owned())),
                _ => {}
            }
            if changed.changed().await.is_err() {
                return Err(OvsError::Away);
            }
        }
    }

    /// Returns true if there is a port of this device.
    pub fn has_device(&self, device: &str) -> bool {
        self.read(|replica| Interface::find(replica, device).is_some())
    }

    /// Returns true if there is a port for this logical port.
    pub fn has_port(&self, iface_id: &str) -> bool {
        self.read(|replica| Interface::all(replica).any(|port| port.iface_id() == Some(iface_id)))
    }

    /// Returns why a device's flows are not installed, for the details of an error.
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

    /// Removes all ports of a container. Returns the names of their devices. Succeeds if there are none.
    pub async fn unplug(&self, container_id: &str, device: &str) -> Result<Vec<String>, OvsError> {
        let (container_id, device) = (container_id.to_owned(), device.to_owned());
        self.writer.write(Change::Unplug { container_id, device }, None).await
    }

    /// Announces the addresses of a device's port to its subnet. Does nothing if the port does not exist.
    pub async fn announce(&self, device: &str, mac: Mac, ips: &Addresses) -> Result<(), OpenFlowError> {
        let ofport = self.read(|replica| Interface::find(replica, device).and_then(|i| i.ofport()));
        match ofport.and_then(|ofport| u32::try_from(ofport).ok()) {
            Some(ofport) => announce::announce(&self.bridge, ofport, mac, ips).await,
            None => Ok(()),
        }
    }

    /// Returns the limits that meters of the bridge have.
    pub async fn meters(&self) -> Result<Vec<Limit>, OpenFlowError> {
        self.bridge.meters().await
    }

    /// Deletes the node's own port. Returns whether there was one.
    pub async fn remove_own_port(&self, device: &str) -> Result<bool, OvsError> {
        let ops = self.read(|replica| local::delete_port(replica, device));
        let written = !ops.is_empty();
        self.transact(device, ops).await?;
        Ok(written)
    }

    /// Creates or changes the node's own port. Returns true if something was written.
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

    /// Makes the mirror of the bridge as it should be: `device` gets copies of the packets of the chosen pods.
    pub async fn mirror(&self, device: &str, chosen: &Chosen) -> Result<(), OvsError> {
        self.write("the mirror", |replica| mirror_changes(replica, device, chosen)).await
    }

    /// Returns whether the mirror copies the packets of this device's port.
    pub fn is_mirrored(&self, device: &str) -> bool {
        self.read(|replica| {
            let mirror = Bridge::find(replica, BRIDGE).and_then(|bridge| Mirror::find(replica, &bridge, mirror::NAME));
            mirror.is_some_and(|mirror| replica.find(local::PORT, device).any(|port| mirror.has(port)))
        })
    }

    /// Returns the settings of `linux-netem` of this device's port. None if it has no such row.
    pub fn netem(&self, device: &str) -> BTreeMap<String, String> {
        self.read(|replica| {
            let port = replica.find(local::PORT, device).next();
            port.map(|port| local::netem::settings(replica, port)).unwrap_or_default()
        })
    }

    /// Sets keys of the node's `external_ids`, and the report in its options for the CMS. Other options stay. Returns true
    /// if something was written.
    pub async fn settings(&self, wanted: &[(&str, &str)], report: &NodeReport) -> Result<bool, OvsError> {
        let op = self.read(|replica| {
            let settings = Settings::find(replica)?;
            let options = report.in_options(settings.external_id(CMS_OPTIONS).unwrap_or_default());
            settings.set_external_ids(wanted.iter().copied().chain([(CMS_OPTIONS, options.as_str())]))
        });
        let written = op.is_some();
        self.transact("Open_vSwitch external_ids", op.into_iter().collect()).await?;
        Ok(written)
    }

    /// Waits for a live session, so that the node's `external_ids` are known.
    pub async fn settings_known(&self) {
        self.client.synced().await;
    }

    /// Returns a value of the node's `external_ids`.
    pub fn external_id(&self, key: &str) -> Option<String> {
        self.read(|replica| Settings::find(replica)?.external_id(key).map(str::to_owned))
    }

    /// Sets or removes a key of the node's `external_ids`, if it differs.
    pub async fn record(&self, key: &str, value: Option<&str>) -> Result<(), OvsError> {
        let op = self.read(|replica| {
            let settings = Settings::find(replica)?;
            match value {
                Some(value) => settings.set_external_ids([(key, value)]),
                None => settings
                    .external_id(key)
                    .map(|_| local::remove_external_ids(local::OPEN_VSWITCH, settings.id, [key])),
            }
        });
        self.transact("Open_vSwitch external_ids", op.into_iter().collect()).await
    }

    /// Writes what `changes` returns of the replica, in one transaction. `what` names it in an error.
    pub async fn write(&self, what: &str, changes: impl FnOnce(&Replica) -> Vec<Op>) -> Result<(), OvsError> {
        let ops = self.read(changes);
        self.transact(what, ops).await
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

/// Returns the operations that change the mirror. None while the bridge or the device's port does not exist.
fn mirror_changes(replica: &Replica, device: &str, chosen: &Chosen) -> Vec<Op> {
    let Some(bridge) = Bridge::find(replica, BRIDGE) else { return Vec::new() };
    let Some(output) = replica.find(local::PORT, device).next() else { return Vec::new() };
    let mirror = Mirror::find(replica, &bridge, mirror::NAME);
    let is_chosen = |of: &OfPod, port: Uuid| {
        let said = chosen.is(&of.key(), of.uid.as_deref());
        said.unwrap_or_else(|| mirror.is_some_and(|mirror| mirror.has(port)))
    };
    let ports = ports::of_pods(replica).into_iter().filter_map(|of| {
        let port = replica.find(local::PORT, &of.device).next()?;
        is_chosen(&of, port).then_some(port)
    });
    let wanted = NewMirror { name: mirror::NAME, output, ports: ports.collect() };
    match mirror {
        Some(mirror) => wanted.changes(&mirror),
        None => wanted.add_to(bridge.id),
    }
}

/// Returns the operations that change our interface. An interface with another type or a wrong one is replaced in two
/// steps.
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
    ops.extend(interface.set_external_ids(&wanted.external_ids));
    ops
}

/// Converts the session's stream of changes to a counter, for which any number of tasks can wait.
async fn forward(mut changes: Changes, sender: watch::Sender<u64>) {
    loop {
        tokio::select! {
            _ = changes.next() => sender.send_modify(|count| *count += 1),
            () = sender.closed() => return,
        }
    }
}
