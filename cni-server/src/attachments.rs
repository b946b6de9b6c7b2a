//! Requests in order: one at a time for each container, all containers at once.
//!
//! One task owns the queues. A DEL that comes while the ADD of its container is under way waits for that ADD; it never
//! waits for another container.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use cni_wire::rpc::{Attached, Attachment};
use cni_wire::{CniError, Code};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attach::Attacher;

/// A request with the place its answer goes to.
#[derive(Debug)]
pub enum Request {
    /// Plug in.
    Add(Attachment, oneshot::Sender<Result<Attached, CniError>>),
    /// Take away.
    Del(Attachment, oneshot::Sender<Result<(), CniError>>),
}

impl Request {
    fn container_id(&self) -> &str {
        match self {
            Self::Add(attachment, _) | Self::Del(attachment, _) => &attachment.container_id,
        }
    }

    /// Does it and answers. Nobody may be listening any more: the work is finished all the same, so that the record is
    /// whole when the runtime comes back with a DEL.
    async fn serve(self, attacher: Arc<Attacher>) -> String {
        match self {
            Self::Add(attachment, answer) => {
                let result = attacher.add(&attachment).await;
                log("ADD", &attachment, result.as_ref().err());
                let _ = answer.send(result);
                attachment.container_id
            }
            Self::Del(attachment, answer) => {
                let result = attacher.del(&attachment).await;
                log("DEL", &attachment, result.as_ref().err());
                let _ = answer.send(result);
                attachment.container_id
            }
        }
    }
}

fn log(verb: &str, a: &Attachment, error: Option<&CniError>) {
    let (pod, namespace, container) = (&a.pod_name, &a.pod_namespace, &a.container_id);
    match error {
        None => tracing::info!(pod, namespace, container, "{verb} done"),
        Some(error) => tracing::warn!(pod, namespace, container, %error, "{verb} failed"),
    }
}

/// The way in for requests.
#[derive(Clone, Debug)]
pub struct Attachments(mpsc::Sender<Request>);

impl Attachments {
    /// Starts the owner of the queues.
    pub fn spawn(attacher: Attacher) -> Self {
        let (sender, requests) = mpsc::channel(64);
        tokio::spawn(run(requests, Arc::new(attacher)));
        Self(sender)
    }

    /// ADD.
    pub async fn add(&self, attachment: Attachment) -> Result<Attached, CniError> {
        self.ask(|answer| Request::Add(attachment, answer)).await
    }

    /// DEL.
    pub async fn del(&self, attachment: Attachment) -> Result<(), CniError> {
        self.ask(|answer| Request::Del(attachment, answer)).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, CniError>>) -> Request,
    ) -> Result<T, CniError> {
        let stopping = || CniError::new(Code::TRY_AGAIN, "the agent is stopping");
        let (answer, result) = oneshot::channel();
        self.0.send(request(answer)).await.map_err(|_| stopping())?;
        result.await.map_err(|_| stopping())?
    }
}

async fn run(mut requests: mpsc::Receiver<Request>, attacher: Arc<Attacher>) {
    let mut waiting: HashMap<String, VecDeque<Request>> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { return };
                match waiting.entry(request.container_id().to_owned()) {
                    std::collections::hash_map::Entry::Occupied(mut queue) => queue.get_mut().push_back(request),
                    std::collections::hash_map::Entry::Vacant(free) => {
                        free.insert(VecDeque::new());
                        running.spawn(request.serve(attacher.clone()));
                    }
                }
            }
            Some(Ok(container_id)) = running.join_next() => {
                match waiting.get_mut(&container_id).and_then(VecDeque::pop_front) {
                    Some(next) => drop(running.spawn(next.serve(attacher.clone()))),
                    None => drop(waiting.remove(&container_id)),
                }
            }
        }
    }
}
