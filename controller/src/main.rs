//! Translates Kubernetes objects into the OVN northbound database.

fn main() {}
