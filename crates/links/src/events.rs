//! The kernel's announcements of changed links, addresses and routes.

use std::io;

use futures::{FutureExt, Stream, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;

/// An announcement. After [`NetlinkPayload::Overrun`], some announcements were lost.
pub type Event = NetlinkPayload<RouteNetlinkMessage>;

/// Returns the announcements from now on, of the network namespace of the calling thread.
pub fn events() -> io::Result<impl Stream<Item = Event> + Unpin + Send + 'static> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    Ok(events.map(|(message, _)| message.payload))
}

/// Takes the announcements that have arrived by now, because the next reading includes these changes.
pub fn skip_arrived(events: &mut (impl Stream<Item = Event> + Unpin)) {
    while let Some(Some(_)) = events.next().now_or_never() {}
}
