//! The transport for jsonrpsee: splits and translates messages, answers `echo`, and applies updates to the replica.
//!
//! The receive half applies snapshots and updates in the order in which they arrive, before jsonrpsee sees any later
//! message. The replica therefore contains the rows of a transaction before its reply. The receive half never waits for
//! the send half: a server with unread output stops reading, and a client that waits would deadlock.

use std::sync::Arc;

use jsonrpsee::core::client::{ReceivedMessage, TransportReceiverT, TransportSenderT};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::config::Config;
use super::error::SessionError;
use super::frame::Framer;
use super::state::{Link, State};
use super::wire::{self, Incoming, Monitor, Request};

/// Larger messages are parsed on a separate thread, so that they do not block other tasks.
const LARGE: usize = 256 << 10;

/// The number of echo requests that may wait for an answer. A server sends one and waits for the reply.
const ECHOES: usize = 16;

/// A connection to the server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// The session ended. The link holds the reason.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended")]
pub(super) struct Ended;

pub(super) struct Sender {
    link: Arc<Link>,
    requests: mpsc::Sender<Request>,
}

pub(super) struct Receiver {
    reader: Reader,
    link: Arc<Link>,
    state: Arc<State>,
    framer: Framer,
    echoes: mpsc::Sender<Vec<u8>>,
}

type Reader = tokio::io::ReadHalf<Box<dyn Stream>>;
type Writer = tokio::io::WriteHalf<Box<dyn Stream>>;

/// Returns the two halves for jsonrpsee and starts the writer task.
pub(super) fn over(stream: Box<dyn Stream>, link: &Arc<Link>, state: &Arc<State>) -> (Sender, Receiver) {
    let (reader, writer) = tokio::io::split(stream);
    let (requests, to_write) = mpsc::channel(1);
    let (echoes, to_echo) = mpsc::channel(ECHOES);
    tokio::spawn(write(writer, to_write, to_echo, link.clone(), state.clone()));
    let framer = Framer::new(state.config.max_message);
    let receiver = Receiver { reader, link: link.clone(), state: state.clone(), framer, echoes };
    (Sender { link: link.clone(), requests }, receiver)
}

impl TransportSenderT for Sender {
    type Error = Ended;

    async fn send(&mut self, message: String) -> Result<(), Ended> {
        // Skip other messages: jsonrpsee has methods of its own for subscriptions, which OVSDB does not know.
        let Ok(Some(request)) = wire::outgoing(&message) else { return Ok(()) };
        if let Some(monitor) = request.monitor {
            self.link.await_monitor(monitor, request.id.clone());
        }
        self.requests.send(request).await.map_err(|_| Ended)
    }
}

/// Writes requests whose tickets are still valid, and echo replies first, until the session ends. When jsonrpsee cannot
/// continue, it drops both halves, and this task ends the session.
async fn write(
    mut writer: Writer,
    mut requests: mpsc::Receiver<Request>,
    mut echoes: mpsc::Receiver<Vec<u8>>,
    link: Arc<Link>,
    state: Arc<State>,
) {
    let work = async {
        loop {
            let json = tokio::select! {
                biased;
                Some(echo) = echoes.recv() => echo,
                Some(request) = requests.recv() => {
                    if !link.tickets.claim(request.ticket) {
                        continue;
                    }
                    request.json
                }
                else => return Ok(()),
            };
            writer.write_all(&json).await?;
            writer.flush().await?;
        }
    };
    tokio::select! {
        done = work => state.end(&link, done.map_or_else(SessionError::Io, |()| SessionError::Closed)),
        _ = link.ended() => {}
    }
}

impl TransportReceiverT for Receiver {
    type Error = Ended;

    async fn receive(&mut self) -> Result<ReceivedMessage, Ended> {
        loop {
            let taken = match self.read().await {
                Ok(message) => self.take(message).await,
                Err(error) => Err(error),
            };
            match taken {
                Ok(Some(reply)) => return Ok(ReceivedMessage::Bytes(reply)),
                Ok(None) => {}
                Err(reason) => {
                    self.state.end(&self.link, reason);
                    return Err(Ended);
                }
            }
        }
    }
}

impl Receiver {
    /// Reads the next message.
    async fn read(&mut self) -> Result<Vec<u8>, SessionError> {
        loop {
            let Config { max_message, max_snapshot, .. } = self.state.config;
            self.framer.set_max_message(if self.link.awaits_snapshot() { max_snapshot } else { max_message });
            if let Some(message) = self.framer.next_message()? {
                return Ok(message);
            }
            let buffer = self.framer.buffer();
            buffer.reserve(64 << 10);
            let read = tokio::select! {
                biased;
                _ = self.link.ended() => return Err(SessionError::Closed),
                read = self.reader.read_buf(buffer) => read?,
            };
            if read == 0 {
                return Err(SessionError::Closed);
            }
            self.link.hear();
        }
    }

    /// Handles a message. Returns the message to pass on to jsonrpsee.
    async fn take(&self, message: Vec<u8>) -> Result<Option<Vec<u8>>, SessionError> {
        if message.len() < LARGE {
            return take(&message, &self.state, &self.link, &self.echoes);
        }
        let (state, link, echoes) = (self.state.clone(), self.link.clone(), self.echoes.clone());
        let taken = tokio::task::spawn_blocking(move || take(&message, &state, &link, &echoes)).await;
        taken.unwrap_or(Err(SessionError::Closed))
    }
}

fn take(
    message: &[u8],
    state: &State,
    link: &Link,
    echoes: &mpsc::Sender<Vec<u8>>,
) -> Result<Option<Vec<u8>>, SessionError> {
    let message = std::str::from_utf8(message)?;
    match wire::incoming(message)? {
        Incoming::Echo(reply) => echoes.try_send(reply).map(|()| None).map_err(|_| SessionError::Echoes),
        Incoming::Update { monitor: Monitor::Tables, last_txn, updates } => {
            state.updated(&last_txn, updates).map(|()| None)
        }
        Incoming::Update { monitor: Monitor::Server, updates, .. } => state.told(link, updates).map(|()| None),
        Incoming::Canceled => Err(SessionError::Canceled),
        Incoming::Reply(mut reply) => {
            if let Some(monitor) = link.started(reply.id.get())
                && reply.error.is_none()
            {
                // The replica takes the snapshot. jsonrpsee only needs to know that the request succeeded.
                let monitored = serde_json::from_str(reply.result.take().map_or("null", |result| result.get()))?;
                match monitor {
                    Monitor::Tables => state.monitored(monitored)?,
                    Monitor::Server => state.told(link, monitored.updates)?,
                }
            }
            Ok(Some(reply.to_jsonrpc()?))
        }
        Incoming::Other => Ok(None),
    }
}
