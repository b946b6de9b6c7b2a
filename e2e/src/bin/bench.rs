//! `bench`: measures the network on the lab that is running, and prints each figure beside its limit.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::bench;

/// Measures the network on the running lab.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: bench::Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the CNI plugin for pods on this node and print the durations.
    #[command(hide = true)]
    Plugin(bench::plugin::Call),
}

fn main() -> ExitCode {
    let Arguments { options, verb } = Arguments::parse();
    let outcome = match verb {
        Some(Verb::Plugin(call)) => bench::plugin::call(&call).map(|printed| println!("{printed}")),
        None => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(bench::run(options))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
