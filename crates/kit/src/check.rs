//! `PROGRAM check ready`: the probe of a container whose program has a health endpoint.
//!
//! Of an HTTP probe kubelet shows the status and not the body, which is where the reason is. What a command prints it shows,
//! in an event of the pod. So this asks the endpoint and prints its answer, in some milliseconds and without a runtime.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// How long the endpoint may take; kubelet waits for some more.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 1 << 16;

/// Asks the one that runs in this container how it is: the exit status is a probe's answer.
#[derive(Debug, Parser)]
struct Check {
    /// What to ask.
    #[arg(value_enum)]
    question: Question,
    /// Address of its health endpoint; when absent, the program's own port on 127.0.0.1.
    #[arg(long)]
    address: Option<SocketAddr>,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// Whether the process serves at all.
    Live,
    /// Whether it does its work.
    Ready,
}

/// Why the answer is not yes.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("{address}: {source}")]
    Io { address: SocketAddr, source: io::Error },
    #[error("{address}: no answer of HTTP: {said}")]
    NotHttp { address: SocketAddr, said: String },
    #[error("{0}")]
    No(String),
}

/// The answer to a command line, the program's name first, whose next word is `check`; `None` for every other.
pub fn asked(line: impl IntoIterator<Item = OsString>, port: u16) -> Option<ExitCode> {
    let mut line = line.into_iter();
    let program = line.next()?.to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default();
    line.next().filter(|word| word == "check")?;
    let words = [format!("{program} check").into()].into_iter().chain(line);
    let check = Check::try_parse_from(words).unwrap_or_else(|error| error.exit());
    let address = check.address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into());
    Some(match ask(address, check.question) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{program}: {why}");
            ExitCode::FAILURE
        }
    })
}

fn ask(address: SocketAddr, question: Question) -> Result<(), CheckError> {
    let path = match question {
        Question::Live => "/livez",
        Question::Ready => "/readyz",
    };
    let answer = get(address, path).map_err(|source| CheckError::Io { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1).filter(|_| head.starts_with("HTTP/1.")) {
        Some("200") => Ok(()),
        Some(_) => Err(CheckError::No(body.trim().to_owned())),
        None => Err(CheckError::NotHttp { address, said: answer.lines().next().unwrap_or_default().to_owned() }),
    }
}

/// HTTP 1.0: the answer is whole when the connection ends.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Endpoint, Readiness};

    #[tokio::test]
    async fn the_answer_is_the_endpoints_and_its_reason_is_printed() {
        let readiness = Readiness::waiting_for("no interface is named eth9");
        let endpoint = Endpoint::bind(([127, 0, 0, 1], 0).into(), prometheus::Registry::new(), readiness.clone());
        let endpoint = endpoint.await.unwrap();
        let address = endpoint.address().unwrap();
        let server = tokio::spawn(endpoint.serve());
        let ask = async move |question| {
            let asked = tokio::task::spawn_blocking(move || ask(address, question)).await.unwrap();
            asked.map_err(|why| why.to_string())
        };
        assert_eq!(ask(Question::Ready).await, Err("no interface is named eth9".to_owned()));
        assert_eq!(ask(Question::Live).await, Ok(()));
        readiness.ready();
        assert_eq!(ask(Question::Ready).await, Ok(()));
        server.abort();
        let _ = server.await;
        let nobody = ask(Question::Live).await.unwrap_err();
        assert!(nobody.starts_with(&format!("{address}: Connection refused")), "{nobody}");
    }

    #[test]
    fn who_does_not_speak_http_is_no_endpoint() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"SSH-2.0\r\n").unwrap());
        let why = ask(address, Question::Ready).unwrap_err().to_string();
        server.join().unwrap();
        assert!(why == format!("{address}: no answer of HTTP: SSH-2.0") || why.contains("reset"), "{why}");
    }

    #[test]
    fn other_command_lines_are_not_for_it() {
        let line = |line: &str| asked(line.split(' ').map(Into::into), 1);
        assert!(line("kube-ovn-cni --mtu=0").is_none() && line("kube-ovn-cni").is_none());
        assert_eq!(format!("{:?}", line("/bin/kube-ovn-cni check ready").unwrap()), format!("{:?}", ExitCode::FAILURE));
    }
}
