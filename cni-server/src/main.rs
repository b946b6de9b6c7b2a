//! The node agent's program: arguments, logs, and [`cni_server::agent`].

fn main() -> anyhow::Result<()> {
    let (args, ignored) = cni_server::args::Args::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    // The client's own errors come again in our words.
    kit::logs::init(&args.logs, "kube_client=off")?;
    ignored.iter().for_each(kit::flags::Ignored::warn);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(cni_server::agent::run(args))
}
