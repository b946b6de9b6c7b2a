//! A pod's annotations: what its author wants of the network.

use super::{
    ALLOCATED, EGRESS_BANDWIDTH, EGRESS_BURST, EGRESS_RATE, INGRESS_BANDWIDTH, INGRESS_BURST, INGRESS_RATE, IP_ADDRESS,
    IP_FAMILY, IP_POOL, LOGICAL_SWITCH, MAC_ADDRESS, MIRROR, PORT_SECURITY, Reader, is_object_name,
};
use crate::{Addresses, Families, FieldError, Mac, PodView, Rate, ValueError};

/// Which addresses a pod's author wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodIps {
    /// Whatever is free.
    #[default]
    Any,
    /// Exactly these.
    Exact(Addresses),
    /// The first free one of these.
    FirstFree(Vec<Addresses>),
    /// Any of the `IPPool` of this name.
    Pool(String),
}

/// What a pod's author wants of the network, each part by itself: one annotation that cannot be read takes nothing from
/// the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWant {
    /// What decides the pod's addresses; an error here leaves the pod without any.
    pub address: Result<AddressWant, FieldError>,
    /// The limit of traffic into the pod.
    pub ingress: Result<Option<Rate>, FieldError>,
    /// The limit of traffic out of the pod.
    pub egress: Result<Option<Rate>, FieldError>,
    /// The burst into the pod, in bits.
    pub ingress_burst: Result<Option<Rate>, FieldError>,
    /// The burst out of the pod, in bits.
    pub egress_burst: Result<Option<Rate>, FieldError>,
    /// Whether the pod's packets are mirrored; none: as the node does by default.
    pub mirror: Result<Option<bool>, FieldError>,
    /// Whether the pod may only send from its own addresses.
    pub port_security: Result<bool, FieldError>,
}

/// What a pod's author wants of its addresses.
///
/// On a pod that has been given its addresses, `logical_switch`, `ip_address` and `mac_address` hold the result, and
/// nothing tells any more who wrote them; [`Placement`](super::Placement) reads them. They are only read as a wish from a
/// pod without `allocated: "true"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressWant {
    /// The subnet, when it is not the namespace's.
    pub switch: Option<String>,
    /// The addresses.
    pub ips: PodIps,
    /// The families of the addresses; none: all that its subnet has.
    pub families: Option<Families<()>>,
    /// The MAC.
    pub mac: Option<Mac>,
}

impl Default for PodWant {
    fn default() -> Self {
        Self {
            address: Ok(AddressWant::default()),
            ingress: Ok(None),
            egress: Ok(None),
            ingress_burst: Ok(None),
            egress_burst: Ok(None),
            mirror: Ok(None),
            port_security: Ok(false),
        }
    }
}

impl PodWant {
    /// Reads the annotations. In a `StatefulSet`, the pod with number n takes the n-th entry of `ip_pool`.
    pub fn parse(pod: &PodView) -> Self {
        let reader = Reader::new(pod.object(), pod.annotations());
        Self {
            address: AddressWant::read(pod, &reader),
            ingress: rate(&reader, INGRESS_RATE, INGRESS_BANDWIDTH),
            egress: rate(&reader, EGRESS_RATE, EGRESS_BANDWIDTH),
            ingress_burst: reader.parse_with(INGRESS_BURST, Rate::parse_mbit).map(Option::flatten),
            egress_burst: reader.parse_with(EGRESS_BURST, Rate::parse_mbit).map(Option::flatten),
            mirror: reader.flag(MIRROR),
            port_security: reader.flag(PORT_SECURITY).map(Option::unwrap_or_default),
        }
    }

    /// The annotations that cannot be read, those of the address first.
    pub fn unreadable(&self) -> impl Iterator<Item = &FieldError> {
        let Self { address, ingress, egress, ingress_burst, egress_burst, mirror, port_security } = self;
        let parts = [
            address.as_ref().err(),
            ingress.as_ref().err(),
            egress.as_ref().err(),
            ingress_burst.as_ref().err(),
            egress_burst.as_ref().err(),
            mirror.as_ref().err(),
            port_security.as_ref().err(),
        ];
        parts.into_iter().flatten()
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
            return Err(reader.error(IP_FAMILY, format_args!("{odd} is asked for, which is of another family")));
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

/// The rate in our annotation, else the one in Kubernetes' own. One of ours that cannot be read is an error, and does not
/// hand over to the other.
fn rate(reader: &Reader<'_>, ours: &str, kubernetes: &str) -> Result<Option<Rate>, FieldError> {
    match reader.parse_with(ours, Rate::parse_mbit)? {
        Some(rate) => Ok(rate),
        None => reader.parse(kubernetes),
    }
}

/// `ip1,ip2`, or for dual stack `v4,v6;v4,v6`, or the name of an `IPPool`.
fn pool(pod: &PodView, text: &str) -> Result<PodIps, String> {
    // Digits and dots alone are an address, or meant to be one.
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
    // `v4,v6` alone is one dual-stack entry as much as it is two single ones; kube-ovn reads it as one.
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
