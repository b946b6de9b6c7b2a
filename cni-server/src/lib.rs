//! The node agent: plugs pods into Open vSwitch and keeps the node's routes and rules.
//!
//! Each mutable state has one owner task, and the others wait on a `watch` channel of it:
//! - [`seen`]: what the node sees of the cluster;
//! - [`own_networks`]: the networks that the node itself uses;
//! - [`node_net`]: which subnets the node serves;
//! - [`ovs`]: the session with the node's database;
//! - [`node_port`]: `ovn0`, its routes, and the node's settings in Open vSwitch;
//! - [`reach`]: whether the router answers through `ovn0`;
//! - [`mirror`]: `mirror0`, with copies of the packets of pods;
//! - [`netem`]: the delay and loss that pods ask for;
//! - [`databases`]: the nodes with OVN databases;
//! - [`southbound`]: where ovn-controller finds the southbound database;
//! - [`rules`]: the rules of the firewall;
//! - [`rivals`]: the files of other networks beside our conflist;
//! - [`attachments`]: the queues of ADD and DEL requests. [`socket`] receives them, and [`attach`] carries them out with the
//!   addresses from [`allocation`].
//!
//! [`check`] says what of the network works, for operators.
//!
//! [`announce`] announces a new pod to its neighbours. [`ports`] keeps the ports of running pods, and removes what lost DELs
//! have left. [`agent`] starts all of them, and [`external_host`] those that a machine without pods has. No input ends the
//! process, and nothing that is already correct is written.

pub mod agent;
pub mod allocation;
pub mod announce;
pub mod args;
pub mod attach;
pub mod attachments;
pub mod chassis_key;
pub mod check;
pub mod conflist;
pub mod databases;
pub mod external_host;
pub mod metrics;
pub mod mirror;
pub mod netem;
pub mod node_net;
pub mod node_port;
pub mod openflow;
pub mod ovs;
pub mod own_networks;
pub mod ping;
pub mod ports;
pub mod reach;
pub mod rivals;
pub mod rules;
pub mod seen;
pub mod socket;
pub mod southbound;
pub mod tunnel;
