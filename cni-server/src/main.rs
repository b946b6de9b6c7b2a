//! The node agent's program: arguments, logs, and [`cni_server::agent`].

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use cni_server::args::Args;
use cni_server::{check, external_host};
use kit::flags::Ignored;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "check") && words.get(2).is_some_and(|word| word == "node") {
        let args = check::Args::parse_from(words.into_iter().skip(2));
        return kit::logs::ending("kube-ovn-cni", check_node(&args));
    }
    if words.get(1).is_some_and(|word| word == "external-host") {
        let args = external_host::Args::parse_from(words.into_iter().skip(1));
        return kit::logs::ending("kube-ovn-cni", join(args));
    }
    if let Some(answer) = kit::check::asked(std::env::args_os(), cni_server::args::PORT) {
        return answer;
    }
    let (args, ignored) = Args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    kit::logs::ending("kube-ovn-cni", run(args, &ignored))
}

fn run(args: Args, ignored: &[Ignored]) -> anyhow::Result<()> {
    // The client's own errors come again in our words.
    kit::logs::init(&args.logs, "kube_client=off")?;
    ignored.iter().for_each(Ignored::warn);
    let sysctls = &args.sysctl_directory;
    links::sysctl::use_directory(sysctls).with_context(|| format!("--sysctl-directory {}", sysctls.display()))?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(cni_server::agent::run(args))
}

fn join(args: external_host::Args) -> anyhow::Result<()> {
    kit::logs::init(&args.logs, "kube_client=off")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(external_host::run(args))
}

/// The findings are the output, and their number is the reason for the exit status.
fn check_node(args: &check::Args) -> anyhow::Result<()> {
    let works = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(check::run(args));
    anyhow::ensure!(works, "not all checks of the node succeeded");
    Ok(())
}
