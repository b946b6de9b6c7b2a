//! The lab: a real Kubernetes and OVN cluster on one machine.

fn main() {}
