//! How full a subnet or a pool is, as their statuses say it.

/// Fills in the eight counts and ranges of a status, if there is anything to count. Both statuses have the same fields, but
/// JSON spells them differently (`v4usingIPs`, `v4UsingIPs`), so they have no type in common.
macro_rules! fill {
    ($status:ident, $full:expr) => {
        if let Some((usage, ranges)) = $full {
            $status.v4_using_ips = $crate::visible::counts::count(usage.v4.used);
            $status.v4_available_ips = $crate::visible::counts::count(usage.v4.available);
            $status.v6_using_ips = $crate::visible::counts::count(usage.v6.used);
            $status.v6_available_ips = $crate::visible::counts::count(usage.v6.available);
            $status.v4_using_ip_range = api::values::print_ranges(&ranges.v4.using);
            $status.v4_available_ip_range = api::values::print_ranges(&ranges.v4.free);
            $status.v6_using_ip_range = api::values::print_ranges(&ranges.v6.using);
            $status.v6_available_ip_range = api::values::print_ranges(&ranges.v6.free);
        }
    };
}
pub(super) use fill;

/// The API has floats here: an IPv6 network has more addresses than an integer of JSON holds.
#[allow(clippy::cast_precision_loss)]
pub(super) fn count(addresses: u128) -> f64 {
    addresses as f64
}
