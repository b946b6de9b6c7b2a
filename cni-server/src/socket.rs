//! The unix socket for the plugin: newline-delimited JSON-RPC, dispatched by jsonrpsee's `RpcModule`.
//!
//! Only root can connect (mode 0600). A stale socket is replaced. A line that is too long closes the connection.
//! Invalid JSON and invalid requests are answered with an error. Neither affects other connections.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use cni_wire::conf::ValidAttachment;
use cni_wire::rpc::{self, Attachment, Keep, method};
use cni_wire::{CniError, Code};
use futures::FutureExt;
use ipnet::IpNet;
use jsonrpsee::RpcModule;
use jsonrpsee::core::RegisterMethodError;
use jsonrpsee::types::ErrorObjectOwned;
use kit::endpoint::Readiness;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attachments::Attachments;
use crate::ovs::Ovs;
use crate::ports;

/// Binds the socket. It is created under another name with restricted permissions and then renamed, so other users
/// cannot connect at any time.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// The state that the methods use.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The queues of requests.
    pub attachments: Attachments,
    /// The node's database, for GC.
    pub ovs: Ovs,
    /// Whether the agent can serve an ADD.
    pub readiness: Readiness,
}

/// Returns the agent's methods.
pub fn methods(agent: Agent) -> Result<RpcModule<Agent>, RegisterMethodError> {
    let mut module = RpcModule::new(agent);
    module.register_async_method(method::ADD, |params, agent, _| async move {
        agent.attachments.add(valid(params.parse()?)?).await.map_err(fault)
    })?;
    module.register_async_method(method::DEL, |params, agent, _| async move {
        agent.attachments.del(params.parse()?).await.map_err(fault)
    })?;
    module.register_async_method(method::CHECK, |params, agent, _| async move {
        let rpc::Check { attachment, promised } = params.parse()?;
        let promised = promised.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
        agent.attachments.check(valid(attachment)?, promised).await.map_err(fault)
    })?;
    module.register_async_method(method::STATUS, |_, agent, _| async move {
        let unavailable = |why: String| fault(CniError::new(Code::NOT_AVAILABLE, "the node is not ready").details(why));
        agent.readiness.state().map_err(unavailable)
    })?;
    module.register_async_method(method::GC, |params, agent, _| async move {
        agent.collect(&params.parse()?).await.map_err(fault)
    })?;
    Ok(module)
}

impl Agent {
    /// Removes every attachment that is not in `keep`. Continues after an error and returns the last one.
    async fn collect(&self, keep: &Keep) -> Result<(), CniError> {
        if !*self.ovs.connected().borrow() {
            return Err(CniError::new(Code::TRY_AGAIN, "Open vSwitch is away"));
        }
        let is_left = |port: &ports::Plugged| {
            let Attachment { container_id, ifname, .. } = &port.attachment;
            // A port of kube-ovn does not say which interface it is of.
            let kept =
                |v: &ValidAttachment| v.container_id == *container_id && (ifname.is_empty() || v.ifname == *ifname);
            !keep.valid_attachments.iter().any(kept)
        };
        let left = self.ovs.read(ports::plugged).into_iter().filter(is_left);
        // At once, so that they are one transaction.
        let ended = futures::future::join_all(left.map(|port| self.attachments.del(port.attachment))).await;
        ended.into_iter().rev().collect()
    }
}

/// Serves connections until `stop` is true. Then it removes the socket `path`: a plugin that finds none waits for the next
/// agent. Returns when the requests that are under way are answered, or after `finish`.
pub async fn serve(
    listener: UnixListener,
    path: &Path,
    module: RpcModule<Agent>,
    stop: watch::Receiver<bool>,
    finish: Duration,
) {
    let inode = |path: &Path| std::fs::symlink_metadata(path).map(|file| file.ino()).ok();
    let own = inode(path);
    let (mut connections, mut stopping) = (JoinSet::new(), stop.clone());
    let serve_one = |connections: &mut JoinSet<()>, stream| {
        let (module, stop) = (module.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = converse(stream, &module, stop).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve_one(&mut connections, stream),
                Err(error) => {
                    // Probably no file descriptors are left. Wait until other connections close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = asked(&mut stopping) => break,
        }
    }
    // A successor may have put its own there.
    if own.is_some() && inode(path) == own {
        let _ = std::fs::remove_file(path); // if it stays, plugins are refused, and wait, too
    }
    // Those that have connected already are served.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        serve_one(&mut connections, stream);
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(finish, ended).await.is_err() {
        tracing::warn!(requests = connections.len(), "not all requests have ended; the runtime sends them again");
    }
}

/// Waits until `stop` is true, or until nobody can say so any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await.map(drop));
}

/// The time that a connection has for a request after `stop`: plugins connect and send it at once.
const LAST_LINE: Duration = Duration::from_millis(500);

/// Serves one connection: one request per line, answered in order, until there is none soon after `stop`.
async fn converse(stream: UnixStream, module: &RpcModule<Agent>, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut lines).take(rpc::MAX_LINE as u64);
        let late = async {
            asked(&mut stop).await;
            tokio::time::sleep(LAST_LINE).await;
        };
        tokio::select! {
            read = bounded.read_until(b'\n', &mut line) => drop(read?),
            () = late => return Ok(()),
        }
        if line.last() != Some(&b'\n') {
            // The end of the stream, or a line that is too long.
            return Ok(());
        }
        let mut answer = answer(&String::from_utf8_lossy(&line), module).await;
        answer.push('\n');
        write.write_all(answer.as_bytes()).await?;
    }
}

async fn answer(request: &str, module: &RpcModule<Agent>) -> String {
    match module.raw_json_request(request, 1).await {
        Ok((answer, _)) => answer.get().to_owned(),
        Err(error) => {
            let error = serde_json::json!({ "code": -32700, "message": "parse error", "data": error.to_string() });
            serde_json::json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string()
        }
    }
}

fn valid(attachment: Attachment) -> Result<Attachment, ErrorObjectOwned> {
    attachment.validate().map_err(fault)?;
    Ok(attachment)
}

fn address(text: &str) -> Result<IpNet, ErrorObjectOwned> {
    let wrong = |error| CniError::new(Code::CONFIG, format!("prevResult.ips: {text:?} is no address")).details(error);
    text.parse().map_err(|error: ipnet::AddrParseError| fault(wrong(error)))
}

fn fault(error: CniError) -> ErrorObjectOwned {
    let code = i32::try_from(error.code.0).unwrap_or(i32::try_from(Code::PLUMBING.0).unwrap_or_default());
    ErrorObjectOwned::owned(code, error.msg, (!error.details.is_empty()).then_some(error.details))
}
