//! The processes of the lab. They run detached, write to a log file, and are recorded in a file `pid/<name>`. The lab
//! stops them only by that record. Processes on a node also end with the node's process 1.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;

use crate::layout::{Node, state};
use crate::pace;
pub use crate::record::recorded;

/// Returns a command with its arguments.
pub fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    command
}

/// Returns a command that runs `program` in all namespaces of `node`.
pub fn on(node: Node, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Command> {
    let pid = node.pid().with_context(|| format!("{} does not run", node.name()))?.to_string();
    let mut command = command(
        "nsenter",
        &["--target", &pid, "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--wd=/", "--"],
    );
    command.arg(program).args(arguments);
    Ok(command)
}

/// Returns a command that runs `program` in a named network namespace.
pub fn in_netns(netns: &str, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = command("nsenter", &[&format!("--net=/run/netns/{netns}"), "--"]);
    command.arg(program).args(arguments);
    command
}

/// Runs a command and returns its output. An error contains the command line and all output.
pub async fn run(command: Command) -> Result<String> {
    let shown = shown(&command);
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.with_context(|| shown.clone())?;
    finished(&shown, &output)
}

/// Returns the output of a command that has succeeded.
fn finished(shown: &str, output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{shown}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`run`], with this text as the input of the command.
pub async fn feed(command: Command, input: &str) -> Result<String> {
    let shown = shown(&command);
    let mut command = tokio::process::Command::from(command);
    let piped = || Stdio::piped();
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).kill_on_drop(true).spawn()?;
    // A command that ends without reading it all says why.
    let _ = child.stdin.take().context("a pipe")?.write_all(input.as_bytes()).await;
    finished(&shown, &child.wait_with_output().await?)
}

/// Like [`run`], for a command line whose words contain no spaces.
pub async fn sh(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    run(command(program, &words.collect::<Vec<_>>())).await
}

/// Starts `command` as the process `name`, detached from the terminal. Its output is appended to `log/<name>.log`.
pub fn start(name: &str, mut command: Command) -> Result<()> {
    let log = File::options().create(true).append(true).open(log(name))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| shown(&command))?;
    crate::record::write(&state("pid").join(name), child.id())
}

/// Returns true if the process `name` is running.
pub fn runs(name: &str) -> bool {
    recorded(&state("pid").join(name)).is_some()
}

/// Fails with the names of all processes of the lab that have exited.
pub fn all_run() -> Result<()> {
    let records = fs::read_dir(state("pid"))?.flatten().map(|e| e.path());
    let ended: Vec<_> = records.filter(|r| recorded(r).is_none()).map(|r| r.display().to_string()).collect();
    ensure!(ended.is_empty(), "ended by themselves: {}; see {}", ended.join(", "), state("log").display());
    Ok(())
}

/// Stops the process of a record: sends SIGTERM, and SIGKILL after `grace`. Removes the record.
pub async fn stop(file: &Path, grace: Duration) -> Result<()> {
    if let Some(pid) = recorded(file) {
        let targets = itself(pid);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for target in &targets {
                let _ = kill(Pid::from_raw(i32::try_from(*target)?), signal); // it may be gone already
            }
            // An nsenter stops when its child stops, and would then not notice the child's exit.
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGCONT);
            let patience = if signal == Signal::SIGKILL { Duration::from_secs(10) } else { grace };
            let deadline = Instant::now() + pace::limit(patience);
            while recorded(file).is_some() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        ensure!(recorded(file).is_none(), "process {pid} of {} does not end", file.display());
    }
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).with_context(|| file.display().to_string()),
        _ => Ok(()),
    }
}

/// Sends a signal to the process `name` itself, not to its nsenter.
pub fn signal(name: &str, signal: Signal) -> Result<()> {
    let pid = recorded(&state("pid").join(name)).with_context(|| format!("{name} does not run"))?;
    let mut targets = itself(pid);
    ensure!(!targets.is_empty(), "{name} has ended");
    if signal == Signal::SIGCONT {
        targets.push(pid); // an nsenter stops with its child
    }
    for target in targets {
        kill(Pid::from_raw(i32::try_from(target)?), signal).with_context(|| format!("{signal} to {name}"))?;
    }
    Ok(())
}

/// Kills the process `name` with SIGKILL. On return, it is gone.
pub async fn kill_now(name: &str) -> Result<()> {
    signal(name, Signal::SIGKILL)?;
    let file = state("pid").join(name);
    let deadline = Instant::now() + pace::limit(Duration::from_secs(10));
    while let Some(pid) = recorded(&file) {
        ensure!(Instant::now() < deadline, "{name} does not end");
        let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGCONT);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Returns the actual process of a recorded process ID. For a process on a node, the record contains its nsenter. In
/// between there is an unshare if the process has its own process namespace.
pub fn itself(pid: u32) -> Vec<u32> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if ["nsenter", "unshare"].contains(&name.trim()) {
        children(pid).into_iter().flat_map(itself).collect()
    } else {
        vec![pid]
    }
}

/// Returns the file name of a process' executable, even if the file was replaced. Returns `None` for a zombie.
pub fn program(pid: u32) -> Option<String> {
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = file.file_name()?.to_string_lossy();
    Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
}

/// Returns the children that the first thread of a process has started.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Like [`until`], for the start of the process `name`. Fails at once if the process exits. An error contains the end
/// of its log.
pub async fn ready<T, F: Future<Output = Result<T>>>(
    name: &str,
    patience: Duration,
    check: impl FnMut() -> F,
) -> Result<T> {
    poll(patience, || runs(name), check).await.map_err(|e| {
        let said = fs::read_to_string(log(name)).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(8)..].join("\n  ");
        anyhow!("{name} {}: {e:#}\n  {end}", if runs(name) { "is not ready" } else { "has ended" })
    })
}

/// Polls `check` every 50 ms until it succeeds. Returns the last error. For conditions that cannot be watched. The time
/// limit is for a real machine, see [`pace`].
pub async fn until<T, F: Future<Output = Result<T>>>(patience: Duration, check: impl FnMut() -> F) -> Result<T> {
    poll(patience, || true, check).await
}

/// Polls until `patience` expires or `hope` is false.
async fn poll<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    hope: impl Fn() -> bool,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let patience = pace::limit(patience);
    let deadline = Instant::now() + patience;
    loop {
        match tokio::time::timeout(patience, check()).await.unwrap_or_else(|_| Err(anyhow!("no answer"))) {
            Err(_) if hope() && Instant::now() < deadline => {
                // On a slow machine, a check takes longer, too.
                tokio::time::sleep(Duration::from_millis(50 * u64::from(pace::factor().min(10)))).await;
            }
            answer => return answer,
        }
    }
}

/// Returns the log file of the process `name`.
pub fn log(name: &str) -> std::path::PathBuf {
    state("log").join(format!("{name}.log"))
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_programs_name_when_the_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waits");
        fs::copy("/bin/sleep", &file).unwrap();
        let mut child = Command::new(&file).arg("60").spawn().unwrap();
        let named = program(child.id());
        fs::remove_file(&file).unwrap();
        let renamed = program(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((named.as_deref(), renamed.as_deref()), (Some("waits"), Some("waits")));
        assert_eq!(program(child.id()), None);
    }
}
