//! Asking the node agent one question.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cni_wire::{CniError, Code, rpc};

/// How long an answer may take. The agent gives up on its own before this (after 30 s), so this is the case of an agent
/// that hangs; kubelet's own limit for a pod's sandbox is 2 or 4 minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Sends one request over a new connection and reads its answer. An agent that cannot be reached, hangs up or hangs is
/// error 11: the runtime tries again.
pub(crate) fn ask<T: serde::de::DeserializeOwned>(
    socket: &str,
    method: &str,
    params: &impl serde::Serialize,
) -> Result<T, CniError> {
    let away = |e: std::io::Error| {
        CniError::new(Code::TRY_AGAIN, format!("node agent at {socket} does not answer")).details(e)
    };
    let request = rpc::request(method, params)?;
    let stream = UnixStream::connect(socket).map_err(away)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(away)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(away)?;
    (&stream).write_all(request.as_bytes()).map_err(away)?;
    let mut line = Vec::new();
    BufReader::new(&stream).take(rpc::MAX_LINE as u64).read_until(b'\n', &mut line).map_err(away)?;
    if line.is_empty() {
        return Err(away(std::io::ErrorKind::UnexpectedEof.into()));
    }
    rpc::reply(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_agent_is_try_again() {
        let error = ask::<()>("/nonexistent/agent.sock", "del", &[(); 0]).unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN);
    }

    #[test]
    fn an_agent_that_hangs_up_is_try_again() {
        let path = std::env::temp_dir().join(format!("kube-ovn-plugin-{}.sock", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            line
        });
        let error = ask::<()>(path.to_str().unwrap(), "del", &[(); 0]).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(error.code, Code::TRY_AGAIN);
        assert_eq!(server.join().unwrap(), "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"del\",\"params\":[]}\n");
    }
}
