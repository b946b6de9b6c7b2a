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

/// What a pod's author wants of the network.
///
/// On a pod that has been given its addresses, `logical_switch`, `ip_address` and `mac_address` hold the result; there
/// is no telling any more who wrote them, and [`Placement`](super::Placement) has them. A wish for them is only read from
/// a pod without `allocated: "true"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodWant {
    /// The subnet, when it is not to be the namespace's.
    pub switch: Option<String>,
    /// The addresses.
    pub ips: PodIps,
    /// Of which families; none: of all that its subnet has.
    pub families: Option<Families<()>>,
    /// The MAC.
    pub mac: Option<Mac>,
    /// Limit of traffic into the pod.
    pub ingress: Option<Rate>,
    /// Limit of traffic out of the pod.
    pub egress: Option<Rate>,
    /// Burst into the pod, in bits.
    pub ingress_burst: Option<Rate>,
    /// Burst out of the pod, in bits.
    pub egress_burst: Option<Rate>,
    /// Whether its packets are mirrored; none: as the node does by default.
    pub mirror: Option<bool>,
    /// Whether it may only send from its own addresses.
    pub port_security: bool,
}

impl PodWant {
    /// Reads the wishes. In a `StatefulSet`, the pod with number n takes the n-th entry of `ip_pool`.
    pub fn parse(pod: &PodView) -> Result<Self, FieldError> {
        let reader = Reader::new(pod.object(), pod.annotations());
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
            ingress: rate(&reader, INGRESS_RATE, INGRESS_BANDWIDTH)?,
            egress: rate(&reader, EGRESS_RATE, EGRESS_BANDWIDTH)?,
            ingress_burst: reader.parse_with(INGRESS_BURST, Rate::parse_mbit)?.flatten(),
            egress_burst: reader.parse_with(EGRESS_BURST, Rate::parse_mbit)?.flatten(),
            mirror: reader.flag(MIRROR)?,
            port_security: reader.flag(PORT_SECURITY)?.unwrap_or_default(),
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
