//! The netlink socket: one that tasks share, or one of a thread that may block.

use std::sync::Arc;

use futures::{TryStream, TryStreamExt};
use rtnetlink::{Error, Handle};
use tokio::sync::Mutex;

use crate::LinkError;

/// The rtnetlink operations in one namespace. Clones share the socket.
#[derive(Clone, Debug)]
pub struct Links {
    pub(crate) handle: Handle,
    /// Held during a list request. The kernel handles one list request per socket and answers EBUSY to a second one.
    list: Arc<Mutex<()>>,
}

impl Links {
    /// Opens a socket in the namespace of the calling thread. Needs a tokio runtime.
    pub fn here() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self::over(handle))
    }

    fn over(handle: Handle) -> Self {
        Self { handle, list: Arc::default() }
    }

    /// Collects the replies to a list request, which `ask` sends.
    pub(crate) async fn list<T, S>(&self, what: String, ask: impl FnOnce() -> S) -> Result<Vec<T>, LinkError>
    where
        S: TryStream<Ok = T, Error = Error>,
    {
        let _alone = self.list.lock().await;
        ask().try_collect().await.map_err(LinkError::on(what))
    }
}

/// Runs `work` with its own netlink socket in the namespace of the calling thread. Blocks the thread until it is done.
///
/// The kernel handles a request on the thread that sends it and can block this thread for many milliseconds, while it
/// waits for the RTNL lock or until no packet is in flight. A few such requests on the runtime's threads would block
/// all other tasks.
pub fn alone<T>(work: impl AsyncFnOnce(Links) -> T) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::select! {
            () = connection => Err(std::io::ErrorKind::BrokenPipe.into()),
            result = work(Links::over(handle)) => Ok(result),
        }
    })
}

/// Like [`alone`], in the namespace of the process and on a separate thread.
pub async fn on_a_thread<T: Send + 'static>(
    what: &str,
    work: impl AsyncFnOnce(Links) -> Result<T, LinkError> + Send + 'static,
) -> Result<T, LinkError> {
    let failed = |error: std::io::Error| LinkError {
        what: format!("{what}: open a netlink socket"),
        source: Error::NamespaceError(error.to_string()),
    };
    let result = tokio::task::spawn_blocking(move || alone(work)).await;
    result.map_err(|e| failed(e.into())).and_then(|result| result.map_err(failed)).flatten()
}
