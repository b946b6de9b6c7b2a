//! Tests of the limits of traffic: those of a pod, and the defaults of its namespace and its subnet.

use super::*;

const NET: &str = "10.33.0.0/24";

/// Annotations from pairs of a name and a value, separated by commas: `ingress_rate=10,egress_rate=0`.
fn said(text: &str) -> Value {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("ovn.kubernetes.io/{name}") };
    pairs.map(|(name, value)| (full(name), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

/// The namespace `blue` and its subnet `net`.
struct Levels(Scene);

impl Levels {
    fn new() -> Self {
        let mut levels = Self(Scene::new());
        levels.namespace("");
        levels.subnet("");
        levels
    }

    fn namespace(&mut self, annotations: &str) {
        self.0.namespace("blue", said(annotations));
    }

    fn subnet_object(annotations: &str) -> Subnet {
        let mut subnet = subnet("net", json!({ "cidrBlock": NET, "namespaces": ["blue"] }));
        subnet.metadata.annotations = Some(object(said(annotations)));
        subnet
    }

    fn subnet(&mut self, annotations: &str) {
        self.0.apply(Event::Subnets(WatchEvent::Apply(Self::subnet_object(annotations))));
    }

    fn pod(&mut self, name: &str, annotations: &str) -> String {
        self.0.pod(&format!("blue/{name}"), said(annotations));
        self.limits(name)
    }

    /// The limits of a pod in kbit/s and kbit: `<into it> <out of it>`.
    fn limits(&self, name: &str) -> String {
        let port = self.0.engine.world.port(&format!("{name}.blue")).unwrap();
        let show = |limit: Option<api::annotations::Limit>| {
            limit.map_or_else(|| "-".to_owned(), |limit| format!("{}/{}", limit.rate, limit.burst))
        };
        format!("{} {}", show(port.ingress), show(port.egress))
    }

    /// Another replica leads.
    fn lead(&mut self) {
        let replica = recovery::written(&self.0);
        self.0.engine = Engine::recover(install(), &self.0.cluster, &replica);
    }

    fn events(&self, object: &Object) -> Vec<String> {
        let remarks = self.0.engine.remarks(&self.0.cluster, object).into_iter();
        remarks.map(|remark| format!("{}: {}", remark.reason, remark.message)).collect()
    }

    /// The message of the condition `Unserved` of the subnet.
    fn condition(&self) -> String {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let write = crate::visible::status(&self.0.engine, &self.0.cluster, &Object::Subnet("net".into()), now);
        let status = write.unwrap().patch()["status"].clone();
        let conditions = status["conditions"].as_array().unwrap().iter();
        let mut unserved = conditions.filter(|condition| condition["type"] == "Unserved");
        unserved.next().map_or_else(String::new, |condition| condition["message"].as_str().unwrap().to_owned())
    }
}

#[test]
fn the_nearest_that_says_something_decides_for_each_direction() {
    for (pod, namespace, subnet, expected) in [
        ("", "", "", "- -"),
        ("", "", "ingress_rate=3", "3000/2400 -"),
        ("", "ingress_rate=2", "ingress_rate=3", "2000/1600 -"),
        ("ingress_rate=1", "ingress_rate=2", "ingress_rate=3", "1000/800 -"),
        ("ingress_rate=0", "ingress_rate=2", "ingress_rate=3", "- -"),
        ("", "ingress_rate=0", "ingress_rate=3", "- -"),
        ("ingress_rate=1", "egress_rate=2", "ingress_rate=3,egress_rate=3", "1000/800 2000/1600"),
        ("kubernetes.io/egress-bandwidth=1M", "egress_rate=2", "", "- 1000/800"),
        ("", "kubernetes.io/egress-bandwidth=2M", "egress_rate=3", "- 2000/1600"),
        ("", "", "kubernetes.io/ingress-bandwidth=3M", "3000/2400 -"),
        // A burst belongs to the rate beside it.
        ("ingress_burst=9", "ingress_rate=2", "", "2000/1600 -"),
        ("", "ingress_rate=2,ingress_burst=9", "ingress_rate=3,ingress_burst=8", "2000/9000 -"),
        ("", "ingress_burst=9", "ingress_rate=3", "3000/2400 -"),
    ] {
        let mut levels = Levels::new();
        levels.namespace(namespace);
        levels.subnet(subnet);
        assert_eq!(levels.pod("a", pod), expected, "{pod:?}, {namespace:?}, {subnet:?}");
        levels.lead();
        assert_eq!(levels.limits("a"), expected, "a new leader: {pod:?}, {namespace:?}, {subnet:?}");
        let mut levels = Levels::new();
        levels.pod("a", pod);
        levels.subnet(subnet);
        levels.namespace(namespace);
        assert_eq!(levels.limits("a"), expected, "the pod comes first: {pod:?}, {namespace:?}, {subnet:?}");
    }
}

#[test]
fn for_a_new_pod_what_cannot_be_read_is_absent() {
    for (pod, namespace, subnet, expected) in [
        ("ingress_rate=fast", "ingress_rate=2", "", "2000/1600 -"),
        ("", "ingress_rate=fast,egress_rate=2", "ingress_rate=3", "3000/2400 2000/1600"),
        ("", "ingress_rate=2,ingress_burst=large", "ingress_rate=3", "3000/2400 -"),
        ("ingress_rate=1", "ingress_rate=fast", "ingress_rate=fast", "1000/800 -"),
        ("ingress_rate=0,ingress_burst=large", "ingress_rate=2", "", "- -"),
        ("", "", "ingress_rate=-1", "- -"),
    ] {
        let mut levels = Levels::new();
        levels.namespace(namespace);
        levels.subnet(subnet);
        assert_eq!(levels.pod("a", pod), expected, "{pod:?}, {namespace:?}, {subnet:?}");
        levels.lead();
        assert_eq!(levels.limits("a"), expected, "a new leader: {pod:?}, {namespace:?}, {subnet:?}");
    }
}

#[test]
fn running_pods_follow_their_defaults_and_no_others_are_looked_at() {
    let mut levels = Levels::new();
    levels.namespace("ingress_rate=10");
    assert_eq!(levels.pod("a", ""), "10000/8000 -");
    assert_eq!(levels.pod("own", "ingress_rate=1"), "1000/800 -");
    levels.0.pod("default/other", json!({}));
    levels.0.engine.take_unpublished();
    levels.namespace("ingress_rate=20");
    assert_eq!((levels.limits("a").as_str(), levels.limits("own").as_str()), ("20000/16000 -", "1000/800 -"));
    let looked_at = levels.0.engine.take_unpublished();
    assert!(looked_at.contains(&Object::Pod("a.blue".into())), "{looked_at:?}");
    assert!(!looked_at.contains(&Object::Pod("other.default".into())), "{looked_at:?}");
    // The default of the subnet, where the namespace says nothing. The namespace's new subnet is that of new pods only.
    levels.namespace("");
    levels.subnet("egress_rate=5");
    assert_eq!(levels.limits("a"), "- 5000/4000");
    levels.0.engine.take_unpublished();
    levels.subnet("egress_rate=5,note=x");
    assert!(!levels.0.engine.take_unpublished().contains(&Object::Pod("a.blue".into())), "nothing to decide");
    levels.0.subnet("net", json!({ "cidrBlock": NET }));
    assert_eq!(levels.limits("a"), "- -", "the annotation is gone");
    let mut second = subnet("second", json!({ "cidrBlock": "10.34.0.0/24", "namespaces": ["blue"] }));
    second.metadata.annotations = Some(object(said("egress_rate=7")));
    levels.0.apply(Event::Subnets(WatchEvent::Apply(second)));
    assert_eq!(levels.limits("a"), "- -");
    assert_eq!(levels.pod("b", ""), "- 7000/5600");
}

#[test]
fn a_default_that_cannot_be_read_leaves_the_limits_of_running_pods_and_is_reported() {
    let mut levels = Levels::new();
    levels.namespace("ingress_rate=10");
    levels.subnet("egress_rate=5");
    assert_eq!(levels.pod("a", ""), "10000/8000 5000/4000");
    levels.namespace("ingress_rate=fast");
    levels.subnet("egress_rate=5M");
    for _ in 0..2 {
        assert_eq!(levels.limits("a"), "10000/8000 5000/4000");
        assert_eq!(levels.pod("own", "ingress_rate=1,egress_rate=0"), "1000/800 -");
        let [event] = levels.events(&Object::Namespace("blue".into())).try_into().unwrap();
        let (why, instead) = event.split_once("; ").unwrap();
        assert!(
            why.starts_with("UnreadableAnnotation: namespace blue: annotation ovn.kubernetes.io/ingress_rate: "),
            "{why}"
        );
        assert_eq!(instead, "it is ignored, what was in force before stays");
        let condition = levels.condition();
        assert!(condition.starts_with("subnet net: annotation ovn.kubernetes.io/egress_rate: "), "{condition}");
        assert!(condition.ends_with("; it is ignored, what was in force before stays"), "{condition}");
        assert_eq!(levels.events(&Object::Pod("a.blue".into())), [""; 0], "the pod's annotations are in order");
        levels.lead();
    }
    assert_eq!(levels.pod("new", ""), "- -");
    levels.namespace("ingress_rate=20");
    levels.subnet("");
    assert_eq!((levels.limits("a").as_str(), levels.limits("new").as_str()), ("20000/16000 -", "20000/16000 -"));
    assert_eq!((levels.events(&Object::Namespace("blue".into())), levels.condition()), (vec![], String::new()));
}

#[test]
fn the_pods_of_a_subnet_that_was_deleted_by_force_keep_its_default() {
    let mut levels = Levels::new();
    levels.subnet("egress_rate=5");
    assert_eq!(levels.pod("a", ""), "- 5000/4000");
    levels.0.apply(Event::Subnets(WatchEvent::Delete(Levels::subnet_object("egress_rate=5"))));
    assert_eq!(levels.limits("a"), "- 5000/4000");
    levels.lead();
    assert_eq!(levels.limits("a"), "- 5000/4000");
    levels.subnet("egress_rate=6");
    assert_eq!(levels.limits("a"), "- 6000/4800");
}
