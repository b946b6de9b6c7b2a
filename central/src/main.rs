//! The program: arguments, logs, and [`ovn_central::member`].

use std::process::ExitCode;

use clap::Parser;
use ovn_central::args::{Args, Verb};
use ovn_central::member;

/// The last line of a log, and what a probe says, are where whoever wonders about a pod looks first: both are one line.
fn main() -> ExitCode {
    match act(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if tracing::enabled!(tracing::Level::ERROR) => {
            tracing::error!("ending: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("ovn-central: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(verb: Verb) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Run(run) => {
            kit::logs::init(&run.logs, "")?;
            runtime.block_on(member::run(run))?;
        }
        Verb::Check(check) => runtime.block_on(member::check(&check))?,
    }
    Ok(())
}
