//! Logs: tracing to stderr. The level comes from `RUST_LOG` when set, else from the flags.

use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The flags about logs.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Logs {
    /// How log lines are written.
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,

    /// Which log lines are written, as a tracing filter such as `info` or `info,ovsdb=debug`; `RUST_LOG` wins over it.
    #[arg(long)]
    log_level: Option<String>,

    /// Which log lines are written, as kube-ovn's number, unless --log-level says: up to 3 `info`, up to 5 `debug`, then
    /// `trace`.
    #[arg(short = 'v', long = "v", value_name = "N", default_value_t = 0)]
    verbosity: u8,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one readable line per decision.
    #[default]
    Text,
    /// For collectors: one JSON object per line.
    Json,
}

/// Starts logging for this process. `others` are directives such as `hyper=warn`, for as long as `--log-level` says nothing.
/// Fails when the filter does not parse or logging runs already.
pub fn init(flags: &Logs, others: &str) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(from_env) => EnvFilter::try_new(from_env)?,
        Err(_) => EnvFilter::try_new(flags.filter(others))?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match flags.log_format {
        Format::Text => builder.with_ansi(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("start logging: {error}"))
}

/// What a program's end is for its parent. A failure is said in one line: the last one of a log, and what a probe says, are
/// where whoever wonders about a pod looks first.
pub fn ending(program: &str, ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!("ending: {error:#}");
            } else {
                eprintln!("{program}: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

impl Logs {
    /// As text, by a filter as `--log-level` takes it.
    pub fn at(level: &str) -> Self {
        Self { log_level: Some(level.to_owned()), ..Self::default() }
    }

    fn filter(&self, others: &str) -> String {
        let level = match self.verbosity {
            0..=3 => "info",
            4..=5 => "debug",
            _ => "trace",
        };
        self.log_level.clone().unwrap_or_else(|| format!("{level},{others}"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        logs: Logs,
    }

    #[test]
    fn kube_ovns_number_is_a_level_unless_there_is_one() {
        for (line, filter) in [
            ("", "info,hyper=warn"),
            ("--v=3", "info,hyper=warn"),
            ("-v=4", "debug,hyper=warn"),
            ("--v 9", "trace,hyper=warn"),
            ("--v=5 --log-level=warn", "warn"),
        ] {
            let program = Program::try_parse_from(["program"].into_iter().chain(line.split_whitespace())).unwrap();
            assert_eq!(program.logs.filter("hyper=warn"), filter, "{line}");
        }
    }
}
