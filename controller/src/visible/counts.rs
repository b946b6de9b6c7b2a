//! The usage fields in the statuses of a subnet and a pool.

/// Fills in the eight usage fields of a status, if the usage is known. The two status types have the same fields, but
/// different names in JSON (`v4usingIPs`, `v4UsingIPs`), so they share no type.
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

/// Converts a count to a float, which the API uses because an IPv6 network has more addresses than a JSON integer
/// holds.
#[allow(clippy::cast_precision_loss)]
pub(super) fn count(addresses: u128) -> f64 {
    addresses as f64
}
