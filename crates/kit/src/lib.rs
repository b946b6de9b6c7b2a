//! Common parts of the daemons:
//!
//! - [`logs`]: tracing to stderr as text or JSON;
//! - [`flags`]: kube-ovn flags that are accepted but have no effect;
//! - [`endpoint`]: an HTTP server with `/metrics`, `/healthz` and `/readyz`;
//! - [`check`]: the exec probe that queries the endpoint;
//! - [`file`]: files that survive a power cut;
//! - [`kubernetes`]: the API server client;
//! - [`once`]: what is said once as long as it stays the same;
//! - [`signals`]: the stop signals;
//! - [`clock`]: that somebody sets the clock;
//! - [`watched`]: a directory whose changes are reported.
//!
//! The crate depends on no Kubernetes object type and not on OVN.

pub mod check;
pub mod clock;
pub mod endpoint;
pub mod file;
pub mod flags;
pub mod kubernetes;
pub mod logs;
pub mod once;
pub mod signals;
pub mod watched;
