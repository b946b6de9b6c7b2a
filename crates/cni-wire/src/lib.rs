//! CNI types, and the words that the plugin and the node agent say to each other.
//!
//! Owns two vocabularies and nothing else:
//! - the CNI specification's, versions 0.3.1 to 1.1.0 ([`NetConf`], [`CniResult`], [`CniError`], [`Version`]);
//! - the one on the unix socket between plugin and agent: one JSON-RPC 2.0 object per line ([`rpc`]).
//!
//! Promise: everything here is a value. Nothing opens a file or a socket, nothing panics on any input, and an
//! identifier that went through [`ident`] is safe to use as a file name.

pub mod conf;
pub mod error;
pub mod ident;
pub mod result;
pub mod rpc;

pub use conf::{NetConf, Version};
pub use error::{CniError, Code};
pub use result::CniResult;
