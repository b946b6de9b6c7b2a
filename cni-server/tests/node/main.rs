//! The node agent against a real kernel and a real Open vSwitch.
//!
//! Each test has its own network namespace, with its own ovsdb-server and ovs-vswitchd on the userspace datapath. There is
//! no ovn-controller: [`sandbox::Sandbox::play_ovn_controller`] reports in its place that the flows of a port are installed.
//! The tests need root, and the packages openvswitch-switch, iproute2, iptables and ipset.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

/// `RUST_LOG=debug` shows what the agent does.
fn logs() {
    let _ = kit::logs::init(&kit::logs::Logs::at("off"), "");
}

mod api_server;
mod attach;
mod install;
mod limits;
mod links;
mod mirror;
mod missing;
mod netem;
mod ovn0;
mod ports;
mod rules;
mod sandbox;
mod scene;
mod socket;
mod southbound;
mod tunnel;
mod watches;
