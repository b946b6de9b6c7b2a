//! Our two controllers as tests know them, whoever runs them: on the first two nodes, in the nodes' own network.

use crate::by_hand;
use crate::layout::Node;

/// The nodes that they run on.
pub const NODES: [Node; 2] = [Node::ONE, Node::TWO];

/// What they are called, in the order of [`NODES`]. So are their units where there are any, and their names in the Lease.
pub fn controllers() -> [String; 2] {
    NODES.map(|node| by_hand::name(node, by_hand::CONTROLLER))
}

/// The network namespace that a replica runs in, and the address at which it answers there.
pub fn controller_host(replica: usize) -> (String, String) {
    let node = NODES[replica];
    (node.netns(), node.ip4())
}
