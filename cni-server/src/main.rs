//! The node agent's program: arguments, logs, and [`cni_server::agent`].

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = cni_server::args::Args::parse();
    kit::logs::init(args.log_format, &args.log_level)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(cni_server::agent::run(args))
}
