//! `kube-ovn-controller`: translates Kubernetes objects into the OVN northbound database.
//!
//! ```text
//! watch -> cluster -> owner: engine (ipam, plan) -> facts -> sync -> northbound database
//!                                                             |
//!                                      visible <- committed --+
//!                                         |
//!                                      publish -> API server
//! ```

mod args;
mod cluster;
mod election;
mod engine;
mod metrics;
mod notices;
mod owner;
mod publish;
mod run;
mod visible;
mod watch;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = args::Args::parse();
    kit::logs::init(args.log_format, &args.log_level)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::run(args))
}
