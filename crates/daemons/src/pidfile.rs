//! Files with process IDs, which Open vSwitch's and OVN's daemons lock as long as they run.
//!
//! A daemon that finds its file locked ends at once. The lock tells of daemons that somebody else started, in another
//! container or without one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns the process that runs with this file, as the file names it: in a container, the number can be that of another
/// process. `None` if there is no file, or if the process has ended.
pub fn holder(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // The whole file.
    #[allow(clippy::cast_possible_truncation, reason = "constants of the C library have another type than its fields")]
    let (kind, whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    let mut lock = libc::flock { l_type: kind, l_whence: whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some(io::read_to_string(&file)?.trim().to_owned()))
}

/// Like [`holder`], but gives a process that is about to end some time for it.
pub async fn lasting_holder(path: &Path, patience: Duration) -> io::Result<Option<String>> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match holder(path)? {
            Some(_) if tokio::time::Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            found => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn a_daemon_holds_its_file_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let file = path("ovsdb-server.pid");
        assert_eq!(holder(&file).unwrap(), None);
        let socket = |name: &str| path(name).display().to_string();
        let server = || {
            let mut command = Command::new("ovsdb-server");
            command.args(["--no-db".to_owned(), format!("--pidfile={}", file.display())]);
            command.args([
                format!("--unixctl={}", socket("ctl")),
                "-vconsole:off".to_owned(),
                "-vsyslog:off".to_owned(),
            ]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let mut first = server().arg(format!("--remote=punix:{}", socket("sock"))).spawn().unwrap();
        while holder(&file).unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(holder(&file).unwrap(), Some(first.id().to_string()));
        let began = std::time::Instant::now();
        let lasting = lasting_holder(&file, Duration::from_millis(300)).await.unwrap();
        assert!(lasting.is_some() && began.elapsed() >= Duration::from_millis(300));
        // A second one does not start, which is why it matters.
        assert!(!server().status().unwrap().success());
        let ends = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            first.kill().unwrap();
            first.wait().unwrap();
        };
        let ended = lasting_holder(&file, Duration::from_secs(20));
        assert_eq!(tokio::join!(ended, ends).0.unwrap(), None);
        assert!(file.exists());
    }
}
