//! Tests of the network on the kernel's Open vSwitch. They run in a virtual machine, on one lab: see `e2e/kernel`.
//!
//! All other tests run on Open vSwitch's userspace datapath, which differs where the kernel does the work: offloads,
//! sizes, marks and connection tracking of the outer and inner packets, and a datapath that stays when its daemons end.

mod b1_paths;
mod b1_ports;
mod b1_sizes;
mod b2_outside;
mod b5_copies;
mod b6_limits;
mod b8_moves;
mod d3_restarts;
mod marks;
mod offloads;
mod stage;
mod zones;
