//! Running one of the kernel's rule tools with a batch on its standard input.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A tool that could not be run or that refused its input.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed, or its pipes broke.
    #[error("run {program}: {source}")]
    Run {
        /// The program's name.
        program: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{program}: {status}: {stderr}")]
    Refused {
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said, one line.
        stderr: String,
    },
    /// It did not end.
    #[error("{program}: no end after {PATIENCE:?}")]
    Hung {
        /// The program's name.
        program: &'static str,
    },
}

/// How long a tool may take, its wait for the kernel's lock included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `program` with `input` and gives its standard output.
pub(super) async fn run(program: &'static str, args: &[&str], input: &str) -> Result<String, CommandError> {
    let failed = |source| CommandError::Run { program, source };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let feed = async {
        // A tool that refuses early closes its input; its exit status tells then.
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(PATIENCE, both).await.map_err(|_| CommandError::Hung { program })?;
    let output = output.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(CommandError::Refused { program, status: output.status, stderr })
}
