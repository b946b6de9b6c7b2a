//! Links, addresses and routes of the node and of pods' network namespaces, through rtnetlink.
//!
//! The module has no state: every call queries the kernel. It starts no processes and does not change what is already
//! correct.

mod address;
mod events;
mod route;

use std::sync::Arc;

use futures::{TryStream, TryStreamExt};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::sync::Mutex;

use crate::netns::Netns;
use crate::sysctl;

pub use address::{Assigned, Standing};
pub(crate) use address::{is_link_local, own_address};
pub use events::{Event, events, skip_arrived};
pub use route::Route;
pub(crate) use route::is_default;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LinkError {
    what: String,
    source: Error,
}

impl LinkError {
    fn on(what: impl Into<String>) -> impl FnOnce(Error) -> Self {
        let what = what.into();
        move |source| Self { what, source }
    }

    /// Returns the kernel's error number, or `UnknownErrno` if there is none.
    pub fn errno(&self) -> Errno {
        match &self.source {
            Error::NetlinkError(message) => Errno::from_raw(message.raw_code().abs()),
            _ => Errno::UnknownErrno,
        }
    }

    /// Returns true if the object does not exist.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL)
    }

    /// Returns true if the object already exists.
    pub fn is_present(&self) -> bool {
        self.errno() == Errno::EEXIST
    }
}

/// The properties of a link that the agent uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The index in the link's namespace.
    pub index: u32,
    /// The name.
    pub name: String,
    /// Whether the link is administratively up.
    pub up: bool,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The MAC address. Empty if the link has none.
    pub mac: Vec<u8>,
    /// Whether the link is one end of a veth pair.
    pub veth: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// The alias. Empty if the link has none.
    pub alias: String,
}

impl Link {
    fn of(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            mac: Vec::new(),
            veth: false,
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            alias: String::new(),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::LinkInfo(infos) => link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
                _ => {}
            }
        }
        link
    }
}

/// The rtnetlink operations in one namespace. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Links {
    handle: Handle,
    /// Held during a list request. The kernel handles one list request per socket and answers EBUSY to a second one.
    list: Arc<Mutex<()>>,
}

impl Links {
    /// Opens a socket in the namespace of the calling thread. Needs a tokio runtime.
    pub fn here() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self::over(handle))
    }

    fn over(handle: Handle) -> Self {
        Self { handle, list: Arc::default() }
    }

    /// Collects the replies to a list request, which `ask` sends.
    async fn list<T, S>(&self, what: String, ask: impl FnOnce() -> S) -> Result<Vec<T>, LinkError>
    where
        S: TryStream<Ok = T, Error = Error>,
    {
        let _alone = self.list.lock().await;
        ask().try_collect().await.map_err(LinkError::on(what))
    }

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

    /// Sets the link up.
    pub async fn set_up(&self, link: &Link) -> Result<(), LinkError> {
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).up().build();
        self.handle.link().set(up).execute().await.map_err(LinkError::on(format!("set link {} up", link.name)))
    }
}

/// Runs `work` with its own netlink socket in the namespace of the calling thread. Blocks the thread until it is done.
///
/// The kernel handles a request on the thread that sends it and can block this thread for many milliseconds, while it
/// waits for the RTNL lock or until no packet is in flight. A few such requests on the runtime's threads would block
/// all other tasks.
pub fn alone<T>(work: impl AsyncFnOnce(Links) -> T) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::select! {
            () = connection => Err(std::io::ErrorKind::BrokenPipe.into()),
            result = work(Links::over(handle)) => Ok(result),
        }
    })
}

/// Like [`alone`], in the namespace of the process and on a separate thread.
pub async fn on_a_thread<T: Send + 'static>(
    what: &str,
    work: impl AsyncFnOnce(Links) -> Result<T, LinkError> + Send + 'static,
) -> Result<T, LinkError> {
    let failed = |error: std::io::Error| LinkError {
        what: format!("{what}: open a netlink socket"),
        source: Error::NamespaceError(error.to_string()),
    };
    let result = tokio::task::spawn_blocking(move || alone(work)).await;
    result.map_err(|e| failed(e.into())).and_then(|result| result.map_err(failed)).flatten()
}
