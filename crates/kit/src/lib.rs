//! Process glue: what every daemon of the house does the same way and none does differently.
//!
//! - [`logs`]: tracing to stderr, text or JSON, one line per decision;
//! - [`flags`]: those of kube-ovn that are known and mean nothing here;
//! - [`endpoint`]: `/metrics`, `/healthz` and `/readyz` on one small HTTP server;
//! - [`check`]: the probe that prints what it answers;
//! - [`kubernetes`]: the client of the API server;
//! - [`signals`]: the one place that knows how a process is asked to stop.
//!
//! Nothing here knows the domain: it asks the API server for no kind of object, and knows no OVN.

pub mod check;
pub mod endpoint;
pub mod flags;
pub mod kubernetes;
pub mod logs;
pub mod signals;
