//! How members speak with each other and with their clients: TLS with the member's key, or plain TCP.

mod watched;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use keys::Identity;
use keys::tls::{Chain, Tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use self::watched::Watched;

/// The time limit for a connection and its handshake.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much a client can say before its server is there, in bytes.
const MOST: usize = 1 << 20;

/// Both directions of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A client that has a certificate.
#[derive(Debug)]
pub struct Certified {
    /// Who it is.
    pub identity: Identity,
    certificates: Chain,
}

/// How members and their clients speak.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS with the key that the member has now. `None` before it has one.
    Tls(watch::Receiver<Option<Tls>>),
}

impl Transport {
    /// Returns whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Returns whether connections can be made.
    pub fn has_key(&self) -> bool {
        match self {
            Self::Plain => true,
            Self::Tls(tls) => tls.borrow().is_some(),
        }
    }

    /// Waits until connections can be made.
    pub async fn ready(&self) {
        if let Self::Tls(tls) = self
            && tls.clone().wait_for(Option::is_some).await.is_err()
        {
            // There will never be a key.
            std::future::pending::<()>().await;
        }
    }

    /// Connects to another member.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            let stream = Watched::new(TcpStream::connect(address).await?)?;
            match self {
                Self::Plain => Ok(Box::new(stream) as Box<dyn Stream>),
                Self::Tls(tls) => {
                    let connector = tls.borrow().as_ref().ok_or_else(no_key)?.connector.clone();
                    Ok(Box::new(connector.connect(Tls::name(), stream).await?) as Box<dyn Stream>)
                }
            }
        };
        timeout(PATIENCE, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Accepts a connection. Returns also the certificate of the client.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Box<dyn Stream>, Option<Certified>)> {
        let stream = Watched::new(stream)?;
        match self {
            Self::Plain => Ok((Box::new(stream), None)),
            Self::Tls(tls) => {
                let acceptor = tls.borrow().as_ref().ok_or_else(no_key)?.acceptor.clone();
                let accepting = timeout(PATIENCE, acceptor.accept(stream)).await;
                let stream = accepting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let own = certificates.first().ok_or_else(|| io::Error::other("it has no certificate"))?;
                let identity = Identity::of(own).map_err(io::Error::other)?;
                let certificates = certificates.iter().map(|one| one.clone().into_owned()).collect();
                Ok((Box::new(stream), Some(Certified { identity, certificates })))
            }
        }
    }

    /// Waits until a client would not be accepted any more, because its authority is not trusted any more, or its certificate has
    /// expired when the member gets a new key.
    pub async fn distrusts(&self, client: Option<&Certified>) {
        if let (Self::Tls(tls), Some(client)) = (self, client) {
            let trusts = |tls: &Option<Tls>| tls.as_ref().is_none_or(|tls| tls.trusts(&client.certificates));
            if tls.clone().wait_for(|tls| !trusts(tls)).await.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

/// Takes what a client says before its server is there. Returns when it ends the connection or has said too much. Cancel safe.
pub async fn listen(client: &mut impl Stream, said: &mut Vec<u8>) {
    while said.len() < MOST && client.read_buf(said).await.is_ok_and(|read| read > 0) {}
}

fn no_key() -> io::Error {
    io::Error::other("the member has no key yet")
}
