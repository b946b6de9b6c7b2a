//! Random numbers that a seed repeats, for tests of random events.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random {
    /// The seed that it was created with.
    pub seed: u64,
    state: u64,
}

impl Random {
    /// Takes the seed from `KUBE_OVN_SEED`, or from the clock, and prints it.
    pub fn from_environment() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let seed = std::env::var("KUBE_OVN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
        println!("KUBE_OVN_SEED={seed}");
        Ok(Self { seed, state: seed })
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Returns one of these.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap_or_default();
        &all[at]
    }
}
