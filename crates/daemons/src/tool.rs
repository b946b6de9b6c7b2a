//! Runs programs to completion, or until they print a line: `ovsdb-tool`, `ovs-ofctl` and the like.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::orphans;

/// The time limit. Reading a database of hundreds of megabytes takes some seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// Why a program failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program cannot be started.
    #[error("{}: cannot be started: {source}", program.split(' ').next().unwrap_or_default())]
    Start {
        /// The program and its first argument.
        program: String,
        /// The error.
        source: io::Error,
    },
    /// The program failed.
    #[error("{program}: {status}: {said}")]
    Failed {
        /// The program and its first argument.
        program: String,
        /// The exit status.
        status: ExitStatus,
        /// The output on stderr, or the last line of a program that was watched.
        said: String,
    },
    /// The program did not finish in time.
    #[error("{program}: has not ended within {PATIENCE:?}")]
    Slow {
        /// The program and its first argument.
        program: String,
    },
}

/// Runs a program to completion. Returns its output.
pub async fn run<A: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Result<String, ToolError> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command).await
}

/// Runs a prepared command to completion. Returns its output.
pub async fn finish(mut command: Command) -> Result<String, ToolError> {
    let program = name(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = orphans::spawn(&mut command).map_err(|source| ToolError::Start { program: program.clone(), source })?;
    let Ok(output) = tokio::time::timeout(PATIENCE, child.output()).await else {
        return Err(ToolError::Slow { program });
    };
    let output = output.map_err(|source| ToolError::Start { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ToolError::Failed { program, status: output.status, said })
}

/// Runs a prepared command until it prints a line, on stdout or stderr, for which `is_last` is true. Then it is killed. It is
/// also killed when the future is dropped. Fails if it exits before.
pub async fn run_until(mut command: Command, is_last: impl Fn(&str) -> bool) -> Result<(), ToolError> {
    let program = name(&command);
    let start = |source| ToolError::Start { program: program.clone(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = orphans::spawn(&mut command).map_err(start)?;
    let (stdout, stderr) = child.outputs();
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(start(io::Error::other("it has no pipes")));
    };
    let (mut stdout, mut stderr) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let mut said = String::new();
    let mut open = [true; 2];
    while open.contains(&true) {
        let (from, line) = tokio::select! {
            line = stdout.next_line(), if open[0] => (0, line),
            line = stderr.next_line(), if open[1] => (1, line),
        };
        match line.map_err(start)? {
            Some(line) if is_last(&line) => {
                child.kill().map_err(start)?;
                child.wait().await.map_err(start)?;
                return Ok(());
            }
            Some(line) => said = line,
            None => open[from] = false,
        }
    }
    let status = child.wait().await.map_err(start)?;
    Err(ToolError::Failed { program, status, said })
}

/// Returns the program and its first argument.
fn name(command: &Command) -> String {
    let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args().take(1));
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

impl ToolError {
    /// Returns the error output if the program failed.
    pub fn said(&self) -> Option<&str> {
        match self {
            Self::Failed { said, .. } => Some(said),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_is_ended_after_its_last_line() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let is_last = |line: &str| line == "last";
        run_until(run("echo first; echo last >&2; exec sleep 1000"), is_last).await.unwrap();
        let failed = run_until(run("echo first; exit 3"), is_last).await.unwrap_err();
        assert_eq!(failed.to_string(), "sh -c: exit status: 3: first");
    }

    #[tokio::test]
    async fn what_a_program_prints_is_its_value_and_what_it_complains_of_its_error() {
        assert_eq!(run("sh", ["-c", "echo out; echo err >&2"]).await.unwrap(), "out\n");
        let failed = run("sh", ["-c", "echo out; echo err >&2; exit 3"]).await.unwrap_err();
        assert_eq!(failed.to_string(), "sh -c: exit status: 3: err");
        assert_eq!(failed.said(), Some("err"));
    }
}
