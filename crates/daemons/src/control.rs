//! Queries a daemon on its control socket (ovs-appctl(8)) or a database (RFC 7047 section 4.1). Each connection carries
//! one request and one reply.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

/// The time limit for a reply. A daemon replies between two units of work, which take up to two seconds.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The maximum length of a reply in bytes.
const MOST: usize = 16 << 20;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection failed.
    #[error("{at}: {source}")]
    Io {
        /// The socket.
        at: String,
        /// The error.
        source: std::io::Error,
    },
    /// The connection succeeded, but there was no reply in time.
    #[error("{at}: no answer within {PATIENCE:?}")]
    Silent {
        /// The socket.
        at: String,
    },
    /// The daemon returned an error.
    #[error("{at}: {method}: {said}")]
    Refused {
        /// The socket.
        at: String,
        /// The command or method.
        method: String,
        /// The text of the error.
        said: String,
    },
}

/// Runs a command on a control socket, as `ovs-appctl -t SOCKET COMMAND ARGUMENT...` does.
pub async fn ask(socket: &Path, command: &str, arguments: &[&str]) -> Result<String, ControlError> {
    let at = socket.display().to_string();
    let answer = bounded(&at, async {
        let stream = UnixStream::connect(socket).await?;
        call(stream, command, json!(arguments)).await
    });
    match result(&at, command, answer.await?)? {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

/// Runs read-only operations on a database over a connection to its server at `at`. Returns their results (RFC 7047 section
/// 4.1.3).
pub async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    at: &str,
    connecting: impl Future<Output = std::io::Result<S>>,
    database: &str,
    operations: &[Value],
) -> Result<Vec<Value>, ControlError> {
    let at = at.to_owned();
    let params: Vec<&Value> = operations.iter().collect();
    let mut params = json!(params);
    if let Value::Array(list) = &mut params {
        list.insert(0, json!(database));
    }
    let answer = bounded(&at, async { call(connecting.await?, "transact", params).await });
    let results = match result(&at, "transact", answer.await?)? {
        Value::Array(results) => results,
        other => vec![other],
    };
    match results.iter().find_map(|one| one.get("error")) {
        Some(error) => Err(ControlError::Refused { at, method: "transact".into(), said: error.to_string() }),
        None => Ok(results),
    }
}

async fn bounded<T>(at: &str, answer: impl Future<Output = std::io::Result<T>>) -> Result<T, ControlError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|source| ControlError::Io { at: at.to_owned(), source }),
        Err(_) => Err(ControlError::Silent { at: at.to_owned() }),
    }
}

/// Sends one JSON-RPC 1.0 request and reads until the reply. Skips other messages.
async fn call(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, params: Value) -> std::io::Result<Value> {
    let request = json!({"id": 0, "method": method, "params": params});
    stream.write_all(request.to_string().as_bytes()).await?;
    let mut read = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    while read.len() < MOST {
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&chunk[..length]);
        let mut values = serde_json::Deserializer::from_slice(&read).into_iter::<Value>();
        let mut done = 0;
        loop {
            match values.next() {
                Some(Ok(value)) if value.get("method").is_none() && value["id"] == 0 => return Ok(value),
                Some(Ok(_)) => done = values.byte_offset(),
                Some(Err(error)) if !error.is_eof() => return Err(error.into()),
                Some(Err(_)) | None => break,
            }
        }
        read.drain(..done);
    }
    Err(std::io::Error::other("an answer without an end"))
}

fn result(at: &str, method: &str, mut answer: Value) -> Result<Value, ControlError> {
    match answer["error"].take() {
        Value::Null => Ok(answer["result"].take()),
        error => {
            let said = error.as_str().map_or_else(|| error.to_string(), |text| text.trim().to_owned());
            Err(ControlError::Refused { at: at.to_owned(), method: method.to_owned(), said })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Returns the result of [`ask`] for a server that sends these pieces and closes the connection.
    async fn answered(pieces: &'static [&'static str]) -> Result<String, ControlError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("ctl");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).await.unwrap();
            let request: Value = serde_json::from_slice(&request[..length]).unwrap();
            assert_eq!(request, json!({"id": 0, "method": "cluster/status", "params": ["OVN_Northbound"]}));
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let answer = ask(&socket, "cluster/status", &["OVN_Northbound"]).await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn an_answer_is_found_in_pieces_and_behind_what_else_is_said() {
        const ECHO: &str = r#"{"id":"echo","method":"echo","params":[]}"#;
        const PIECES: &[&str] = &[ECHO, r#"{"id":0,"res"#, r#"ult":"Role: leader\n","error":null}"#];
        assert_eq!(answered(PIECES).await.unwrap(), "Role: leader\n");
    }

    #[tokio::test]
    async fn a_refusal_comes_in_the_daemons_words_and_a_broken_connection_as_one() {
        let refused = answered(&[r#"{"id":0,"error":"unknown cluster\n"}"#]).await.unwrap_err().to_string();
        assert!(refused.ends_with("/ctl: cluster/status: unknown cluster"), "{refused}");
        let broken = answered(&[r#"{"id":0,"res"#]).await.unwrap_err().to_string();
        assert!(broken.ends_with("/ctl: unexpected end of file"), "{broken}");
        let nobody = ask(Path::new("/no/such/socket"), "version", &[]).await.unwrap_err().to_string();
        assert!(nobody.starts_with("/no/such/socket: No such file"), "{nobody}");
    }
}
