//! CNI types, and the protocol between the CNI plugin and the node agent.
//!
//! The crate defines:
//! - the types of the CNI specification, versions 0.3.1 to 1.1.0 ([`NetConf`], [`CniResult`], [`CniError`],
//!   [`Version`]);
//! - the messages on the unix socket between plugin and agent: one JSON-RPC 2.0 object per line ([`rpc`]).
//!
//! The crate contains only values. It opens no files or sockets, and no input makes it panic. An identifier that
//! [`ident`] accepts is safe as a file name.

pub mod conf;
pub mod error;
pub mod ident;
pub mod result;
pub mod rpc;

pub use conf::{NetConf, Version};
pub use error::{CniError, Code};
pub use result::CniResult;
