//! The only writer of pods' ports.
//!
//! For each transaction, ovs-vswitchd and ovn-controller process all their ports once, and ovn-controller reports ports
//! that arrive one after the other as installed only together. Requests that arrive during a transaction are therefore
//! combined into the next one, and a new port waits briefly for others whose links are being created.
//!
//! Requests for the same port are executed in order. If a transaction is refused, its requests are executed one by one,
//! so that each gets its own result and none fails because of another.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ovn::local::{self, Bridge, Interface, Mirror, NewPort};
use ovsdb::client::{Client, TransactError};
use ovsdb::{Op, Replica};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::{BRIDGE, Encap, OvsError, PodPort, key};
use crate::mirror;

/// A requested change.
#[derive(Debug)]
pub(super) enum Change {
    /// Adds a port. Removes ports with the same name or logical port.
    Plug(PodPort),
    /// Gives a port's row its `external_ids` back.
    Identify(PodPort),
    /// Removes all ports of a container, and the port of a device.
    Unplug { container_id: String, device: String },
}

/// The names of devices whose ports were removed, or of the one whose row was changed.
type Outcome = Result<Vec<String>, OvsError>;

#[derive(Debug)]
struct Request {
    change: Change,
    answer: oneshot::Sender<Outcome>,
}

/// A handle to the writer.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
    pending: watch::Sender<usize>,
}

/// A port that will be requested as soon as its link exists. Other ports wait for it for a short time.
#[derive(Debug)]
pub struct PendingPort(watch::Sender<usize>);

impl Drop for PendingPort {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The maximum time that a port waits for others. Creating ten links takes about 30 ms.
const TOGETHER: Duration = Duration::from_millis(50);

impl Writer {
    /// Starts the writer. It ends when the last handle is dropped.
    pub(super) fn spawn(client: Client) -> Self {
        let (requests, received) = mpsc::channel(256);
        let (pending, count) = watch::channel(0);
        tokio::spawn(run(client, received, count));
        Self { requests, pending }
    }

    /// Announces that a port is about to be requested.
    pub(super) fn pending_port(&self) -> PendingPort {
        self.pending.send_modify(|count| *count += 1);
        PendingPort(self.pending.clone())
    }

    /// Executes a change. `pending` is released when the writer has the request.
    pub(super) async fn write(&self, change: Change, pending: Option<PendingPort>) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        self.requests.send(Request { change, answer }).await.map_err(|_| OvsError::Away)?;
        drop(pending);
        outcome.await.unwrap_or(Err(OvsError::Away))
    }
}

async fn run(client: Client, mut requests: mpsc::Receiver<Request>, mut pending: watch::Receiver<usize>) {
    let mut queue = VecDeque::new();
    loop {
        if queue.is_empty() {
            match requests.recv().await {
                Some(request) => queue.push_back(request),
                None => return,
            }
        }
        // Continue when all announced ports have arrived or the time limit expires.
        let _ = timeout_at(Instant::now() + TOGETHER, pending.wait_for(|count| *count == 0)).await;
        while let Ok(request) = requests.try_recv() {
            queue.push_back(request);
        }
        // A port whose ADD has given up is no longer wanted. Removals are always executed.
        queue.retain(|request: &Request| !matches!(request.change, Change::Plug(_)) || !request.answer.is_closed());
        let again = serve(&client, take_turn(&mut queue)).await;
        for request in again.into_iter().rev() {
            queue.push_front(request);
        }
    }
}

/// Takes the requests that can be combined. Of several requests for the same port, only the first one is taken.
fn take_turn(queue: &mut VecDeque<Request>) -> Vec<Request> {
    let mut touched = BTreeSet::new();
    let (mut turn, mut later) = (Vec::new(), VecDeque::new());
    for request in queue.drain(..) {
        let ports = request.change.touches();
        if ports.iter().any(|port| touched.contains(port)) {
            later.push_back(request);
        } else {
            turn.push(request);
        }
        touched.extend(ports);
    }
    *queue = later;
    turn
}

/// Executes requests. Answers them, or returns those that need another turn.
async fn serve(client: &Client, turn: Vec<Request>) -> Vec<Request> {
    let mut steps = Vec::new();
    for request in turn {
        match client.read(|replica| request.change.step(replica)) {
            Ok(step) => steps.push((request, step)),
            Err(error) => answer(request, Err(error)),
        }
    }
    let all: Vec<Op> = steps.iter().flat_map(|(_, step)| step.ops.iter().cloned()).collect();
    let together = transact(client, &all).await;
    let one_by_one = matches!(together, Err(TransactError::Refused { .. })) && steps.len() > 1;
    let mut again = Vec::new();
    for (request, step) in steps {
        let result = if one_by_one { transact(client, &step.ops).await } else { together.clone() };
        match result {
            Ok(()) if step.again => again.push(request),
            Ok(()) => answer(request, Ok(step.devices)),
            Err(TransactError::Disconnected) => answer(request, Err(OvsError::Away)),
            Err(source) => {
                let what = request.change.device().to_owned();
                answer(request, Err(OvsError::Transact { what, source }));
            }
        }
    }
    again
}

async fn transact(client: &Client, ops: &[Op]) -> Result<(), TransactError> {
    if ops.is_empty() { Ok(()) } else { client.transact(ops).await.map(drop) }
}

fn answer(request: Request, outcome: Outcome) {
    // The caller may have given up.
    let _ = request.answer.send(outcome);
}

/// What one transaction does for a request.
#[derive(Debug)]
struct Step {
    ops: Vec<Op>,
    /// What the request is answered with.
    devices: Vec<String>,
    /// Whether the request needs another turn.
    again: bool,
}

impl Change {
    fn device(&self) -> &str {
        match self {
            Self::Plug(port) | Self::Identify(port) => &port.device,
            Self::Unplug { device, .. } => device,
        }
    }

    /// Returns the resources that no other request in the same turn may use.
    fn touches(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Plug(port) | Self::Identify(port) => {
                vec![("device", port.device.clone()), (key::IFACE_ID, port.iface_id.clone())]
            }
            Self::Unplug { device, .. } => vec![("device", device.clone())],
        }
    }

    fn step(&self, replica: &Replica) -> Result<Step, OvsError> {
        match self {
            Self::Plug(port) => plug(replica, port),
            Self::Identify(port) => {
                let row = Interface::find(replica, &port.device);
                let set = row.as_ref().and_then(|row| row.set_external_ids(&port.external_ids()));
                let former = row.filter(|row| port.encap == Encap::Interface && row.external_id(key::ENCAP).is_some());
                let removed = former.map(|row| local::remove_external_ids(local::INTERFACE, row.id, [key::ENCAP]));
                let ops: Vec<Op> = set.into_iter().chain(removed).collect();
                let devices = ops.first().map(|_| port.device.clone()).into_iter().collect();
                Ok(Step { ops, devices, again: false })
            }
            Self::Unplug { container_id, device } => {
                let ours = |i: &Interface<'_>| {
                    i.external_id(key::CONTAINER_ID) == Some(container_id) || i.name() == Some(device)
                };
                let gone: Vec<String> =
                    Interface::all(replica).filter(ours).filter_map(|i| i.name().map(str::to_owned)).collect();
                let ops = gone.iter().flat_map(|name| local::delete_port(replica, name)).collect();
                Ok(Step { ops, devices: gone, again: false })
            }
        }
    }
}

fn plug(replica: &Replica, port: &PodPort) -> Result<Step, OvsError> {
    let same_device = local::delete_port(replica, &port.device);
    if !same_device.is_empty() {
        // The new row has the same UUID, and a UUID cannot be deleted and inserted in one transaction.
        return Ok(Step { ops: same_device, devices: Vec::new(), again: true });
    }
    let bridge = Bridge::find(replica, BRIDGE).ok_or(OvsError::NoBridge)?;
    let stale = Interface::all(replica).filter(|i| i.iface_id() == Some(&port.iface_id));
    let gone: Vec<String> = stale.filter_map(|i| i.name().map(str::to_owned)).collect();
    let mut ops: Vec<Op> = gone.iter().flat_map(|name| local::delete_port(replica, name)).collect();
    let new = NewPort {
        name: port.device.clone(),
        seed: port.container_id.clone(),
        external_ids: port.external_ids(),
        ..NewPort::default()
    };
    ops.extend(new.add_to(bridge.id));
    let mirror = Mirror::find(replica, &bridge, mirror::NAME).filter(|_| port.mirrored);
    ops.extend(mirror.map(|mirror| local::select(mirror.id, new.port_id())));
    Ok(Step { ops, devices: gone, again: false })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn request(change: Change) -> Request {
        Request { change, answer: oneshot::channel().0 }
    }

    fn plug(device: &str, pod: &str) -> Request {
        request(Change::Plug(PodPort {
            device: device.to_owned(),
            container_id: format!("{device}-container"),
            iface_id: format!("{pod}.ns"),
            about: BTreeMap::new(),
            encap: Encap::Interface,
            mirrored: false,
        }))
    }

    fn unplug(device: &str) -> Request {
        request(Change::Unplug { container_id: format!("{device}-container"), device: device.to_owned() })
    }

    #[test]
    fn what_touches_one_port_is_done_in_order_and_the_rest_at_once() {
        let mut queue = VecDeque::from([
            plug("a", "one"),
            plug("b", "two"),
            unplug("a"),
            plug("c", "two"), // a second container of the same pod
            plug("d", "three"),
            unplug("c"),
        ]);
        let mut turns = Vec::new();
        while !queue.is_empty() {
            turns.push(take_turn(&mut queue).iter().map(|r| r.change.device().to_owned()).collect::<String>());
        }
        assert_eq!(turns, ["abd", "ac", "c"]);
    }
}
