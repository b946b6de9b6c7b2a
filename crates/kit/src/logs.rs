//! Logs: tracing to stderr. `RUST_LOG` sets the level, otherwise the flags.

use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The log flags.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Logs {
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t)]
    log_format: Format,

    /// Log filter in the syntax of tracing, for example `info` or `info,ovsdb=debug`. `RUST_LOG` takes precedence.
    #[arg(long)]
    log_level: Option<String>,

    /// Log verbosity as in kube-ovn, if --log-level is not set: up to 3 is `info`, up to 5 is `debug`, higher is
    /// `trace`.
    #[arg(short = 'v', long = "v", value_name = "N", default_value_t = 0)]
    verbosity: u8,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging for this process. `others` contains additional directives such as `hyper=warn`; they apply if
/// `--log-level` is not set. Fails if the filter is invalid or logging is already initialized.
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

/// Converts the result of a program to its exit code. A failure is one log line, so that it is the last line of the
/// pod's log or the message of a probe.
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
    /// Returns flags with the text format and this `--log-level`.
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
