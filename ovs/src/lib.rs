//! `ovs-ovn`: Open vSwitch and ovn-controller on a node, as process 1 of a container.
//!
//! - [`args`]: flags and environment variables;
//! - [`datapath`]: the choice of the kernel or the userspace datapath;
//! - [`conf`]: the local database and its file;
//! - [`session`]: the session with this database;
//! - [`settings`]: the settings of ovn-controller and ovs-vswitchd in it;
//! - [`vswitchd`]: ovs-vswitchd, which takes over the datapath of its predecessor;
//! - [`flows`]: its flows across a restart;
//! - [`underlay`]: the interface for tunnels, which the userspace datapath needs on a bridge;
//! - [`routes`]: the routes of these tunnels, which ovs-vswitchd would forget for moments;
//! - [`foreign`]: daemons of another installation on the node;
//! - `southbound`: tells ovn-controller when another southbound database takes the place of the one that it knows;
//! - `inquiry`: answers probes about the daemons, whose names and files are in `places`;
//! - [`node`]: runs all daemons.
//!
//! The program writes only settings that no other program writes. The node agent writes `ovn-remote`, the encapsulation
//! settings and `ovn-monitor-all`. When the program stops, the kernel datapath keeps forwarding and the chassis stays registered.

pub mod args;
pub mod conf;
pub mod datapath;
pub mod flows;
pub mod foreign;
mod inquiry;
pub mod node;
mod places;
pub mod routes;
pub mod session;
pub mod settings;
mod southbound;
pub mod underlay;
pub mod vswitchd;
