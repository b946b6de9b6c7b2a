//! The node agent's program: arguments, logs, and [`cni_server`].

fn main() {}
