//! Routes, of the node and of pods' network namespaces.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use rtnetlink::RouteMessageBuilder;

use crate::{Link, LinkError, Links};

/// The priority that the kernel gives the connected routes of IPv6 (`IP6_RT_PRIO_ADDRCONF`).
const CONNECTED_IPV6: u32 = 256;

/// A route: a destination and its gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The destination.
    pub to: IpNet,
    /// The next hop on the link.
    pub via: IpAddr,
    /// The source address of packets that have none yet. `None` lets the kernel choose.
    pub src: Option<IpAddr>,
    /// The largest packet in bytes, if it is smaller than the MTU of the link.
    pub mtu: Option<u32>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, via, src, mtu } = self;
        write!(f, "{to} via {via}")?;
        src.map_or(Ok(()), |src| write!(f, " src {src}"))?;
        mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

impl Links {
    /// Adds a route on the link without replacing one. Succeeds if the route already exists.
    pub async fn add_route(&self, link: &Link, route: &Route) -> Result<(), LinkError> {
        let what = format!("add route {route} dev {}", link.name);
        let message = message(link, route, &what)?;
        match self.handle.route().add(message).execute().await.map_err(LinkError::on(what)) {
            Err(error) if !error.is_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts a route in the place of one to the same destination, in one step. Adds it if there is none.
    pub async fn replace_route(&self, link: &Link, route: &Route) -> Result<(), LinkError> {
        let what = format!("replace route {route} dev {}", link.name);
        let message = message(link, route, &what)?;
        self.handle.route().add(message).replace().execute().await.map_err(LinkError::on(what))
    }

    /// Deletes a route. Succeeds if it does not exist.
    pub async fn delete_route(&self, link: &Link, route: &Route) -> Result<(), LinkError> {
        let what = format!("delete route {route} dev {}", link.name);
        let message = message(link, route, &what)?;
        match self.handle.route().del(message).execute().await.map_err(LinkError::on(what)) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the routes on the link that the agent created (protocol `static`), for both address families.
    pub async fn routes(&self, link: &Link) -> Result<BTreeSet<Route>, LinkError> {
        let messages = self.all_routes(&format!("list routes of {}", link.name)).await?;
        Ok(messages.iter().filter_map(|message| read_route(message, link.index)).collect())
    }

    /// Returns the networks that the main routing table reaches on the link without a gateway.
    pub async fn connected(&self, link: &Link) -> Result<BTreeSet<IpNet>, LinkError> {
        let messages = self.all_routes(&format!("list connected routes of {}", link.name)).await?;
        Ok(messages.iter().filter_map(|message| read_connected(message, link.index)).collect())
    }

    /// Adds the route to the network of one of the link's addresses, as the kernel does when the address is added.
    /// Succeeds if the route already exists.
    pub async fn add_connected(&self, link: &Link, address: IpNet) -> Result<(), LinkError> {
        let message = match address {
            IpNet::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address.network(), address.prefix_len())
                .pref_source(address.addr())
                .scope(RouteScope::Link)
                .output_interface(link.index)
                .protocol(RouteProtocol::Kernel)
                .build(),
            IpNet::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address.network(), address.prefix_len())
                .output_interface(link.index)
                .protocol(RouteProtocol::Kernel)
                .priority(CONNECTED_IPV6)
                .build(),
        };
        let what = format!("add connected route {} dev {}", address.trunc(), link.name);
        match self.handle.route().add(message).execute().await.map_err(LinkError::on(what)) {
            Err(error) if !error.is_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the next hops of all default routes, each with the index of its link.
    pub async fn default_next_hops(&self) -> Result<Vec<(u32, IpAddr)>, LinkError> {
        let messages = self.all_routes("list default routes").await?;
        Ok(messages.iter().filter(|message| is_default(message)).flat_map(next_hops).collect())
    }

    /// Returns the links of all default routes.
    pub async fn default_links(&self) -> Result<BTreeSet<u32>, LinkError> {
        let messages = self.all_routes("list default routes").await?;
        Ok(messages.iter().filter(|message| is_default(message)).flat_map(links_of).collect())
    }

    pub(crate) async fn all_routes(&self, what: &str) -> Result<Vec<RouteMessage>, LinkError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let ask = || self.handle.route().get(filter).execute();
            found.extend(self.list(what.to_owned(), ask).await?);
        }
        Ok(found)
    }
}

/// Whether this is a default route.
pub fn is_default(message: &RouteMessage) -> bool {
    message.header.destination_prefix_length == 0 && message.header.kind == RouteType::Unicast
}

fn next_hops(message: &RouteMessage) -> Vec<(u32, IpAddr)> {
    let gateway = |attributes: &[RouteAttribute]| {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => read_address(address),
            RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
            _ => None,
        })
    };
    let (mut hops, mut link) = (Vec::new(), None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::MultiPath(all) => {
                hops.extend(all.iter().filter_map(|hop| Some((hop.interface_index, gateway(&hop.attributes)?))));
            }
            _ => {}
        }
    }
    hops.extend(link.zip(gateway(&message.attributes)));
    hops
}

fn links_of(message: &RouteMessage) -> Vec<u32> {
    let of = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    message.attributes.iter().flat_map(of).collect()
}

fn read_connected(message: &RouteMessage, index: u32) -> Option<IpNet> {
    let header = &message.header;
    let (mut to, mut on_link) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = read_address(address),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            RouteAttribute::Oif(oif) => on_link = *oif == index,
            _ => {}
        }
    }
    let main = header.table == RouteHeader::RT_TABLE_MAIN && header.kind == RouteType::Unicast;
    (main && on_link).then_some(())?;
    IpNet::new(to?, header.destination_prefix_length).ok()
}

/// Fails if the families of the route's addresses differ.
fn message(link: &Link, route: &Route, what: &str) -> Result<RouteMessage, LinkError> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.network(), route.to.prefix_len())
        .and_then(|builder| builder.gateway(route.via))
        .map_err(LinkError::invalid(what))?
        .output_interface(link.index)
        .protocol(RouteProtocol::Static);
    if let Some(src) = route.src {
        builder = builder.pref_source(src).map_err(LinkError::invalid(what))?;
    }
    let mut message = builder.build();
    message.attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    Ok(message)
}

fn read_route(message: &RouteMessage, index: u32) -> Option<Route> {
    let (mut to, mut via, mut src, mut mtu, mut on_link) = (None, None, None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = read_address(address),
            RouteAttribute::Gateway(address) => via = read_address(address),
            RouteAttribute::PrefSource(address) => src = read_address(address),
            RouteAttribute::Oif(oif) => on_link = *oif == index,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(read_mtu),
            _ => {}
        }
    }
    let to = to.or(match message.header.address_family {
        AddressFamily::Inet => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    })?;
    let ours = on_link && message.header.protocol == RouteProtocol::Static;
    let to = IpNet::new(to, message.header.destination_prefix_length).ok()?;
    ours.then_some(Route { to, via: via?, src, mtu })
}

fn read_mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn read_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
