//! What a daemon is asked on its control socket (ovs-appctl(8)), and a database on its own (RFC 7047 section 4.1): one
//! question, one answer, one connection.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long an answer may take. A daemon answers between two pieces of work, the longest of which take a second or two.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// More than any answer is.
const MOST: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody is there, or the connection broke.
    #[error("{at}: {source}")]
    Io {
        /// The socket.
        at: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Connected, but nothing came in time.
    #[error("{at}: no answer within {PATIENCE:?}")]
    Silent {
        /// The socket.
        at: String,
    },
    /// It says no.
    #[error("{at}: {method}: {said}")]
    Refused {
        /// The socket.
        at: String,
        /// What was asked.
        method: String,
        /// Its words.
        said: String,
    },
}

/// Asks a daemon on its control socket, as `ovs-appctl -t SOCKET COMMAND ARGUMENT...` does.
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

/// Asks the database at a TCP port to run operations that only read; their results (RFC 7047 section 4.1.3).
pub async fn read(address: SocketAddr, database: &str, operations: &[Value]) -> Result<Vec<Value>, ControlError> {
    let at = format!("tcp:{address}");
    let params: Vec<&Value> = operations.iter().collect();
    let mut params = json!(params);
    if let Value::Array(list) = &mut params {
        list.insert(0, json!(database));
    }
    let answer = bounded(&at, async {
        let stream = TcpStream::connect(address).await?;
        call(stream, "transact", params).await
    });
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

/// Sends one request of JSON-RPC 1.0 and reads up to its answer; what else the server may say is passed over.
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

    /// What [`ask`] makes of a server that answers the request with these pieces and hangs up.
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
