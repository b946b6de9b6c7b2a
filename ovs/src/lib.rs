//! `ovs-ovn`: Open vSwitch and ovn-controller on a node, as process 1 of a container.
//!
//! - [`args`]: flags and environment;
//! - [`datapath`]: the kernel's or the userspace datapath, and why;
//! - [`conf`]: the node's own database, and its file;
//! - [`settings`]: what ovn-controller and ovs-vswitchd are told by it;
//! - [`flows`]: what ovs-vswitchd forwards by, over its restart;
//! - [`underlay`]: the tunnels' interface, which the userspace datapath needs on a bridge;
//! - [`node`]: all of it, kept and asked.
//!
//! It promises to write only the settings that nobody else does: the tunnels' address and type, and which rows
//! ovn-controller monitors, are the node agent's. Stopping it leaves the kernel's datapath forwarding, and the node's
//! chassis registered.

pub mod args;
pub mod conf;
pub mod datapath;
pub mod flows;
pub mod node;
pub mod settings;
pub mod underlay;
