//! Process glue: what every daemon of the house does the same way and none does differently.
//!
//! - [`logs`]: tracing to stderr, text or JSON, one line per decision;
//! - [`endpoint`]: `/metrics`, `/healthz` and `/readyz` on one small HTTP server;
//! - [`signals`]: the one place that knows how a process is asked to stop.
//!
//! Nothing here knows the domain: no Kubernetes, no OVN.

pub mod endpoint;
pub mod logs;
pub mod signals;
