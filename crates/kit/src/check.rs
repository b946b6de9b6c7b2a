//! `PROGRAM check live|ready`: an exec probe for a program with a health endpoint.
//!
//! For a failed HTTP probe, the kubelet shows only the status, and the reason is in the body. For an exec probe, it
//! shows the output in an event of the pod. This command queries the endpoint and prints the answer. It takes
//! milliseconds and needs no async runtime.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The timeout of the query. The kubelet's probe timeout is longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The maximum length of the answer in bytes.
const LONGEST: u64 = 1 << 16;

/// Query the health of the program in this container. The exit status is the result of the probe.
#[derive(Debug, Parser)]
struct Check {
    /// The health check to query.
    #[arg(value_enum)]
    question: Question,
    /// Address of the health endpoint. Default: the program's port on 127.0.0.1.
    #[arg(long)]
    address: Option<SocketAddr>,
}

/// The health check to query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Question {
    /// The process serves requests.
    Live,
    /// The process is ready.
    Ready,
}

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("{address}: {source}")]
    Io { address: SocketAddr, source: io::Error },
    #[error("{address}: no answer of HTTP: {said}")]
    NotHttp { address: SocketAddr, said: String },
    #[error("{0}")]
    No(String),
}

/// Runs the check if the first argument after the program name is `check`. Otherwise returns `None`.
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

/// Asks the program with this health endpoint whether it is ready. Blocks for seconds at most. The error is its reason.
pub fn ready(address: SocketAddr) -> Result<(), String> {
    ask(address, Question::Ready).map_err(|error| error.to_string())
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

/// Sends an HTTP/1.0 request. The answer ends when the server closes the connection.
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
