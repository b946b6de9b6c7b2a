//! Sends one write as one request to the API server.

use std::fmt::Debug;
use std::time::Duration;

use api::{ExternalHost, Ip, IpPool, Subnet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Action, Body, FIELD_MANAGER, Part, Target};
use crate::cluster::Object;

/// Why a write failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object does not exist, already exists, or has another version than the write names.
    Conflict,
    /// The API server refuses the content.
    Refused(String),
    /// A temporary failure of this write.
    Passing(String),
    /// A failure that concerns all writes: the API server does not answer or throttles requests.
    Away(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error {
            Error::Api(status) => match status.code {
                404 | 409 | 410 => Self::Conflict,
                400 | 403 | 405 | 413 | 415 | 422 => Self::Refused(status.message),
                429 | 503 => Self::Away(why),
                _ => Self::Passing(why),
            },
            Error::SerdeError(_) | Error::BuildRequest(_) => Self::Refused(why),
            _ => Self::Away(why),
        }
    }
}

/// How long the API server may take for a write. An admission webhook may take 10 s by default, and then the API server
/// answers which one it was.
const PATIENCE: Duration = Duration::from_secs(12);

/// Sends the write once. One of several API servers can hang while the others answer: then the next attempt goes by another
/// connection.
pub(super) async fn once(client: &Client, target: &Target, action: &Action) -> Result<(), Failure> {
    let sent = timeout(PATIENCE, send(client, target, action)).await;
    sent.unwrap_or_else(|_| Err(Failure::Away(format!("no answer within {PATIENCE:?}"))))
}

async fn send(client: &Client, target: &Target, action: &Action) -> Result<(), Failure> {
    let client = client.clone();
    let name = match &target.object {
        Object::Pod(port) => {
            let (name, namespace) = api::pod_of_port(port).ok_or(Failure::Conflict)?;
            return Ok(metadata(&Api::<Pod>::namespaced(client, namespace), name, action).await?);
        }
        Object::Node(name) => return Ok(metadata(&Api::<Node>::all(client), name, action).await?),
        Object::Namespace(name) => return Ok(metadata(&Api::<Namespace>::all(client), name, action).await?),
        Object::Subnet(name)
        | Object::IpPool(name)
        | Object::ExternalHost(name)
        | Object::Ip(name)
        | Object::StatefulSet(name) => name,
    };
    match &target.object {
        Object::Subnet(_) => whole(&Api::<Subnet>::all(client), name, target.part, action).await?,
        Object::IpPool(_) => whole(&Api::<IpPool>::all(client), name, target.part, action).await?,
        Object::ExternalHost(_) => whole(&Api::<ExternalHost>::all(client), name, target.part, action).await?,
        Object::Ip(_) => whole(&Api::<Ip>::all(client), name, target.part, action).await?,
        // The controller writes nothing to other kinds.
        _ => {}
    }
    Ok(())
}

/// Patches the metadata, or the status. The response contains only metadata, which is much smaller than the object.
async fn metadata<K>(api: &Api<K>, name: &str, action: &Action) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    match action {
        Action::Merge(patch) => drop(api.patch_metadata(name, &params(), &Patch::Merge(raw(patch)?)).await?),
        Action::Strategic(patch) => drop(api.patch_status(name, &params(), &Patch::Strategic(raw(patch)?)).await?),
        // The controller neither creates nor deletes these objects.
        Action::Apply(_) | Action::Create(_) | Action::Delete(_) => {}
    }
    Ok(())
}

async fn whole<K>(api: &Api<K>, name: &str, part: Part, action: &Action) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug,
{
    match action {
        Action::Merge(patch) if part == Part::Status => {
            drop(api.patch_status(name, &params(), &Patch::Merge(raw(patch)?)).await?);
        }
        Action::Merge(patch) => drop(api.patch(name, &params(), &Patch::Merge(raw(patch)?)).await?),
        // Custom resources have none.
        Action::Strategic(_) => {}
        Action::Apply(config) => drop(api.patch(name, &params(), &Patch::Apply(raw(config)?)).await?),
        Action::Create(object) => {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            drop(api.create(&params, &object.parse::<K>().map_err(Error::SerdeError)?).await?);
        }
        Action::Delete(precondition) => {
            let preconditions = Preconditions {
                uid: Some(precondition.uid.to_string()),
                resource_version: Some(precondition.version.to_string()),
            };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(name, &params).await {
                Err(Error::Api(status)) if status.code == 404 => {}
                other => drop(other?),
            }
        }
    }
    Ok(())
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

fn raw(body: &Body) -> Result<&RawValue, Error> {
    body.raw().map_err(Error::SerdeError)
}
