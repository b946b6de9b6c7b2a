//! The queues of requests: one request at a time for each container, and all containers at the same time.
//!
//! One task owns the queues. A DEL that arrives during the ADD of its container waits for this ADD, but never for another
//! container.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cni_wire::rpc::{Attached, Attachment};
use cni_wire::{CniError, Code};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attach::Attacher;

/// The kind of a request, with the sender for its answer.
#[derive(Debug)]
enum Work {
    Add(oneshot::Sender<Result<Attached, CniError>>),
    Del(oneshot::Sender<Result<(), CniError>>),
    Check(Vec<IpNet>, oneshot::Sender<Result<(), CniError>>),
    Restore(oneshot::Sender<Result<(), CniError>>),
}

/// A request for one container.
#[derive(Debug)]
struct Request {
    attachment: Attachment,
    work: Work,
}

impl Request {
    /// Carries out the request and answers it. Finishes even if nobody waits for the answer any more, so that the record is
    /// complete when the runtime sends a DEL. Returns the container ID.
    async fn serve(self, attacher: Arc<Attacher>) -> String {
        let attachment = self.attachment;
        let start = Instant::now();
        let done = |method: &str, error: Option<&CniError>| {
            log(method, &attachment, start.elapsed(), error);
            attacher.metrics.operation(method, error.map_or(0, |e| e.code.0), start.elapsed());
        };
        // The receiver is gone if the runtime has ended the plugin.
        match self.work {
            Work::Add(answer) => {
                let result = attacher.add(&attachment).await;
                done("add", result.as_ref().err());
                let _ = answer.send(result);
            }
            Work::Del(answer) => {
                let result = attacher.del(&attachment).await;
                // Runtimes repeat a DEL until their own record is gone.
                if matches!(result, Ok(false)) {
                    tracing::debug!(container = attachment.container_id, "del: nothing there");
                } else {
                    done("del", result.as_ref().err());
                }
                let _ = answer.send(result.map(drop));
            }
            Work::Restore(answer) => {
                let result = attacher.restore(&attachment).await;
                if !matches!(result, Ok(false)) {
                    done("restore", result.as_ref().err());
                }
                let _ = answer.send(result.map(drop));
            }
            Work::Check(promised, answer) => {
                let result = attacher.check(&attachment, &promised).await;
                done("check", result.as_ref().err());
                let _ = answer.send(result);
            }
        }
        attachment.container_id
    }
}

fn log(method: &str, a: &Attachment, took: Duration, error: Option<&CniError>) {
    let (pod, namespace, container) = (&a.pod_name, &a.pod_namespace, &a.container_id);
    match error {
        None => tracing::info!(pod, namespace, container, ?took, "{method} done"),
        Some(error) => tracing::warn!(pod, namespace, container, ?took, %error, "{method} failed"),
    }
}

/// Accepts requests.
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
        self.ask(attachment, Work::Add).await
    }

    /// DEL.
    pub async fn del(&self, attachment: Attachment) -> Result<(), CniError> {
        self.ask(attachment, Work::Del).await
    }

    /// CHECK. `promised` are the addresses that the runtime knows.
    pub async fn check(&self, attachment: Attachment, promised: Vec<IpNet>) -> Result<(), CniError> {
        self.ask(attachment, |answer| Work::Check(promised, answer)).await
    }

    /// Adds the port of a running container again, if it is lost.
    pub async fn restore(&self, attachment: Attachment) -> Result<(), CniError> {
        self.ask(attachment, Work::Restore).await
    }

    async fn ask<T>(
        &self,
        attachment: Attachment,
        work: impl FnOnce(oneshot::Sender<Result<T, CniError>>) -> Work,
    ) -> Result<T, CniError> {
        let stopping = || CniError::new(Code::TRY_AGAIN, "the agent is stopping");
        let (answer, result) = oneshot::channel();
        self.0.send(Request { attachment, work: work(answer) }).await.map_err(|_| stopping())?;
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
                match waiting.entry(request.attachment.container_id.clone()) {
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
