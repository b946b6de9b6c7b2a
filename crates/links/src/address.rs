//! Addresses, of the node and of pods' network namespaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};

use crate::{Link, LinkError, Links};

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The index of the link.
    pub link: u32,
    /// The node's own address.
    pub own: IpAddr,
    /// The network that is connected through it: for a point-to-point link, that of the other end.
    pub network: IpNet,
    /// Whether the address is valid beyond its link (scope `global`).
    pub global: bool,
    /// Whether packets can be sent from it: not while the kernel looks for a duplicate, or after it has found one.
    pub usable: bool,
    /// How long and for what the address is there.
    pub standing: Standing,
}

impl Assigned {
    /// Returns the node's own address with the length of its network's prefix.
    pub fn with_prefix(&self) -> Option<IpNet> {
        IpNet::new(self.own, self.network.prefix_len()).ok()
    }
}

/// Whether others can rely on an address, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The first address of its network.
    Primary,
    /// A further IPv4 address of a network.
    Secondary,
    /// Not for new connections, or not for long: a temporary (RFC 8981) or deprecated (RFC 4862) IPv6 address, or one
    /// that is not proved to be unique.
    Passing,
}

impl Links {
    /// Returns the addresses of a link, without link-local IPv6 addresses.
    pub async fn addresses(&self, link: &Link) -> Result<BTreeSet<IpNet>, LinkError> {
        let ask = || self.handle.address().get().set_link_index_filter(link.index).execute();
        let mut found = BTreeSet::new();
        for message in self.list(format!("list addresses of {}", link.name), ask).await? {
            for attribute in &message.attributes {
                if let AddressAttribute::Address(address) = attribute
                    && !is_link_local(*address)
                    && let Ok(net) = IpNet::new(*address, message.header.prefix_len)
                {
                    found.insert(net);
                }
            }
        }
        Ok(found)
    }

    /// Returns the addresses of all links, in the kernel's order: those of a link can be added again in this order.
    pub async fn assigned(&self) -> Result<Vec<Assigned>, LinkError> {
        let ask = || self.handle.address().get().execute();
        let messages = self.list("list addresses".to_owned(), ask).await?;
        Ok(messages.iter().filter_map(read_address).collect())
    }

    /// Adds an address to the link. Duplicate address detection is off for IPv6: the allocator guarantees unique
    /// addresses, and a tentative address cannot be used. Succeeds if the link already has the address.
    pub async fn add_address(&self, link: &Link, address: IpNet) -> Result<(), LinkError> {
        let mut request = self.handle.address().add(link.index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        match request.execute().await.map_err(LinkError::on(format!("add {address} to {}", link.name))) {
            Err(error) if !error.is_present() => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes an address. Succeeds if it does not exist.
    pub async fn delete_address(&self, link: &Link, address: IpNet) -> Result<(), LinkError> {
        let what = format!("delete {address} of {}", link.name);
        let mut add = self.handle.address().add(link.index, address.addr(), address.prefix_len());
        let message = add.message_mut().clone();
        match self.handle.address().del(message).execute().await.map_err(LinkError::on(what)) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Returns true for an address that the kernel assigns by itself.
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Returns the node's own address in a message about an address.
pub fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    read_address(message).map(|assigned| assigned.own)
}

fn read_address(message: &AddressMessage) -> Option<Assigned> {
    let (mut own, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => own = Some(*local),
            AddressAttribute::Address(other) => address = Some(*other),
            _ => {}
        }
    }
    let address = address.or(own)?;
    let network = IpNet::new(address, message.header.prefix_len).ok()?.trunc();
    let own = own.unwrap_or(address);
    let AddressHeader { index, scope, flags, .. } = message.header;
    Some(Assigned {
        link: index,
        own,
        network,
        global: scope == AddressScope::Universe,
        usable: !flags.contains(AddressHeaderFlags::Tentative) || flags.contains(AddressHeaderFlags::Optimistic),
        standing: standing(own, flags),
    })
}

fn standing(address: IpAddr, flags: AddressHeaderFlags) -> Standing {
    let passing = AddressHeaderFlags::Deprecated | AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    match address {
        _ if flags.intersects(passing) => Standing::Passing,
        // The same bit says that an IPv4 address is secondary, and that an IPv6 address is temporary (if_addr.h).
        IpAddr::V6(_) if flags.contains(AddressHeaderFlags::Secondary) => Standing::Passing,
        IpAddr::V4(_) if flags.contains(AddressHeaderFlags::Secondary) => Standing::Secondary,
        _ => Standing::Primary,
    }
}
