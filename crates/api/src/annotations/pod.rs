//! The annotations by which a pod's author asks for addresses and limits.

use super::{
    ALLOCATED, IP_ADDRESS, IP_FAMILY, IP_POOL, LOGICAL_SWITCH, Limits, MAC_ADDRESS, MIRROR, NORTH_GATEWAY, Netem,
    PORT_SECURITY, PodRoute, Reader, is_object_name,
};
use crate::{Addresses, Families, FieldError, Mac, PodView, ValueError};

/// The addresses that a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodIps {
    /// Any free addresses.
    #[default]
    Any,
    /// Exactly these.
    Exact(Addresses),
    /// The first free one of these.
    FirstFree(Vec<Addresses>),
    /// Any free addresses of the `IPPool` with this name.
    Pool(String),
}

/// The network settings that a pod asks for.
///
/// Each part is read separately: an annotation that cannot be read does not affect the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWant {
    /// The part that decides the pod's addresses. An error here leaves the pod without addresses.
    pub address: Result<AddressWant, FieldError>,
    /// The limits of the pod's traffic.
    pub limits: Limits,
    /// More routes of the pod. The node acts on them when the pod starts.
    pub routes: Result<Vec<PodRoute>, FieldError>,
    /// What happens to packets on their way into the pod. The node acts on it.
    pub netem: Result<Option<Netem>, FieldError>,
    /// Whether the pod's packets are mirrored. `None` means the default of the node.
    pub mirror: Result<Option<bool>, FieldError>,
    /// The next hop of its traffic that leaves the cluster.
    pub north_gateway: Result<Option<Addresses>, FieldError>,
    /// Whether the pod can send only from its own addresses. `None` means the default of the installation.
    pub port_security: Result<Option<bool>, FieldError>,
}

/// The addresses that a pod asks for, and the subnet.
///
/// On a pod with `allocated: "true"`, the annotations `logical_switch`, `ip_address` and `mac_address` are the result that
/// the controller wrote, which [`Placement`](super::Placement) reads. They are read as a request only on other pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressWant {
    /// The subnet; `None` means the subnet of the namespace.
    pub switch: Option<String>,
    /// The addresses.
    pub ips: PodIps,
    /// The families of the addresses; `None` means all families of the subnet.
    pub families: Option<Families<()>>,
    /// The MAC; `None` means any.
    pub mac: Option<Mac>,
}

impl Default for PodWant {
    fn default() -> Self {
        Self {
            address: Ok(AddressWant::default()),
            limits: Limits::default(),
            routes: Ok(Vec::new()),
            netem: Ok(None),
            mirror: Ok(None),
            north_gateway: Ok(None),
            port_security: Ok(None),
        }
    }
}

impl PodWant {
    /// Reads the annotations of `pod`. A pod of a `StatefulSet` gets the entry of `ip_pool` at its ordinal.
    pub fn parse(pod: &PodView) -> Self {
        let reader = Reader::new(pod.object(), pod.annotations());
        Self {
            address: AddressWant::read(pod, &reader),
            limits: Limits::read(&reader),
            routes: PodRoute::read(pod.object(), pod.annotations()),
            netem: Netem::read(pod.object(), pod.annotations()),
            mirror: reader.flag(MIRROR),
            north_gateway: reader.parse(NORTH_GATEWAY),
            port_security: reader.flag(PORT_SECURITY),
        }
    }

    /// The errors of the annotations that cannot be read, those of the address first.
    pub fn unreadable(&self) -> impl Iterator<Item = &FieldError> {
        let Self { address, limits, routes, netem, mirror, north_gateway, port_security } = self;
        let others = [
            routes.as_ref().err(),
            netem.as_ref().err(),
            mirror.as_ref().err(),
            north_gateway.as_ref().err(),
            port_security.as_ref().err(),
        ];
        address.as_ref().err().into_iter().chain(&limits.unreadable).chain(others.into_iter().flatten())
    }
}

impl AddressWant {
    fn read(pod: &PodView, reader: &Reader<'_>) -> Result<Self, FieldError> {
        let settled = reader.is_true(ALLOCATED);
        let exact = if settled { None } else { reader.parse(IP_ADDRESS)? };
        let ips = match exact {
            Some(ips) => PodIps::Exact(ips),
            None => reader.parse_with(IP_POOL, |text| pool(pod, text))?.unwrap_or_default(),
        };
        let families = reader.parse_with(IP_FAMILY, family)?;
        let named = match &ips {
            PodIps::Exact(ips) => std::slice::from_ref(ips),
            PodIps::FirstFree(list) => list,
            PodIps::Any | PodIps::Pool(_) => &[],
        };
        if let Some(odd) = families.and_then(|families| named.iter().find(|ips| ips.only(&families) != Some(**ips))) {
            return Err(reader.error(IP_FAMILY, format_args!("{odd} is of another family")));
        }
        Ok(Self {
            switch: if settled { None } else { reader.parse_with(LOGICAL_SWITCH, subnet)? },
            ips,
            families,
            mac: if settled { None } else { reader.parse(MAC_ADDRESS)? },
        })
    }
}

fn subnet(text: &str) -> Result<String, String> {
    if is_object_name(text) { Ok(text.to_owned()) } else { Err(format!("{text:?} cannot be the name of a subnet")) }
}

fn family(text: &str) -> Result<Families<()>, String> {
    match text.to_ascii_lowercase().as_str() {
        "ipv4" => Ok(Families::V4(())),
        "ipv6" => Ok(Families::V6(())),
        "dual" => Ok(Families::Dual { v4: (), v6: () }),
        _ => Err(format!("{text:?} is none of ipv4, ipv6 and dual")),
    }
}

/// Parses `ip1,ip2`, or `v4,v6;v4,v6` for dual stack, or the name of an `IPPool`.
fn pool(pod: &PodView, text: &str) -> Result<PodIps, String> {
    // A text of digits and dots alone is meant as an address.
    if is_object_name(text) && text.contains(|c: char| c.is_ascii_lowercase()) {
        return Ok(PodIps::Pool(text.to_owned()));
    }
    let separator = if text.contains(';') { ';' } else { ',' };
    let entries: Vec<Addresses> = text
        .split(separator)
        .filter(|entry| !entry.trim().is_empty())
        .map(str::parse)
        .collect::<Result<_, ValueError>>()
        .map_err(|e| e.to_string())?;
    // `v4,v6` alone could be one dual-stack entry or two single ones. kube-ovn reads it as one entry.
    let entries = match entries.as_slice() {
        [Addresses::V4(v4), Addresses::V6(v6)] => vec![Addresses::Dual { v4: *v4, v6: *v6 }],
        _ => entries,
    };
    match pod.stateful_set() {
        None if entries.is_empty() => Err("no address in it".to_owned()),
        None => Ok(PodIps::FirstFree(entries)),
        Some((set, ordinal)) => {
            let entry = entries.get(ordinal);
            entry.copied().map(PodIps::Exact).ok_or_else(|| {
                format!("it has {} addresses, none for number {ordinal} of stateful set {set}", entries.len())
            })
        }
    }
}
