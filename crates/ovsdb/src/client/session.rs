//! The session loop: connect, read the schema, monitor, and stay until the session ends. Then start again.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::client::{ClientBuilder, ClientT, Error as RpcError};
use jsonrpsee::core::middleware::RpcServiceBuilder;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::pki_types::ServerName;

use super::config::{Accept, Config};
use super::endpoint::Endpoint;
use super::error::SessionError;
use super::state::{Link, Live, State};
use super::tls::TlsFiles;
use super::transport::{self, Stream};
use super::turns::Turns;
use super::wire::{MONITOR, SERVER, Ticketed, describe};
use crate::Schema;

/// Keeps a session until the last handle is dropped.
pub(super) async fn run(state: Arc<State>, mut handles: watch::Receiver<()>) {
    tokio::select! {
        () = keep(&state) => {}
        // The sender sends no value: `changed` returns when the sender is dropped.
        _ = handles.changed() => {}
    }
}

async fn keep(state: &Arc<State>) {
    let Config { database, backoff, .. } = &state.config;
    let mut given = state.endpoints.subscribe();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut turns = Turns::new(0, *backoff);
    let mut failures: Vec<Option<String>> = Vec::new();
    loop {
        let now = given.borrow_and_update().clone();
        if now != endpoints {
            turns = Turns::new(now.len(), *backoff);
            failures = vec![None; now.len()];
            endpoints = now;
        }
        let (Some(endpoint), Some(failure)) = (endpoints.get(turns.endpoint()), failures.get_mut(turns.endpoint()))
        else {
            state.failure.send_replace(Some("no server is known".into()));
            // The sender lives as long as the state.
            let _ = given.changed().await;
            continue;
        };
        let is_gone = async {
            // The sender lives as long as the state.
            let _ = state.endpoints.subscribe().wait_for(|endpoints| !endpoints.contains(endpoint)).await;
        };
        let (lasted, ended) = tokio::select! {
            ended = session(state, endpoint) => ended,
            () = is_gone => {
                tracing::info!(database, %endpoint, "disconnected: it is not among the servers any more");
                continue;
            }
        };
        let reason = ended.to_string();
        state.failure.send_replace(Some(format!("{endpoint}: {reason}").into()));
        let is_unfit = matches!(*ended, SessionError::Unfit(_));
        if let Some(lasted) = lasted {
            *failure = None;
            tracing::warn!(database, %endpoint, reason, ?lasted, "disconnected");
        } else if failure.as_ref() == Some(&reason) {
            tracing::debug!(database, %endpoint, reason, "still cannot connect");
        } else {
            // In a cluster, every member but one refuses as a follower. This is not a fault.
            if is_unfit {
                tracing::info!(database, %endpoint, reason, "trying the next one");
            } else {
                tracing::warn!(database, %endpoint, reason, "cannot connect, will try again");
            }
            *failure = Some(reason);
        }
        if let Some(pause) = turns.ended(lasted, is_unfit) {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = given.changed() => {}
            }
        }
    }
}

/// Ends the session even if its future is dropped.
struct Session<'a> {
    state: &'a State,
    link: Arc<Link>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.state.end(&self.link, SessionError::Dropped);
    }
}

/// Runs one session, from the connection attempt to its end. Returns how long the session was live, if it was, and why
/// it ended.
async fn session(state: &Arc<State>, endpoint: &Endpoint) -> (Option<Duration>, Arc<SessionError>) {
    let within = state.config.connect_timeout;
    let stream = match timeout(within, connect(endpoint, state.config.tls.as_ref())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return (None, Arc::new(error)),
        Err(_) => return (None, Arc::new(SessionError::ConnectTimeout(within))),
    };
    let session = Session { state, link: Arc::new(Link::new()) };
    let link = &session.link;
    let (sender, receiver) = transport::over(stream, link, state);
    let rpc = ClientBuilder::default()
        .set_rpc_middleware(RpcServiceBuilder::new())
        .max_concurrent_requests(1024)
        // Each caller has its own timeout.
        .request_timeout(Duration::from_hours(24))
        .build_with_tokio(sender, receiver);
    let live = Arc::new(Live { rpc, link: link.clone() });

    let mut live_since = None;
    let stay = async {
        open(state, &live).await?;
        state.begin(live.clone());
        live_since = Some(Instant::now());
        tracing::info!(database = state.config.database, %endpoint, "connected");
        watch_silence(state.config.inactivity, &live).await
    };
    let reason = tokio::select! {
        biased;
        reason = link.ended() => reason,
        Err(error) = stay => {
            state.end(link, error);
            link.ended().await
        }
    };
    (live_since.map(|since| since.elapsed()), reason)
}

async fn connect(endpoint: &Endpoint, tls: Option<&TlsFiles>) -> Result<Box<dyn Stream>, SessionError> {
    Ok(match endpoint {
        Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Endpoint::Tcp { host, port } => Box::new(tcp(host, *port).await?),
        Endpoint::Ssl { host, port } => {
            let files = tls.ok_or(SessionError::NoTls)?;
            let name = ServerName::try_from(host.clone()).map_err(|_| SessionError::ServerName(host.clone()))?;
            let connector = files.connector()?;
            Box::new(connector.connect(name, tcp(host, *port).await?).await?)
        }
    })
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Checks the server, reads the schema and starts the monitor. On return, the replica is current.
async fn open(state: &State, live: &Live) -> Result<(), SessionError> {
    let within = state.config.connect_timeout;
    let prepare = async {
        if state.config.accept != Accept::Any {
            let schema = schema(live, SERVER).await?;
            let watch = live.link.member.monitor_params(&schema, state.config.database, state.config.accept);
            // The transport ends the session when this reply, or a later update, says that the server is another one.
            request::<IgnoredAny>(live, MONITOR, watch).await?;
        }
        schema(live, state.config.database).await
    };
    state.adopt(&timeout(within, prepare).await.map_err(|_| SessionError::ConnectTimeout(within))??);

    // A large snapshot has no time limit as long as the server sends data.
    let silence = watch_silence(state.config.inactivity, live);
    tokio::select! {
        monitored = request::<IgnoredAny>(live, MONITOR, state.monitor_params()) => monitored.map(drop),
        silent = silence => silent,
    }
}

async fn schema(live: &Live, database: &str) -> Result<Schema, SessionError> {
    let schema = request::<Box<RawValue>>(live, "get_schema", vec![json!(database)]).await?;
    Ok(Schema::from_json(schema.get().as_bytes())?)
}

async fn request<R: DeserializeOwned>(
    live: &Live,
    method: &'static str,
    params: Vec<Value>,
) -> Result<R, SessionError> {
    let ticket = live.link.tickets.issue();
    let reply = live.rpc.request(method, Ticketed { ticket: ticket.number(), params }).await;
    reply.map_err(|error| match error {
        RpcError::Call(error) => {
            let (error, details) = describe(&error);
            SessionError::Refused { method, reason: format!("{error} {details}").trim().to_owned() }
        }
        other => SessionError::Refused { method, reason: other.to_string() },
    })
}

/// Sends an echo request to a silent server. Returns when the server does not reply.
async fn watch_silence(limit: Duration, live: &Live) -> Result<(), SessionError> {
    loop {
        match limit.checked_sub(live.link.silence()) {
            Some(rest) if !rest.is_zero() => tokio::time::sleep(rest).await,
            _ => {
                // Any byte counts, not only the reply: a server that is busy sending does not answer echo requests in
                // time.
                match timeout(limit, request::<IgnoredAny>(live, "echo", vec![])).await {
                    Ok(answered) => drop(answered?),
                    Err(_) if live.link.silence() < limit => {}
                    Err(_) => return Err(SessionError::Silent(live.link.silence())),
                }
            }
        }
    }
}
