//! Runs code in another network namespace, and sets the one option that needs an ioctl.
//!
//! A task never changes its own namespace: code for another namespace runs on a separate thread that ends afterwards.
//! This module contains all `unsafe` code of the project.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An open network namespace. The kernel keeps it at least as long as this value exists.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: String,
}

/// Why code could not run in a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path does not exist or cannot be opened.
    #[error("network namespace {path}: {source}")]
    Open {
        /// The value of `CNI_NETNS`.
        path: String,
        /// The error.
        source: io::Error,
    },
    /// The path is not a network namespace, or the agent may not enter it.
    #[error("enter network namespace {path}: {source}")]
    Enter {
        /// The value of `CNI_NETNS`.
        path: String,
        /// The error.
        source: io::Error,
    },
}

impl Netns {
    /// Opens the namespace at `path`.
    pub fn open(path: &str) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Returns the path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the file descriptor, for `IFLA_NET_NS_FD`.
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` in the namespace on a separate thread, which it may block.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetnsError> {
        let failed = |source| NetnsError::Enter { path: self.path.clone(), source };
        let inside = self.file.try_clone().map_err(failed)?;
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let entered = setns(inside.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
                // The receiver is dropped only if the caller was cancelled.
                let _ = done.send(entered.map(|()| work()));
            })
            .map_err(failed)?;
        match result.await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed(io::Error::other("the thread inside ended early"))),
        }
    }
}

/// Disables transmit checksum offload of `ifname`, in the namespace of the calling thread.
///
/// Open vSwitch's userspace datapath reads frames from a raw socket and does not complete a checksum that the sender
/// left to the hardware. With offload, TCP connections through it stall.
pub fn tx_checksum_off(ifname: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    ethtool_set(socket.as_fd(), ifname, ETHTOOL_STXCSUM, 0)
}

/// `ETHTOOL_STXCSUM` of `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x0000_0017;
/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: u64 = 0x8946;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq` of `linux/if.h` with `ifr_data`; padded to the kernel's 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    data: *mut EthtoolValue,
    rest: [u8; 16],
}

mod raw {
    #![allow(unsafe_code, missing_docs, unreachable_pub, reason = "the macro makes an unsafe function")]
    nix::ioctl_readwrite_bad!(ethtool, super::SIOCETHTOOL, super::InterfaceRequest);
}

fn ethtool_set(socket: BorrowedFd<'_>, ifname: &str, command: u32, data: u32) -> io::Result<()> {
    let mut name = [0; 16];
    // The last byte stays zero.
    let room = name.get_mut(..ifname.len().min(16)).filter(|_| ifname.len() < 16);
    room.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(ifname.as_bytes());
    let mut value = EthtoolValue { command, data };
    let mut request = InterfaceRequest { name, data: &raw mut value, rest: [0; 16] };
    // SAFETY: `request` has the layout and size of `struct ifreq`, its name is terminated by zero, and its data points
    // to a `struct ethtool_value`, which ETHTOOL_STXCSUM reads. Both live on this stack until the call returns, and the
    // kernel keeps no pointer.
    #[allow(unsafe_code, reason = "there is no safe wrapper of SIOCETHTOOL")]
    let result = unsafe { raw::ethtool(socket.as_raw_fd(), &raw mut request) };
    result.map(drop).map_err(io::Error::from)
}
