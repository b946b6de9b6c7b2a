//! The program: arguments, logs, and [`ovs_ovn::node`].

use std::process::ExitCode;

use clap::Parser;
use ovs_ovn::args::{Args, Verb};
use ovs_ovn::node;

/// The last line of a log, and what a probe says, are where whoever wonders about a pod looks first: both are one line.
fn main() -> ExitCode {
    match act(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("ending: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("ovs-ovn: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Run(run) => {
            kit::logs::init(&run.logs, "")?;
            runtime.block_on(node::run(run))?;
        }
        Verb::Check(check) => runtime.block_on(node::check(&check))?,
    }
    Ok(())
}
