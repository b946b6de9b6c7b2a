//! The annotations by which a pod's author asks for addresses and limits.

use super::{
    ALLOCATED, EGRESS_BANDWIDTH, EGRESS_BURST, EGRESS_RATE, INGRESS_BANDWIDTH, INGRESS_BURST, INGRESS_RATE, IP_ADDRESS,
    IP_FAMILY, IP_POOL, LOGICAL_SWITCH, MAC_ADDRESS, MIRROR, Netem, PORT_SECURITY, Reader, is_object_name,
};
use crate::{Addresses, Families, FieldError, Mac, PodView, Rate, ValueError};

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

/// A limit of a pod's traffic in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate in kbit/s, at least 1.
    pub rate: u32,
    /// The burst in kbit, at least 1.
    pub burst: u32,
}

/// What a pod's annotations say about a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitWant {
    /// No limit.
    #[default]
    None,
    /// This limit.
    Limit(Limit),
    /// They cannot be read: the last limit stays.
    Unreadable,
}

impl LimitWant {
    /// Without a burst, it is what passes in 0.8 s: with less, TCP does not reach the rate.
    fn of(rate: &Result<Option<Rate>, FieldError>, burst: &Result<Option<Rate>, FieldError>) -> Self {
        let (Ok(rate), Ok(burst)) = (rate, burst) else { return Self::Unreadable };
        let Some(rate) = rate else { return Self::None };
        let kbits = |bits: u64| u32::try_from(bits.clamp(1, u64::from(u32::MAX))).unwrap_or(u32::MAX);
        let burst = burst.map_or(rate.kbits() / 5 * 4 + rate.kbits() % 5 * 4 / 5, Rate::kbits);
        Self::Limit(Limit { rate: kbits(rate.kbits()), burst: kbits(burst) })
    }
}

/// The network settings that a pod asks for.
///
/// Each part is read separately: an annotation that cannot be read does not affect the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWant {
    /// The part that decides the pod's addresses. An error here leaves the pod without addresses.
    pub address: Result<AddressWant, FieldError>,
    /// The limit of traffic into the pod.
    pub ingress: Result<Option<Rate>, FieldError>,
    /// The limit of traffic out of the pod.
    pub egress: Result<Option<Rate>, FieldError>,
    /// The burst of traffic into the pod, in bits.
    pub ingress_burst: Result<Option<Rate>, FieldError>,
    /// The burst of traffic out of the pod, in bits.
    pub egress_burst: Result<Option<Rate>, FieldError>,
    /// What happens to packets on their way into the pod. The node acts on it.
    pub netem: Result<Option<Netem>, FieldError>,
    /// Whether the pod's packets are mirrored. `None` means the default of the node.
    pub mirror: Result<Option<bool>, FieldError>,
    /// Whether the pod can send only from its own addresses.
    pub port_security: Result<bool, FieldError>,
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
            ingress: Ok(None),
            egress: Ok(None),
            ingress_burst: Ok(None),
            egress_burst: Ok(None),
            netem: Ok(None),
            mirror: Ok(None),
            port_security: Ok(false),
        }
    }
}

impl PodWant {
    /// Reads the annotations of `pod`. A pod of a `StatefulSet` gets the entry of `ip_pool` at its ordinal.
    pub fn parse(pod: &PodView) -> Self {
        let reader = Reader::new(pod.object(), pod.annotations());
        Self {
            address: AddressWant::read(pod, &reader),
            ingress: rate(&reader, INGRESS_RATE, INGRESS_BANDWIDTH),
            egress: rate(&reader, EGRESS_RATE, EGRESS_BANDWIDTH),
            ingress_burst: reader.parse_with(INGRESS_BURST, Rate::parse_mbit).map(Option::flatten),
            egress_burst: reader.parse_with(EGRESS_BURST, Rate::parse_mbit).map(Option::flatten),
            netem: Netem::read(pod.object(), pod.annotations()),
            mirror: reader.flag(MIRROR),
            port_security: reader.flag(PORT_SECURITY).map(Option::unwrap_or_default),
        }
    }

    /// The limit of traffic into the pod.
    pub fn ingress_limit(&self) -> LimitWant {
        LimitWant::of(&self.ingress, &self.ingress_burst)
    }

    /// The limit of traffic out of the pod.
    pub fn egress_limit(&self) -> LimitWant {
        LimitWant::of(&self.egress, &self.egress_burst)
    }

    /// The errors of the annotations that cannot be read, those of the address first.
    pub fn unreadable(&self) -> impl Iterator<Item = &FieldError> {
        let Self { address, ingress, egress, ingress_burst, egress_burst, netem, mirror, port_security } = self;
        let parts = [
            address.as_ref().err(),
            ingress.as_ref().err(),
            egress.as_ref().err(),
            ingress_burst.as_ref().err(),
            egress_burst.as_ref().err(),
            netem.as_ref().err(),
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

/// The rate in the annotation `ours`, or else in the annotation `kubernetes`. When `ours` cannot be read, the result is an
/// error, even if `kubernetes` can be read.
fn rate(reader: &Reader<'_>, ours: &str, kubernetes: &str) -> Result<Option<Rate>, FieldError> {
    match reader.parse_with(ours, Rate::parse_mbit)? {
        Some(rate) => Ok(rate),
        None => reader.parse(kubernetes),
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
