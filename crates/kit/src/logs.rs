//! Logs: tracing to stderr. The level comes from `RUST_LOG` when set, else from the flag.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one readable line per decision.
    #[default]
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// Starts logging for this process. `level` is a tracing filter such as `info` or `info,ovsdb=debug`; `RUST_LOG` wins
/// over it. Fails when the filter does not parse or logging runs already.
pub fn init(format: Format, level: &str) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(from_env) => EnvFilter::try_new(from_env)?,
        Err(_) => EnvFilter::try_new(level)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("start logging: {error}"))
}
