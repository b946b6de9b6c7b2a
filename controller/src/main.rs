//! `kube-ovn-controller`: translates Kubernetes objects into the OVN northbound database.
//!
//! ```text
//! watch -> cluster -> owner: engine (ipam, plan) -> facts -> sync -> northbound database
//!                                                             |
//!                                      visible <- committed --+
//!                                         |
//!                                      publish -> API server
//! ```

mod api_servers;
mod args;
mod chassis;
mod cluster;
mod databases;
mod election;
mod engine;
mod metrics;
mod notices;
mod owner;
mod publish;
mod run;
mod schema;
mod services;
mod sets;
mod visible;
mod watch;

use std::process::ExitCode;

use args::Args;
use kit::flags::Ignored;

fn main() -> ExitCode {
    if let Some(answer) = kit::check::asked(std::env::args_os(), args::PORT) {
        return answer;
    }
    let (args, ignored) = Args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    kit::logs::ending("kube-ovn-controller", start(args, &ignored))
}

fn start(args: Args, ignored: &[Ignored]) -> anyhow::Result<()> {
    // The controller logs election results and broken watches itself.
    kit::logs::init(&args.logs, "kube_leader_election=warn,kube_runtime::watcher=error")?;
    ignored.iter().for_each(Ignored::warn);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run::run(args))
}
