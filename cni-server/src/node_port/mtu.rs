//! Logs changes of the MTU.

use crate::tunnel::{Mtu, Tunnel};

/// Logs when new pods get another MTU than running pods, whose MTU does not change.
pub(super) fn tell_of_mtu(before: &Tunnel, now: &Tunnel) {
    if let Some(said) = other_mtu(before, now) {
        tracing::warn!("{said}");
    } else if before.iface_mtu != now.iface_mtu {
        tracing::info!(
            iface = now.iface,
            mtu = now.iface_mtu,
            "the interface has another MTU; that of pods still fits"
        );
    }
}

fn other_mtu(before: &Tunnel, now: &Tunnel) -> Option<String> {
    let Tunnel { iface, iface_mtu, mtu: Mtu { pods, .. }, .. } = now;
    let kept = before.mtu.pods;
    (kept != *pods).then(|| {
        format!(
            "the MTU of interface {iface} is {iface_mtu} now: new pods get {pods}, those that run keep {kept} until they are \
             started anew"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_run_with_another_mtu_are_told_of() {
        let tunnel = |iface_mtu, pods| Tunnel {
            address: "172.31.0.1".parse().unwrap(),
            iface: "eth1".to_owned(),
            index: 2,
            iface_mtu,
            mtu: Mtu { pods, most: iface_mtu - 58 },
        };
        assert_eq!(
            other_mtu(&tunnel(9000, 8900), &tunnel(1500, 1400)).unwrap(),
            "the MTU of interface eth1 is 1500 now: new pods get 1400, those that run keep 8900 until they are started anew"
        );
        assert_eq!(other_mtu(&tunnel(9000, 1400), &tunnel(1500, 1400)), None);
    }
}
