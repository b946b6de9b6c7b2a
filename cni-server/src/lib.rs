//! The node agent: plugs pods into Open vSwitch and keeps the node's routes and rules.
//!
//! Each mutable thing has one owner task, and the others wait on a `watch` channel of it:
//! - [`seen`]: what the node sees of the cluster;
//! - [`ovs`]: the session with the node's database;
//! - [`node_port`]: `ovn0`, its routes, and the node's settings in Open vSwitch;
//! - [`masquerade`]: ipsets and iptables rules;
//! - [`rivals`]: the files of other networks beside our conflist;
//! - [`attachments`]: the queues of ADD and DEL requests, which [`socket`] takes in and [`attach`] carries out.
//!
//! [`announce`] tells neighbours of a new pod, and [`leftovers`] finds what lost DELs left; [`agent`] puts them together. Promise: no input ends the process, and nothing that is right already is written.

pub mod agent;
pub mod announce;
pub mod args;
pub mod attach;
pub mod attachments;
pub mod conflist;
pub mod leftovers;
pub mod link;
pub mod masquerade;
pub mod metrics;
pub mod netns;
pub mod node_net;
pub mod node_port;
pub mod ovs;
pub mod own_networks;
pub mod rivals;
pub mod seen;
pub mod socket;
pub mod sysctl;
pub mod tunnel;
