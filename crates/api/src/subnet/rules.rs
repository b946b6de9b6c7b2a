//! The CEL rules by which the API server checks a Subnet: (rule, message).
//!
//! The API server estimates the cost of a rule from the bounds in the schema, so all lists and strings that the rules read
//! have bounds. A nested `all` over the parts of a string in a list exceeds the budget, so those rules read the first and
//! the last part only. [`crate::SubnetDef`] and the controller check the rest: the order of a range's ends, and overlaps
//! with other subnets.

type Rule = (&'static str, &'static str);

pub(super) const CIDR: Rule = (
    "self.split(',').size() <= 2 && self.split(',').all(c, isCIDR(c.trim()))",
    "cidrBlock must be a CIDR such as 10.18.0.0/24, or one IPv4 and one IPv6 CIDR with a comma between",
);

pub(super) const CIDR_FAMILIES: Rule = (
    "self.split(',').size() != 2 || !self.split(',').all(c, isCIDR(c.trim())) || \
     cidr(self.split(',')[0].trim()).ip().family() != cidr(self.split(',')[1].trim()).ip().family()",
    "cidrBlock must not have two CIDRs of one address family",
);

/// Refuses the networks that [`crate::Cidr::check_for_pods`] refuses. The first address shows whether a network lies inside
/// a special one, and a network that is wider than a special one contains the first address of that one.
pub(super) const CIDR_FOR_PODS: Rule = (
    "self.split(',').all(c, !isCIDR(c.trim()) || [cidr(c.trim()).masked()].all(n, n.ip().isGlobalUnicast() && \
     !cidr('0.0.0.0/8').containsIP(n.ip()) && !cidr('240.0.0.0/4').containsIP(n.ip()) && \
     !n.containsIP('127.0.0.0') && !n.containsIP('169.254.0.0') && !n.containsIP('224.0.0.0') && \
     !n.containsIP('::1') && !n.containsIP('fe80::') && !n.containsIP('ff00::') && !n.containsIP('fd00:ec2::254')))",
    "cidrBlock must not overlap 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 240.0.0.0/4, ::/127, fe80::/10, \
     ff00::/8 or fd00:ec2::254, which pods cannot use",
);

pub(super) const CIDR_SIZE: Rule = (
    "self.split(',').all(c, !isCIDR(c.trim()) || \
     cidr(c.trim()).prefixLength() < (cidr(c.trim()).ip().family() == 4 ? 32 : 128))",
    "cidrBlock must have an address for the gateway and one for a pod: at most /31, and at most /127 for IPv6",
);

/// Refuses a network that has no address in common with the old one of its family while addresses of that one are in use.
/// The controller checks whether all addresses in use are inside the new network: the status has only their number, and
/// that one second late.
///
/// The rule is part of the whole object, since the spec alone does not contain the status. It has no macro over the parts
/// of a string, see `EXCLUDE_INSIDE`.
pub(super) const CIDR_STAYS: Rule = (
    "self.spec.cidrBlock == oldSelf.spec.cidrBlock || !has(self.status) || \
     !isCIDR(oldSelf.spec.cidrBlock.split(',')[0].trim()) || \
     !isCIDR(oldSelf.spec.cidrBlock.split(',')[oldSelf.spec.cidrBlock.split(',').size() - 1].trim()) || \
     !isCIDR(self.spec.cidrBlock.split(',')[0].trim()) || \
     !isCIDR(self.spec.cidrBlock.split(',')[self.spec.cidrBlock.split(',').size() - 1].trim()) || \
     [cidr(oldSelf.spec.cidrBlock.split(',')[0].trim()), \
     cidr(oldSelf.spec.cidrBlock.split(',')[oldSelf.spec.cidrBlock.split(',').size() - 1].trim())].all(old, \
     (old.ip().family() == 4 ? (!has(self.status.v4usingIPs) || double(self.status.v4usingIPs) == 0.0) : \
     (!has(self.status.v6usingIPs) || double(self.status.v6usingIPs) == 0.0)) || \
     [cidr(self.spec.cidrBlock.split(',')[0].trim()), \
     cidr(self.spec.cidrBlock.split(',')[self.spec.cidrBlock.split(',').size() - 1].trim())]\
     .exists(new, new.containsCIDR(old) || old.containsCIDR(new)))",
    "spec.cidrBlock cannot leave a network whose addresses are in use",
);

pub(super) const GATEWAY: Rule = (
    "self == '' || (self.split(',').size() <= 2 && self.split(',').all(g, isIP(g.trim())))",
    "gateway must be an address, or one IPv4 and one IPv6 address with a comma between",
);

pub(super) const GATEWAY_INSIDE: Rule = (
    "!has(self.gateway) || !has(self.cidrBlock) || self.gateway.split(',').all(g, !isIP(g.trim()) || \
     self.cidrBlock.split(',').exists(c, isCIDR(c.trim()) && cidr(c.trim()).containsIP(g.trim())))",
    "gateway must lie inside cidrBlock",
);

pub(super) const EXCLUDE_IPS: Rule = (
    "self.all(e, [e.split('..')].all(ends, ends.size() <= 2 && isIP(ends[0].trim()) && \
     isIP(ends[ends.size() - 1].trim())))",
    "excludeIps must be addresses, or ranges such as 10.17.0.1..10.17.0.10",
);

/// The rule has no macro over the parts of a string: the API server estimates nested macros at more than 100 times the
/// budget.
pub(super) const EXCLUDE_INSIDE: Rule = (
    "!has(self.excludeIps) || !isCIDR(self.cidrBlock.split(',')[0]) || \
     !isCIDR(self.cidrBlock.split(',')[self.cidrBlock.split(',').size() - 1]) || \
     self.excludeIps.all(e, !isIP(e.split('..')[0]) || !isIP(e.split('..')[e.split('..').size() - 1]) || \
     (cidr(self.cidrBlock.split(',')[0]).containsIP(e.split('..')[0]) && \
     cidr(self.cidrBlock.split(',')[0]).containsIP(e.split('..')[e.split('..').size() - 1])) || \
     (cidr(self.cidrBlock.split(',')[self.cidrBlock.split(',').size() - 1]).containsIP(e.split('..')[0]) && \
     cidr(self.cidrBlock.split(',')[self.cidrBlock.split(',').size() - 1])\
     .containsIP(e.split('..')[e.split('..').size() - 1])))",
    "excludeIps must lie inside cidrBlock",
);

pub(super) const ALLOW_SUBNETS: Rule = (
    "self.all(e, [e.split(',')].all(pair, pair.size() <= 2 && isCIDR(pair[0].trim()) && \
     isCIDR(pair[pair.size() - 1].trim())))",
    "allowSubnets must be CIDRs such as 10.18.0.0/24",
);

pub(super) const MIRROR_TO: Rule = ("isIP(self)", "remoteMirror.to must be an address such as 192.0.2.10");

pub(super) const GATEWAY_TYPE: Rule =
    ("self in ['', 'distributed', 'centralized']", "gatewayType must be distributed or centralized");

pub(super) const PROTOCOL: Rule =
    ("self in ['', 'IPv4', 'IPv6', 'Dual']", "protocol must be IPv4, IPv6 or Dual; it follows from cidrBlock");
