//! What a node's port is called; its IP object and its lease have the same name.

const PREFIX: &str = "node-";

/// The name of a node's port on the join switch: `node-<name>`, which is kube-ovn's.
pub fn node_port(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// The node whose port would be called so. A pod's port may be called so too: ask whether there is such a node.
pub fn node_of_port(port: &str) -> Option<&str> {
    port.strip_prefix(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_found_by_its_port() {
        assert_eq!(node_port("n1"), "node-n1");
        assert_eq!(node_of_port("node-n1"), Some("n1"));
        assert_eq!(node_of_port("web.shop"), None);
    }
}
