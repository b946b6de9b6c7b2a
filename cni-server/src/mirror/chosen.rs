//! Whose packets are copied.

use tokio::sync::watch;

use crate::seen::{Node, Pod, Seen};

/// Whose packets are copied: those of all pods, if the flag or the annotation of the Node says so, and otherwise those of
/// the pods whose annotation says so. A pod cannot take itself out of a mirror of all pods.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// `--enable-mirror`. The annotation of the Node overrides it.
    pub all: bool,
    /// The Node.
    pub node: watch::Receiver<Seen<Node>>,
    /// This node's pods.
    pub pods: watch::Receiver<Seen<Pod>>,
}

impl Chosen {
    /// Returns whether the packets of a pod are copied. `uid` is that of the container's pod. `None` if it is not known, or
    /// if an annotation that decides is not readable: what is copied now is copied on.
    pub fn is(&self, pod: &str, uid: Option<&str>) -> Option<bool> {
        let all = self.all();
        if all == Some(true) {
            return all;
        }
        let pods = self.pods.borrow();
        let pod = Pod::find(&pods, pod, uid)?;
        match (all, &pod.mirror) {
            (_, Ok(Some(true))) => Some(true),
            (Some(false), Ok(_)) => Some(false),
            _ => None,
        }
    }

    /// Returns whether the packets of all pods are copied.
    fn all(&self) -> Option<bool> {
        let node = self.node.borrow();
        match node.objects.values().next().map(|node| &node.want.mirror) {
            Some(Ok(said)) => Some(said.unwrap_or(self.all)),
            Some(Err(_)) => None,
            // The Node is gone, or not listed yet.
            None => self.all.then_some(true),
        }
    }

    /// Waits until something changes.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.node.changed() => {}
            Ok(()) = self.pods.changed() => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use api::FieldError;
    use api::annotations::NodeWant;

    use super::*;

    fn said(text: &str) -> Result<Option<bool>, FieldError> {
        let annotations = (!text.is_empty()).then(|| (api::annotations::MIRROR.to_owned(), text.to_owned()));
        api::annotations::mirror("pod ns/web".to_owned(), &annotations.into_iter().collect())
    }

    fn chosen(all: bool, node: Option<&str>, pod: &str) -> Chosen {
        let node = node.map(|text| Node {
            uid: String::new(),
            internal_ips: Vec::new(),
            want: NodeWant { mirror: said(text), ..NodeWant::default() },
        });
        let pod = Pod {
            uid: "uid".to_owned(),
            config_hash: None,
            mirror: said(pod),
            netem: Ok(None),
            limits: Default::default(),
            routes: Ok(Vec::new()),
            going: false,
        };
        let node = Seen { synced: true, objects: node.map(|node| ("n1".to_owned(), node)).into_iter().collect() };
        let pods = Seen { synced: true, objects: [("web.ns".to_owned(), pod)].into() };
        Chosen { all, node: watch::channel(node).1, pods: watch::channel(pods).1 }
    }

    #[test]
    fn the_admin_chooses_all_and_a_pods_author_chooses_the_pod() {
        let (yes, no, unknown) = (Some(true), Some(false), None);
        for (all, node, pod, expected) in [
            (false, Some(""), "", no),
            (false, Some(""), "true", yes),
            (false, Some(""), "false", no),
            (false, Some(""), "yes", unknown),
            (true, Some(""), "", yes),
            (true, Some(""), "false", yes),
            (false, Some("true"), "false", yes),
            (true, Some("false"), "", no),
            (true, Some("false"), "true", yes),
            (false, Some("on"), "", unknown),
            (false, Some("on"), "true", yes),
            (false, None, "", unknown),
            (false, None, "true", yes),
            (true, None, "", yes),
        ] {
            assert_eq!(chosen(all, node, pod).is("web.ns", Some("uid")), expected, "{all} {node:?} {pod:?}");
        }
        let one = chosen(false, Some(""), "true");
        assert_eq!((one.is("web.ns", None), one.is("web.ns", Some("other"))), (yes, unknown));
        assert_eq!((one.is("gone.ns", Some("uid")), chosen(true, None, "").is("gone.ns", None)), (unknown, yes));
    }
}
