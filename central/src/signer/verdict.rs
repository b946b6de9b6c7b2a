//! Who may have which key without an administrator. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use keys::{Identity, Role};
use uuid::Uuid;

/// The name that the controller's replicas share.
const CONTROLLER: &str = "kube-ovn-controller";
/// The account of the agents.
const AGENT: &str = "kube-ovn-cni";
/// What the API server says of a token of a pod: the node of the pod.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Who asks, as the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The name of the account.
    pub user: String,
    /// The node of the pod that asks.
    pub node: Option<String>,
}

/// What a request says beside the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// The node or external host of the chassis.
    pub holder: Option<&'a str>,
    /// Whether it is for a private key that has a certificate for the same identity now.
    pub renews: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is approved, for this reason.
    Approve(&'static str),
    /// An administrator decides, for this reason.
    Leave(&'static str),
    /// It says something that is not so.
    Refuse(&'static str),
}

impl Asker {
    /// Returns who has made a request.
    pub fn of(request: &CertificateSigningRequest) -> Self {
        let node = request.spec.extra.as_ref().and_then(|extra| match extra.get(NODE_NAME).map(Vec::as_slice) {
            Some([node]) => Some(node.clone()),
            _ => None,
        });
        Self { user: request.spec.username.clone().unwrap_or_default(), node }
    }

    /// Returns whether the agent of a node asks for the chassis that the name of its node gives. No annotation of another node
    /// changes that.
    pub fn is_named_by_node(&self, wanted: &Identity, namespace: &str) -> bool {
        wanted.role == Role::Chassis
            && self.is(AGENT, namespace)
            && self.node.as_deref().is_some_and(|node| ovn::local::chassis_of(node) == wanted.name)
    }

    /// Returns whether an account with the controller's name asks, in any namespace.
    pub fn is_controller(&self) -> bool {
        self.user.starts_with("system:serviceaccount:") && self.user.ends_with(&format!(":{CONTROLLER}"))
    }

    fn is(&self, account: &str, namespace: &str) -> bool {
        self.user == format!("system:serviceaccount:{namespace}:{account}")
    }
}

/// What is known of a chassis, beside the request.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The host that the southbound database has for this chassis. Only whoever has its key can have written it.
    pub registered: Option<String>,
    /// The nodes that are annotated with it. Whoever is root on a node can write that.
    pub annotated: BTreeSet<String>,
    /// All nodes and external hosts.
    pub all: BTreeSet<String>,
}

impl Known {
    /// Returns the node or external host that has the chassis, if that is sure.
    fn holder(&self) -> Option<&str> {
        let named = self.all.iter().find(|holder| self.is_named(holder));
        let registered = self.registered.as_ref().filter(|holder| self.all.contains(*holder));
        named.or(registered).map(String::as_str)
    }

    /// Returns whether the name of a node or external host gives the name of this chassis.
    fn is_named(&self, holder: &str) -> bool {
        ovn::local::chassis_of(holder) == self.name
    }

    /// Returns whether a node can take the name for its chassis, as after it was set up anew: nobody else has it, and nobody will.
    /// One that follows from the name of a host (a UUID of version 5) is that of this host, also before the host is there.
    fn is_free_for(&self, node: &str) -> bool {
        let follows = Uuid::parse_str(&self.name).is_ok_and(|id| id.get_version_num() == 5);
        !follows && self.registered.is_none() && self.annotated.iter().all(|other| other == node)
    }
}

/// Decides. `namespace` is that of the accounts.
pub fn verdict(wanted: &Identity, asker: &Asker, claims: &Claims<'_>, namespace: &str, known: &Known) -> Verdict {
    if asker.is_named_by_node(wanted, namespace) {
        return Verdict::Approve("the agent of the node asks for the key of its chassis");
    }
    match wanted.role {
        Role::Controller if claims.holder.is_some() => Verdict::Refuse("the label says that it is for a chassis"),
        Role::Controller if asker.is(CONTROLLER, namespace) && wanted.name == CONTROLLER => {
            Verdict::Approve("the account of the controller asks for its key")
        }
        Role::Chassis => of_chassis(asker.node.as_deref().filter(|_| asker.is(AGENT, namespace)), claims, known),
        _ => Verdict::Leave("the account is not one that gets such a key by itself"),
    }
}

/// A chassis gets its key if the agent of its node asks, or whoever has the key now.
fn of_chassis(node: Option<&str>, claims: &Claims<'_>, known: &Known) -> Verdict {
    let holder = known.holder();
    // One that is not there yet has the chassis that its name gives.
    let is_so = |claimed: &str| match holder {
        Some(holder) => claimed == holder,
        None => node == Some(claimed) || known.annotated.contains(claimed) || known.is_named(claimed),
    };
    if claims.holder.is_some_and(|claimed| !is_so(claimed)) {
        return Verdict::Refuse("the label says that it is for another node or external host than that of the chassis");
    }
    match (holder, node) {
        (Some(holder), Some(node)) if node == holder => {
            Verdict::Approve("the agent of the node asks for the key of its chassis")
        }
        // The agent of another node has no business with it, whatever it has.
        (Some(_), None) if claims.renews => Verdict::Approve("the holder of a key asks for its next certificate"),
        (None, Some(node)) if known.all.contains(node) && known.is_free_for(node) => {
            Verdict::Approve("the agent of the node asks for the key of a chassis that nobody else has")
        }
        (_, Some(_)) => Verdict::Leave("the chassis is not that of the agent's node"),
        (_, None) => Verdict::Leave("nothing proves that it is the holder who asks"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn agent(node: Option<&str>) -> Asker {
        Asker { user: "system:serviceaccount:kube-system:kube-ovn-cni".to_owned(), node: node.map(str::to_owned) }
    }

    fn judged(wanted: &Identity, asker: &Asker, claims: Claims<'_>) -> Verdict {
        let all = BTreeSet::from(["n1", "n2", "n3", "n4", "n5", "outside"].map(str::to_owned));
        let annotations = [
            ("n2", "taken.over".to_owned()),
            ("n3", ovn::local::chassis_of("n3")),
            ("n4", ovn::local::chassis_of("outside")),
            ("n5", ovn::local::chassis_of("n3")),
            ("n5", "stolen.name".to_owned()),
            ("n4", "of.n2".to_owned()),
        ];
        let is_wanted = |(_, name): &&(&str, String)| *name == wanted.name;
        let registered = BTreeMap::from([("of.n2", "n2"), ("stolen.name", "outside"), ("of.nobody", "removed")]);
        let known = Known {
            name: wanted.name.clone(),
            registered: registered.get(wanted.name.as_str()).map(|host| (*host).to_owned()),
            annotated: annotations.iter().filter(is_wanted).map(|(node, _)| (*node).to_owned()).collect(),
            all,
        };
        verdict(wanted, asker, &claims, "kube-system", &known)
    }

    fn approved(wanted: &Identity, asker: &Asker) -> bool {
        matches!(judged(wanted, asker, Claims::default()), Verdict::Approve(_))
    }

    fn of(name: &str) -> Identity {
        Identity::new(Role::Chassis, name)
    }

    fn derived(node: &str) -> Identity {
        of(&ovn::local::chassis_of(node))
    }

    #[test]
    fn a_node_gets_the_key_of_its_own_chassis_only() {
        assert!(approved(&derived("n1"), &agent(Some("n1"))));
        assert!(approved(&derived("n3"), &agent(Some("n3"))), "n5 is annotated with it");
        assert!(approved(&of("taken.over"), &agent(Some("n2"))));
        assert!(approved(&of("of.n2"), &agent(Some("n2"))), "n4 is annotated with it");
        assert!(approved(&of("new"), &agent(Some("n1"))), "it was set up anew");
        for (wanted, asker) in [
            (derived("n2"), agent(Some("n1"))),
            (derived("n3"), agent(Some("n5"))),
            (of("taken.over"), agent(Some("n1"))),
            (of("of.n2"), agent(Some("n4"))),
            (derived("n1"), agent(None)),
            // Whoever is root on a node can annotate it. That takes nothing from others either.
            (derived("outside"), agent(Some("n4"))),
            (of("stolen.name"), agent(Some("n5"))),
            (of("of.nobody"), agent(Some("n1"))),
            (of("new"), agent(Some("nowhere"))),
            // The node is not there yet.
            (derived("n7"), agent(Some("n1"))),
            (Identity::new(Role::Controller, CONTROLLER), agent(Some("n1"))),
            (Identity::new(Role::Member, "n1"), agent(Some("n1"))),
            (
                derived("n1"),
                Asker { user: "system:serviceaccount:default:kube-ovn-cni".to_owned(), ..agent(Some("n1")) },
            ),
        ] {
            assert!(!approved(&wanted, &asker), "{wanted:?} {asker:?}");
        }
    }

    #[test]
    fn whoever_has_a_key_renews_it_as_long_as_its_machine_is_known() {
        let renewal = |wanted: &Identity| judged(wanted, &agent(None), Claims { renews: true, ..Claims::default() });
        assert!(matches!(renewal(&derived("n1")), Verdict::Approve(_)));
        assert!(matches!(renewal(&of("stolen.name")), Verdict::Approve(_)));
        assert!(matches!(renewal(&of("of.nobody")), Verdict::Leave(_)));
        assert!(matches!(renewal(&derived("removed")), Verdict::Leave(_)));
    }

    #[test]
    fn an_administrator_can_believe_the_label() {
        let labelled = |holder| judged(&derived("n1"), &agent(None), Claims { holder: Some(holder), renews: false });
        assert!(matches!(labelled("n1"), Verdict::Leave(_)));
        let of_tomorrow =
            judged(&derived("tomorrow"), &agent(None), Claims { holder: Some("tomorrow"), renews: false });
        assert!(matches!(of_tomorrow, Verdict::Leave(_)));
        let nobodys = judged(&of("nobody"), &agent(None), Claims { holder: Some("n1"), renews: false });
        assert!(matches!(nobodys, Verdict::Refuse(_)));
        let moved = judged(&of("taken.over"), &agent(None), Claims { holder: Some("n2"), renews: false });
        assert!(matches!(moved, Verdict::Leave(_)));
        let of_controller = judged(
            &Identity::new(Role::Controller, "lb1"),
            &agent(None),
            Claims { holder: Some("lb1"), renews: false },
        );
        assert!(matches!(of_controller, Verdict::Refuse(_)));
        let why = "the label says that it is for another node or external host than that of the chassis";
        assert_eq!(labelled("n2"), Verdict::Refuse(why));
    }

    #[test]
    fn the_agent_of_another_node_renews_no_key() {
        let renews = Claims { holder: None, renews: true };
        assert!(matches!(judged(&derived("n2"), &agent(None), renews), Verdict::Approve(_)));
        assert!(matches!(judged(&derived("n2"), &agent(Some("n1")), renews), Verdict::Leave(_)));
    }

    #[test]
    fn the_controller_gets_its_own_key() {
        let controller = Asker { user: "system:serviceaccount:kube-system:kube-ovn-controller".to_owned(), node: None };
        assert!(approved(&Identity::new(Role::Controller, CONTROLLER), &controller));
        assert!(!approved(&Identity::new(Role::Controller, "another"), &controller));
        assert!(!approved(&derived("n1"), &controller));
    }
}
