//! What the ports of pods and nodes are called; their IP objects and their leases have the same names.

const PREFIX: &str = "node-";

/// The name of a node's port on the join switch: `node-<name>`, which is kube-ovn's.
pub fn node_port(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// The node whose port would be called so. A pod's port may be called so too: ask whether there is such a node.
pub fn node_of_port(port: &str) -> Option<&str> {
    port.strip_prefix(PREFIX)
}

/// The name of a pod's port on its subnet's switch: `<pod>.<namespace>`, which is kube-ovn's.
pub fn pod_port(pod: &str, namespace: &str) -> String {
    format!("{pod}.{namespace}")
}

/// The pod and the namespace whose port would be called so: there is no dot in a namespace's name. A node's port may be
/// called so too.
pub fn pod_of_port(port: &str) -> Option<(&str, &str)> {
    port.rsplit_once('.')
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

    #[test]
    fn a_pod_is_found_by_its_port() {
        assert_eq!(pod_port("web-0", "shop"), "web-0.shop");
        assert_eq!(pod_of_port("web.v1.shop"), Some(("web.v1", "shop")));
        assert_eq!(pod_of_port("node-n1"), None);
    }
}
