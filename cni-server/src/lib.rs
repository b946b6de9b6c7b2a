//! The node agent: plugs pods into Open vSwitch and keeps the node's routes and rules.

pub mod conflist;
pub mod link;
pub mod masquerade;
pub mod netns;
