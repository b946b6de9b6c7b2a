//! What a host end says of its attachment: the alias of the link. The record of attachments is the Interface rows of Open
//! vSwitch, and the alias is what they are made from again if that database is lost.

use cni_wire::rpc::Attachment;

use crate::seen::{Pod, Seen};

/// The first word of an alias of ours.
const OURS: &str = "kube-ovn";
/// The word for a value that is not known.
const UNKNOWN: &str = "-";
/// The longest alias that the kernel accepts, in bytes (`IFALIASZ`, with its final zero).
const LONGEST: usize = 255;

/// What is needed to connect a container again, besides what the API server knows of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The container.
    pub container_id: String,
    /// The name of the interface in the container.
    pub ifname: String,
    /// The pod's uid as the runtime knows it.
    pub pod_uid: String,
    /// The path of the container's network namespace.
    pub netns: Option<String>,
}

impl Label {
    /// Returns the label of an attachment, or `None` if the runtime does not say which pod it is for.
    pub fn of(attachment: &Attachment) -> Option<Self> {
        Some(Self {
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            pod_uid: attachment.pod_uid.clone()?,
            netns: attachment.netns.clone(),
        })
    }

    /// Returns the alias, or `None` if it is too long or could not be read again. A long path of the namespace is left
    /// out.
    pub fn print(&self) -> Option<String> {
        let with = |netns: Option<&str>| {
            let words = [OURS, &self.container_id, &self.ifname, &self.pod_uid, netns.unwrap_or(UNKNOWN)];
            let plain = words.iter().all(|word| !word.is_empty() && !word.contains(char::is_whitespace));
            Some(words.join(" ")).filter(|text| plain && text.len() <= LONGEST)
        };
        with(self.netns.as_deref()).or_else(|| with(None))
    }

    /// Reads an alias. Returns `None` if it is not ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let words: Vec<&str> = alias.split(' ').collect();
        let [OURS, container_id, ifname, pod_uid, netns] = words[..] else { return None };
        Some(Self {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            pod_uid: pod_uid.to_owned(),
            netns: (netns != UNKNOWN).then(|| netns.to_owned()),
        })
    }

    /// Returns the attachment, if its pod exists.
    pub fn attachment(self, pods: &Seen<Pod>) -> Option<Attachment> {
        let (name, _) = pods.objects.iter().find(|(_, pod)| pod.has_uid(&self.pod_uid))?;
        // A pod's name can contain dots, a namespace's cannot.
        let (pod_name, pod_namespace) = name.rsplit_once('.')?;
        Some(Attachment {
            cni_version: String::new(),
            container_id: self.container_id,
            netns: self.netns,
            ifname: self.ifname,
            pod_name: pod_name.to_owned(),
            pod_namespace: pod_namespace.to_owned(),
            pod_uid: Some(self.pod_uid),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(netns: &str) -> Label {
        Label {
            container_id: "9688b4ab4bec4827ff6b".repeat(3),
            ifname: "eth0".to_owned(),
            pod_uid: "cb2c1dd5-6e9e-4c7f-9b8b-000000000001".to_owned(),
            netns: Some(netns.to_owned()),
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        let usual = label("/var/run/netns/cni-1f0e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
        assert_eq!(Label::parse(&usual.print().unwrap()), Some(usual));
        // A path that is too long or has a space is left out.
        for odd in ["/long".repeat(50), "/with space".to_owned()] {
            let without = Label { netns: None, ..label("") };
            assert_eq!(Label::parse(&label(&odd).print().unwrap()), Some(without));
        }
        assert_eq!(Label { pod_uid: "a b".to_owned(), ..label("/a") }.print(), None);
        for other in ["", "kube-ovn", "uplink to rack 4", "kube-ovn a b c d e"] {
            assert_eq!(Label::parse(other), None, "{other}");
        }
    }
}
