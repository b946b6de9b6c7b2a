//! The node agent's program: arguments, logs, and [`cni_server::agent`].

use std::process::ExitCode;

use cni_server::args::Args;
use kit::flags::Ignored;

fn main() -> ExitCode {
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
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(cni_server::agent::run(args))
}
