//! How many connections are open, and whose.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections a client may have.
pub(super) const EACH: usize = 16;

/// How many there may be. Those of the machine itself are not counted: its kubelet asks whether the process lives.
const ALL: usize = 256;

/// The open connections, by client.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// An open connection. Dropping it makes room for the next one.
#[derive(Debug)]
pub(super) struct Seat(Option<(Crowd, IpAddr)>);

impl Crowd {
    /// Returns a seat for a connection of this client to this address of the machine, if there is room.
    pub(super) fn seat(&self, client: IpAddr, host: Option<IpAddr>) -> Option<Seat> {
        let client = client.to_canonical();
        if host.is_some_and(|host| host.to_canonical() == client) {
            return Some(Seat(None));
        }
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&client).copied().unwrap_or_default();
        if own >= EACH || open.values().sum::<usize>() >= ALL {
            return None;
        }
        open.insert(client, own + 1);
        Some(Seat(Some((self.clone(), client))))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((crowd, client)) = self.0.take() else { return };
        let mut open = crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_share_and_the_machine_itself_any() {
        let crowd = Crowd::default();
        let host = IpAddr::from([192, 168, 1, 1]);
        let seat = |client: [u8; 4]| crowd.seat(client.into(), Some(host));
        let own: Vec<_> = (0..EACH).map(|_| seat([10, 0, 0, 1]).unwrap()).collect();
        assert!(seat([10, 0, 0, 1]).is_none());
        assert!(crowd.seat("::ffff:10.0.0.1".parse().unwrap(), None).is_none(), "the same one");
        let others: Vec<_> = (0..u8::MAX).filter_map(|n| seat([10, 0, 1, n])).collect();
        assert_eq!(own.len() + others.len(), ALL);
        assert!((0..ALL).all(|_| seat([192, 168, 1, 1]).is_some()));
        drop(own);
        assert!(seat([10, 0, 0, 1]).is_some());
    }
}
