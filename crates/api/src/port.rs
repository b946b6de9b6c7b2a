//! The names of the ports of pods and nodes. Their IP objects and their leases have the same names.

const PREFIX: &str = "node-";

/// The name of a node's port on the join switch: `node-<name>`, as in kube-ovn.
pub fn node_port(node: &str) -> String {
    format!("{PREFIX}{node}")
}

/// The node whose port has this name. A pod's port can have the same name, so check that the node exists.
pub fn node_of_port(port: &str) -> Option<&str> {
    port.strip_prefix(PREFIX)
}

/// The name of a pod's port on its subnet's switch: `<pod>.<namespace>`, as in kube-ovn.
pub fn pod_port(pod: &str, namespace: &str) -> String {
    format!("{pod}.{namespace}")
}

/// The pod and the namespace whose port has this name. The last dot separates them, since the name of a namespace has no
/// dot. A node's port can have the same name.
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
