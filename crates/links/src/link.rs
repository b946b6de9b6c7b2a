//! Links: veth pairs, and the properties of a link.

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Error, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::netns::Netns;
use crate::{LinkError, Links, sysctl};

/// The properties of a link that we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The index in the link's namespace.
    pub index: u32,
    /// The name.
    pub name: String,
    /// Whether the link is administratively up.
    pub up: bool,
    /// Whether the node ignores ARP on the link.
    pub noarp: bool,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The MAC address. Empty if the link has none.
    pub mac: Vec<u8>,
    /// What it is, as far as we tell links apart.
    pub kind: LinkKind,
    /// The alias. Empty if the link has none.
    pub alias: String,
}

/// The kinds of links that we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One end of a veth pair.
    Veth,
    /// The loopback device.
    Loopback,
    /// Any other link.
    Other,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            noarp: message.header.flags.contains(LinkFlags::Noarp),
            mtu: 0,
            mac: Vec::new(),
            kind: LinkKind::Other,
            alias: String::new(),
        };
        if message.header.flags.contains(LinkFlags::Loopback) {
            link.kind = LinkKind::Loopback;
        }
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Veth)) => {
                    link.kind = LinkKind::Veth;
                }
                _ => {}
            }
        }
        link
    }
}

impl Links {
    /// Returns the link with this name, if it exists.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        match self.handle.link().get().match_name(name).execute().try_next().await {
            Ok(message) => Ok(message.as_ref().map(Link::of)),
            Err(source) => {
                let error = LinkError::on(format!("look up link {name}"))(source);
                if error.is_absent() { Ok(None) } else { Err(error) }
            }
        }
    }

    /// Returns all links.
    pub async fn all(&self) -> Result<Vec<Link>, LinkError> {
        self.list("list links".to_owned(), || self.handle.link().get().execute().map_ok(|m| Link::of(&m))).await
    }

    /// Creates a veth pair in one request: the host end in this namespace and up, and the peer in `netns` with its
    /// name, MAC address and MTU. The peer stays down, because the kernel refuses to create a peer in another namespace
    /// that is up.
    ///
    /// IPv6 is disabled on the host end. With a link-local address there, a pod could reach the node without passing
    /// OVN. Its routes would also change with every pod, and ovs-vswitchd would read all routes of the node again each
    /// time.
    pub async fn add_veth(
        &self,
        host: &str,
        netns: &Netns,
        peer: &str,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<(), LinkError> {
        let inner = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .mtu(mtu)
            .address(mac.to_vec())
            .setns_by_fd(netns.raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(host)
            .mtu(mtu)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inner)))
            .build();
        let what = format!("make veth {host} with {peer} in {}", netns.path());
        self.handle.link().add(veth).execute().await.map_err(LinkError::on(what))?;
        // The peer is down, so the host end has no carrier and no address yet.
        let Err(refused) = sysctl::set("ipv6", host, "disable_ipv6", "1") else { return Ok(()) };
        self.delete(host).await?;
        Err(LinkError::on(format!("turn IPv6 of {host} off"))(Error::NamespaceError(refused.to_string())))
    }

    /// Deletes the link with this name. Returns false if it did not exist. For a veth pair, this takes about 20 ms in
    /// the kernel.
    pub async fn delete(&self, name: &str) -> Result<bool, LinkError> {
        let Some(link) = self.find(name).await? else { return Ok(false) };
        match self.handle.link().del(link.index).execute().await.map_err(LinkError::on(format!("delete link {name}"))) {
            Err(error) if error.is_absent() => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Sets the MAC address and the MTU if they differ, and sets the link up.
    pub async fn configure(&self, link: &Link, mac: Option<[u8; 6]>, mtu: u32) -> Result<(), LinkError> {
        let mut change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index);
        let new_mac = mac.filter(|mac| mac.as_slice() != link.mac);
        if let Some(mac) = new_mac {
            change = change.address(mac.to_vec());
        }
        if link.mtu != mtu {
            change = change.mtu(mtu);
        }
        if link.up && link.mtu == mtu && new_mac.is_none() {
            return Ok(());
        }
        let what = format!("set link {} up with mtu {mtu}", link.name);
        self.handle.link().set(change.up().build()).execute().await.map_err(LinkError::on(what))
    }

    /// Sets the alias of the link with this name.
    pub async fn set_alias(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        let change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).alias(alias).build();
        self.handle.link().set(change).execute().await.map_err(LinkError::on(format!("set the alias of {name}")))
    }

    /// Makes the node ignore ARP and IPv6 on this link. IPv4 cannot be switched off for a link.
    pub async fn ignore(&self, link: &Link) -> Result<(), LinkError> {
        let what = || format!("ignore ARP and IPv6 on {}", link.name);
        sysctl::set("ipv6", &link.name, "disable_ipv6", "1")
            .map_err(|refused| LinkError::on(what())(Error::NamespaceError(refused.to_string())))?;
        if link.noarp {
            return Ok(());
        }
        let change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).arp(false).build();
        self.handle.link().set(change).execute().await.map_err(LinkError::on(what()))
    }

    /// Sets whether the link takes part in ARP. If not, the kernel answers no request that arrives on it.
    pub async fn set_arp(&self, link: &Link, arp: bool) -> Result<(), LinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).arp(arp).build();
        let what = format!("set link {} arp {}", link.name, if arp { "on" } else { "off" });
        self.handle.link().set(message).execute().await.map_err(LinkError::on(what))
    }

    /// Sets the link up.
    pub async fn set_up(&self, link: &Link) -> Result<(), LinkError> {
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).up().build();
        self.handle.link().set(up).execute().await.map_err(LinkError::on(format!("set link {} up", link.name)))
    }
}
