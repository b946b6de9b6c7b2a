//! Answers probes about process 1: liveness and readiness.
//!
//! A probe connects to a unix socket, sends one word and reads one answer. An answer other than `ok` names each daemon
//! that does not work.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::member::Member;

/// The time limit for an answer. It is longer than the limit of each daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum time between the exit of a daemon and our knowledge of it.
const MOMENT: Duration = Duration::from_millis(500);

/// The kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Every daemon that has started answers. A daemon that exited is being restarted, which is no reason to restart
    /// the others.
    Live,
    /// Every daemon works.
    Ready,
}

/// Why a probe fails.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Process 1 does not answer.
    #[error("{at}: {source}")]
    Io {
        /// The socket.
        at: String,
        /// The error.
        source: io::Error,
    },
    /// Process 1 does not answer in time.
    #[error("{at}: no answer within {PATIENCE:?}")]
    Silent {
        /// The socket.
        at: String,
    },
    /// A daemon does not work.
    #[error("{0}")]
    No(String),
}

/// The listening socket. Dropping it removes the socket file, unless that is another process's by now.
#[derive(Debug)]
pub struct Status {
    listener: UnixListener,
    members: watch::Receiver<Vec<Member>>,
    socket: PathBuf,
    /// The inode of the socket file.
    inode: u64,
}

impl Drop for Status {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.socket).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.socket); // it may be gone already
        }
    }
}

impl Status {
    /// Binds the socket. Replaces a leftover socket file.
    pub fn bind(socket: &Path, members: watch::Receiver<Vec<Member>>) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let inode = std::fs::symlink_metadata(socket)?.ino();
        Ok(Self { listener, members, socket: socket.to_owned(), inode })
    }

    /// Answers probes one by one until the future is dropped. `check` checks a daemon.
    pub async fn serve<E: std::fmt::Display>(
        self,
        check: impl AsyncFn(Question, &'static str, u32) -> Result<(), E>,
    ) -> ! {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match tokio::time::timeout(PATIENCE, answer(stream, &self.members, &check)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a probe was not answered"),
                    Err(_) => tracing::warn!("a probe was not answered within {PATIENCE:?}"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a probe");
                    tokio::time::sleep(Duration::from_secs(1)).await; // too many open files
                }
            }
        }
    }
}

async fn answer<E: std::fmt::Display>(
    mut stream: UnixStream,
    members: &watch::Receiver<Vec<Member>>,
    check: &impl AsyncFn(Question, &'static str, u32) -> Result<(), E>,
) -> io::Result<()> {
    let mut word = String::new();
    (&mut stream).take(16).read_to_string(&mut word).await?;
    let answer = match word.parse() {
        Ok(question) => {
            let now = members.borrow().clone();
            let said = join_all(now.into_iter().map(|member| one(question, member, members.clone(), check))).await;
            let wrong: Vec<_> = said.into_iter().filter_map(Result::err).collect();
            if wrong.is_empty() { "ok".to_owned() } else { wrong.join("; ") }
        }
        Err(error) => format!("{word:?} is {error}"),
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn one<E: std::fmt::Display>(
    question: Question,
    member: Member,
    mut members: watch::Receiver<Vec<Member>>,
    check: &impl AsyncFn(Question, &'static str, u32) -> Result<(), E>,
) -> Result<(), String> {
    let Member { name, pid, is_up } = member;
    match (question, pid) {
        (Question::Live, Some(_)) if !is_up => Ok(()),
        (Question::Live, None) => Ok(()),
        (Question::Ready, None) => Err(format!("{name} does not run")),
        (Question::Ready, Some(_)) if !is_up => Err(format!("{name} is starting")),
        (_, Some(pid)) => {
            let Err(error) = check(question, name, pid).await else { return Ok(()) };
            // A daemon that just exited does not answer either. Wait until its exit is known.
            let gone = members.wait_for(|members| !members.contains(&member));
            if question == Question::Live && matches!(tokio::time::timeout(MOMENT, gone).await, Ok(Ok(_))) {
                return Ok(());
            }
            Err(format!("{name}: {error}"))
        }
    }
}

/// Queries the process behind this socket.
pub async fn ask(socket: &Path, question: Question) -> Result<(), StatusError> {
    let at = socket.display().to_string();
    let asked = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(question.word().as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) if answer == "ok" => Ok(()),
        Ok(Ok(answer)) => Err(StatusError::No(answer)),
        Ok(Err(source)) => Err(StatusError::Io { at, source }),
        Err(_) => Err(StatusError::Silent { at }),
    }
}

impl Question {
    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
        }
    }
}

impl FromStr for Question {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let both = [Self::Live, Self::Ready];
        both.into_iter().find(|question| question.word() == word).ok_or("neither `live` nor `ready`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Member = Member { name: "up", pid: Some(1), is_up: true };
    const STARTING: Member = Member { name: "starting", pid: Some(2), is_up: false };
    const GONE: Member = Member { name: "gone", pid: None, is_up: false };
    const DEAF: Member = Member { name: "deaf", pid: Some(3), is_up: true };

    #[tokio::test]
    async fn who_is_started_again_lives_and_is_not_ready_and_who_does_not_answer_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("status");
        std::fs::write(&socket, "left behind").unwrap_or_default();
        let (members, receiver) = watch::channel(vec![UP, STARTING, GONE]);
        let status = Status::bind(&socket, receiver).unwrap();
        let serving = status.serve(async |_, _, pid| if pid == 3 { Err("does not answer") } else { Ok(()) });
        let asking = async {
            ask(&socket, Question::Live).await.unwrap();
            let no = ask(&socket, Question::Ready).await.unwrap_err().to_string();
            assert_eq!(no, "starting is starting; gone does not run");
            members.send_replace(vec![UP, DEAF]);
            for question in [Question::Live, Question::Ready] {
                assert_eq!(ask(&socket, question).await.unwrap_err().to_string(), "deaf: does not answer");
            }
            members.send_replace(vec![UP]);
            ask(&socket, Question::Ready).await.unwrap();
        };
        tokio::select! {
            () = asking => {}
            never = serving => never,
        }
        // The status of a process that ends late does not take the socket of its successor away.
        let [before, after] = [(), ()].map(|()| Status::bind(&socket, watch::channel(vec![]).1).unwrap());
        drop(before);
        assert!(socket.exists());
        drop(after);
        assert!(!socket.exists());
        let nobody = ask(&dir.path().join("other"), Question::Live).await.unwrap_err().to_string();
        assert!(nobody.contains("other: No such file"), "{nobody}");
    }
}
