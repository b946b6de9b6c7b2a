//! The annotations that limit the traffic of pods: of one pod, of all pods of a namespace, or of all pods of a subnet.

use std::collections::BTreeMap;

use super::{EGRESS_BANDWIDTH, EGRESS_BURST, EGRESS_RATE, INGRESS_BANDWIDTH, INGRESS_BURST, INGRESS_RATE, Reader};
use crate::{FieldError, Rate, Subnet};

/// A limit of a pod's traffic in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The rate in kbit/s, at least 1.
    pub rate: u32,
    /// The burst in kbit, at least 1.
    pub burst: u32,
}

/// What the annotations of an object say about the limit in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitWant {
    /// Nothing: another object decides.
    #[default]
    Unset,
    /// There is no limit.
    Unlimited,
    /// This limit.
    Limit(Limit),
    /// They cannot be read: the last limit stays.
    Unreadable,
}

/// What the annotations of a pod, a namespace or a subnet say about the limits of pods' traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The limit of traffic into a pod.
    pub ingress: LimitWant,
    /// The limit of traffic out of a pod.
    pub egress: LimitWant,
    /// The errors of the annotations that cannot be read.
    pub unreadable: Vec<FieldError>,
}

impl Limits {
    /// Reads the annotations of `subnet`, which are the defaults of its pods.
    pub fn of_subnet(subnet: &Subnet) -> Self {
        let annotations = subnet.metadata.annotations.as_ref();
        annotations.map_or_else(Self::default, |annotations| Self::of(subnet.object(), annotations))
    }

    /// Reads the annotations of an object. `object` is its name for errors.
    pub fn of(object: String, annotations: &BTreeMap<String, String>) -> Self {
        Self::read(&Reader::new(object, annotations))
    }

    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let [ingress_burst, egress_burst] =
            [INGRESS_BURST, EGRESS_BURST].map(|name| reader.parse_with(name, Rate::parse_mbit).map(Option::flatten));
        let ingress = LimitWant::read(reader, INGRESS_RATE, INGRESS_BANDWIDTH, &ingress_burst);
        let egress = LimitWant::read(reader, EGRESS_RATE, EGRESS_BANDWIDTH, &egress_burst);
        let rates = [&ingress, &egress].into_iter().filter_map(|want| want.as_ref().err());
        let bursts = [&ingress_burst, &egress_burst].into_iter().filter_map(|burst| burst.as_ref().err());
        let unreadable = rates.chain(bursts).cloned().collect();
        let [ingress, egress] = [ingress, egress].map(|want| want.unwrap_or(LimitWant::Unreadable));
        Self { ingress, egress, unreadable }
    }
}

impl LimitWant {
    /// Reads the rate in the annotation `ours`, or else in the annotation `kubernetes`. When `ours` cannot be read, the
    /// result is an error, even if `kubernetes` can be read. A burst counts only together with a rate. Without a burst, it
    /// is what passes in 0.8 s: with less, TCP does not reach the rate.
    fn read(
        reader: &Reader<'_>,
        ours: &str,
        kubernetes: &str,
        burst: &Result<Option<Rate>, FieldError>,
    ) -> Result<Self, FieldError> {
        let rate = match reader.parse_with(ours, Rate::parse_mbit)? {
            Some(None) => return Ok(Self::Unlimited),
            Some(rate) => rate,
            None => reader.parse(kubernetes)?,
        };
        let Some(rate) = rate else { return Ok(Self::Unset) };
        let Ok(burst) = burst else { return Ok(Self::Unreadable) };
        let kbits = |bits: u64| u32::try_from(bits.clamp(1, u64::from(u32::MAX))).unwrap_or(u32::MAX);
        let burst = burst.map_or(rate.kbits() / 5 * 4 + rate.kbits() % 5 * 4 / 5, Rate::kbits);
        Ok(Self::Limit(Limit { rate: kbits(rate.kbits()), burst: kbits(burst) }))
    }
}
