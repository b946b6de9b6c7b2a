//! The node agent against a real kernel and a real Open vSwitch.
//!
//! Each test has a network namespace of its own, with its own ovsdb-server and ovs-vswitchd on the userspace datapath;
//! ovn-controller's part, saying that a port's flows are installed, is played by [`room::Room::play_ovn_controller`].
//! They need root, and the packages openvswitch-switch, iproute2, iptables and ipset.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

/// `RUST_LOG=debug` shows what the agent does.
fn logs() {
    let _ = kit::logs::init(&kit::logs::Logs::at("off"), "");
}

mod attach;
mod leftovers;
mod links;
mod missing;
mod ovn0;
mod room;
mod rules;
mod scene;
mod socket;
mod tunnel;
