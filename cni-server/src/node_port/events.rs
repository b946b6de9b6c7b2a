//! Which netlink events concern `ovn0`, the tunnel interface, or the addresses of the node.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteAttribute::Oif;

use links::{Event, own_address};

/// Returns whether an event is about the link with this index, its addresses or its routes.
pub(super) fn concerns(event: &Event, index: u32) -> bool {
    use RouteNetlinkMessage::{DelRoute, NewRoute};
    match event {
        Event::InnerMessage(NewRoute(route) | DelRoute(route)) => {
            route.attributes.iter().any(|a| matches!(a, Oif(oif) if *oif == index))
        }
        // Some events were lost.
        Event::Overrun(_) => true,
        event => concerns_link(event, index),
    }
}

/// Returns whether an event is about the link with this index or its addresses.
pub(crate) fn concerns_link(event: &Event, index: u32) -> bool {
    use RouteNetlinkMessage::{DelAddress, DelLink, NewAddress, NewLink};
    match event {
        Event::InnerMessage(NewLink(link) | DelLink(link)) => link.header.index == index,
        Event::InnerMessage(NewAddress(address) | DelAddress(address)) => address.header.index == index,
        _ => false,
    }
}

/// Returns whether an event is about one of these addresses. The kernel deletes IPv4 routes with a source address that is
/// deleted, without an announcement of the routes.
pub(super) fn concerns_address(event: &Event, addresses: &[IpAddr]) -> bool {
    use RouteNetlinkMessage::{DelAddress, NewAddress};
    match event {
        Event::InnerMessage(NewAddress(address) | DelAddress(address)) => {
            own_address(address).is_some_and(|own| addresses.contains(&own))
        }
        _ => false,
    }
}
