//! The CEL rules by which the API server checks an IPPool: (rule, message).
//!
//! The rules of a Subnet explain the bounds and the cost. [`crate::PoolDef`] checks the order of a range's ends.

type Rule = (&'static str, &'static str);

/// The annotation `ip_pool` of a pod is a list of addresses or the name of a pool, and the two must differ.
pub(super) const NAME: Rule =
    ("self.metadata.name.matches('[a-z]')", "metadata.name must not read as an address: it needs a letter");

pub(super) const SUBNET: Rule = ("self != ''", "subnet must name a subnet");

pub(super) const SUBNET_STAYS: Rule =
    ("self == oldSelf", "subnet cannot be changed; make another pool in the other subnet");

pub(super) const IPS: Rule = (
    "self.all(e, [e.split('..')].all(ends, (ends.size() == 1 && isCIDR(ends[0].trim())) || (ends.size() <= 2 && \
     isIP(ends[0].trim()) && isIP(ends[ends.size() - 1].trim()))))",
    "ips must be addresses, ranges such as 10.17.0.1..10.17.0.10, or CIDRs",
);
