//! Runs nft, ipset or iptables with input on standard input.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The tool is not installed, or a pipe to it failed.
    #[error("run {program}: {source}")]
    Run {
        /// The name of the program.
        program: &'static str,
        /// The error.
        source: std::io::Error,
    },
    /// The tool exited with an error.
    #[error("{program}: {status}: {stderr}")]
    Refused {
        /// The name of the program.
        program: &'static str,
        /// The exit status.
        status: std::process::ExitStatus,
        /// The output on stderr, as one line.
        stderr: String,
    },
    /// The tool did not exit in time.
    #[error("{program}: no end after {PATIENCE:?}")]
    Hung {
        /// The name of the program.
        program: &'static str,
    },
}

/// The time limit, including the wait for the xtables lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `program` with `input`. Returns its standard output.
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
        // A tool that fails early closes its input. The exit status reports the failure.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_that_fails_is_reported_with_its_message_on_one_line() {
        let error = run("sh", &["-c", "cat >&2; exit 1"], "no such table\nno such chain\n").await.unwrap_err();
        let CommandError::Refused { status, stderr, .. } = error else { panic!("{error}") };

        let message = CommandError::Refused { program: "nft", status, stderr }.to_string();
        assert_eq!(message, "nft: exit status: 1: no such table; no such chain");
    }

    #[tokio::test]
    async fn a_tool_that_is_not_installed_is_named() {
        let error = run("kube-ovn-no-such-tool", &[], "").await.unwrap_err();
        assert_eq!(error.to_string(), "run kube-ovn-no-such-tool: No such file or directory (os error 2)");
    }
}
