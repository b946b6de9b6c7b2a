//! How long the lab waits. All time limits are for a real machine. On an emulated one, where everything takes longer, all
//! of them are multiplied by one factor, which `e2e/vm/inside` sets.

use std::time::Duration;

/// The variable with the factor.
const FACTOR: &str = "LAB_SLOWNESS";

/// Returns how many times slower than a real machine this one is: 1 without the variable.
pub fn factor() -> u32 {
    std::env::var(FACTOR).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Returns the time limit for this machine.
pub fn limit(real: Duration) -> Duration {
    real * factor()
}

/// Returns the seconds between two packets of a ping: so many that the first answer can arrive before the next request.
pub fn interval() -> String {
    format!("{:.1}", 0.1 * f64::from(factor().min(10)))
}

/// Returns the time limit for this machine in seconds, for command lines.
pub fn seconds(real: u32) -> String {
    (real * factor()).to_string()
}
