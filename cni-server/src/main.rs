//! The node agent: plugs pods into Open vSwitch and keeps the node's routes and rules.

fn main() {}
