//! Sends one request to the node agent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cni_wire::{CniError, Code, rpc};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;

/// The time limit for a reply. The agent's own limit is 30 s, so this limit applies only to an agent that hangs. The
/// kubelet's limit for a pod sandbox is 2 or 4 minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// How long to wait for an agent that is absent because it or its node is restarting. A runtime that gets error 11
/// retries only after 10 to 15 s, which is longer than most restarts of the agent. On a node that starts 100 pods at the same
/// time, the kubelet takes more than 20 s to start the new agent. Together with [`PATIENCE`], this is less than the kubelet's
/// limit.
pub(crate) const ABSENCE: Duration = Duration::from_mins(1);

/// Sends one request on a new connection and reads the reply. Returns error 11 if the agent cannot be reached within
/// `absence`, closes the connection or hangs. The runtime then retries. An agent that ends before it has read the request has
/// done nothing with it, so the next one gets it.
pub(crate) fn ask<T: serde::de::DeserializeOwned>(
    socket: &str,
    method: &str,
    params: &impl serde::Serialize,
    absence: Duration,
) -> Result<T, CniError> {
    let away =
        |e: io::Error| CniError::new(Code::TRY_AGAIN, format!("node agent at {socket} does not answer")).details(e);
    let request = rpc::request(method, params)?;
    let deadline = Instant::now() + absence;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match exchange(Path::new(socket), &request, left) {
            Ok(line) => return rpc::reply(&line),
            Err(error) if is_unread(&error) && !left.is_zero() => {}
            Err(error) => return Err(away(error)),
        }
    }
}

fn exchange(socket: &Path, request: &str, absence: Duration) -> io::Result<Vec<u8>> {
    let stream = connect(socket, absence)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    (&stream).write_all(request.as_bytes())?;
    let mut line = Vec::new();
    BufReader::new(&stream).take(rpc::MAX_LINE as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

/// Returns true if the agent has not read the request: it closed the connection, or stopped listening before it accepted it.
/// After it has read the request, the end of the connection is an end of file (unix(7)).
fn is_unread(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Connects, and waits up to `absence` for an agent to create its socket. Returns the last error within that time.
fn connect(socket: &Path, absence: Duration) -> io::Result<UnixStream> {
    let absent = match UnixStream::connect(socket) {
        Err(e) if is_absence(&e) && !absence.is_zero() => e,
        outcome => return outcome,
    };
    let deadline = Instant::now() + absence;
    let (Some(folder), Ok(events)) = (socket.parent(), Inotify::init(InitFlags::IN_CLOEXEC)) else {
        return Err(absent);
    };
    // After a boot, the folder may not be there yet. If it cannot be made, it cannot be watched either.
    let _ = std::fs::create_dir(folder);
    // The agent creates its socket under another name, listens, and then renames it.
    if events.add_watch(folder, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CREATE).is_err() {
        return Err(absent);
    }
    loop {
        let absent = match UnixStream::connect(socket) {
            Err(e) if is_absence(&e) => e,
            outcome => return outcome,
        };
        let left = TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now()));
        // poll(2) counts milliseconds and would return up to one millisecond early.
        match ppoll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLIN)], Some(left), None) {
            Ok(0) => return Err(absent),
            Ok(_) => drop(events.read_events()?),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Returns true if no agent listens: the socket does not exist, or its agent has exited.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A temporary directory. Dropping it removes the directory.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kube-ovn-plugin-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Starts an agent after `after`. It answers one request with `null`.
    fn agent(socket: &Path, after: Duration) -> std::thread::JoinHandle<()> {
        let socket = socket.to_owned();
        std::thread::spawn(move || {
            std::thread::sleep(after);
            let listener = UnixListener::bind(socket.with_extension("new")).unwrap();
            std::fs::rename(socket.with_extension("new"), &socket).unwrap();
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            (&stream).write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}\n").unwrap();
        })
    }

    #[test]
    fn an_agent_that_comes_is_waited_for() {
        let folder = Folder::new("comes");
        let socket = folder.0.join("run/agent.sock");
        // In the first round there is no folder, as after a boot. In the second round the socket's agent has exited.
        for _ in 0..2 {
            let started = Instant::now();
            let agent = agent(&socket, Duration::from_millis(200));
            ask::<()>(socket.to_str().unwrap(), "del", &[(); 0], ABSENCE).unwrap();
            agent.join().unwrap();
            assert!(started.elapsed() >= Duration::from_millis(200), "answered by nobody");
        }
    }

    #[test]
    fn what_an_agent_has_not_read_is_sent_to_the_next_one() {
        let folder = Folder::new("unread");
        let socket = folder.0.join("agent.sock");
        // It stops listening with a connection that it has not accepted.
        let listener = UnixListener::bind(&socket).unwrap();
        let path = socket.clone();
        let next = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_file(&path).unwrap();
            drop(listener);
            agent(&path, Duration::from_millis(100)).join().unwrap();
        });
        ask::<()>(socket.to_str().unwrap(), "add", &[(); 0], ABSENCE).unwrap();
        next.join().unwrap();
    }

    #[test]
    fn an_agent_that_does_not_come_is_waited_for_that_long_only() {
        let folder = Folder::new("stays-away");
        let socket = folder.0.join("agent.sock");
        let started = Instant::now();
        let absence = Duration::from_millis(100);
        let error = ask::<()>(socket.to_str().unwrap(), "del", &[(); 0], absence).unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert!((absence..ABSENCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    }

    #[test]
    fn an_absent_agent_is_try_again() {
        let error = ask::<()>("/nonexistent/folder/agent.sock", "del", &[(); 0], ABSENCE).unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
    }

    #[test]
    fn an_agent_that_hangs_up_is_try_again() {
        let folder = Folder::new("hangs-up");
        let path = folder.0.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        });
        let error = ask::<()>(path.to_str().unwrap(), "del", &[(); 0], ABSENCE).unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert_eq!(server.join().unwrap(), "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"del\",\"params\":[]}\n");
    }
}
