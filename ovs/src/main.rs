//! The entry point: parses the arguments, starts logging and runs [`ovs_ovn::node`].

use std::process::ExitCode;

use clap::Parser;
use ovs_ovn::args::{Args, Verb};
use ovs_ovn::datapath::{Machine, Wanted};
use ovs_ovn::node;

fn main() -> ExitCode {
    kit::logs::ending("ovs-ovn", act(Args::parse().verb))
}

fn act(verb: Verb) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Run(run) => {
            kit::logs::init(&run.logs, "")?;
            runtime.block_on(node::run(run))?;
        }
        Verb::Modules(modules) if modules.datapath == Wanted::Userspace => {}
        Verb::Modules(modules) => {
            runtime.block_on(Machine::look(modules.network_type, Wanted::Kernel)).modules().for_each(print);
        }
        Verb::Check(check) => runtime.block_on(node::check(&check))?,
    }
    Ok(())
}

fn print((module, outcome): (&str, Result<(), &str>)) {
    println!("module {module}: {}", outcome.err().unwrap_or("loaded"));
}
