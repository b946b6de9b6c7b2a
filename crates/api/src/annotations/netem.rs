//! The annotations that make the network towards a pod worse, for tests: `latency`, `jitter`, `loss` and `limit`.

use std::collections::BTreeMap;

use super::{JITTER, LATENCY, LIMIT, LOSS, Reader};
use crate::FieldError;

/// What happens to packets on their way into a pod (tc-netem(8)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    /// The delay in ms.
    pub latency: u32,
    /// The largest random difference of the delay in ms.
    pub jitter: u32,
    /// How many of 100 packets are lost.
    pub loss: u32,
    /// The number of packets that wait at most; 0 means the kernel's default, 1000.
    pub limit: u32,
}

impl Netem {
    /// The longest delay in ms.
    const LONGEST: u32 = 60_000;
    /// The largest number of packets that wait: they take the memory of the node.
    const MOST: u32 = 10_000;

    /// Reads the annotations of a pod. `object` is the name of the pod for the error. `None` if they ask for nothing.
    pub fn read(object: String, annotations: &BTreeMap<String, String>) -> Result<Option<Self>, FieldError> {
        let reader = Reader::new(object, annotations);
        let number = |name: &str, most: u32| {
            let parsed = reader.parse_with(name, |text| match text.parse::<u32>() {
                Ok(number) if number <= most => Ok(number),
                _ => Err(format!("{text:?} is not a whole number from 0 to {most}")),
            });
            parsed.map(Option::unwrap_or_default)
        };
        let netem = Self {
            latency: number(LATENCY, Self::LONGEST)?,
            jitter: number(JITTER, Self::LONGEST)?,
            loss: number(LOSS, 100)?,
            limit: number(LIMIT, Self::MOST)?,
        };
        Ok(Some(netem).filter(|netem| *netem != Self::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<[u32; 4]>, String> {
        let annotations = pairs.iter().map(|(name, value)| (format!("ovn.kubernetes.io/{name}"), (*value).to_owned()));
        let netem = Netem::read("pod ns/web".to_owned(), &annotations.collect());
        let numbers = netem.map(|netem| netem.map(|netem| [netem.latency, netem.jitter, netem.loss, netem.limit]));
        numbers.map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_are_read_and_errors_name_the_annotation() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("latency", "0"), ("loss", "")]), Ok(None));
        assert_eq!(
            read(&[("latency", "600"), ("jitter", " 30 "), ("loss", "5"), ("limit", "2000")]),
            Ok(Some([600, 30, 5, 2000]))
        );
        for (name, value, most) in
            [("latency", "60001", 60_000), ("jitter", "-1", 60_000), ("loss", "2.5", 100), ("limit", "1e5", 10_000)]
        {
            let expected = format!(
                "pod ns/web: annotation ovn.kubernetes.io/{name}: {value:?} is not a whole number from 0 to {most}"
            );
            assert_eq!(read(&[("latency", "1"), (name, value)]), Err(expected));
        }
    }
}
