//! One request to the API server for one write.

use api::{Ip, IpPool, Subnet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error, Resource};
use serde_json::value::RawValue;

use super::{Action, Body, Target, Write};

/// Why a write was not taken.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again can not help: the object is gone or another one, or the request itself is wrong.
    Final(String),
    /// It may help to try again later.
    Passing(String),
    /// It is not about this write: the API server does not answer, or asks for fewer requests.
    Away(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let why = error.to_string();
        match error {
            Error::Api(status) => match status.code {
                400 | 403 | 404 | 409 | 410 | 422 => Self::Final(why),
                429 | 503 => Self::Away(why),
                _ => Self::Passing(why),
            },
            Error::SerdeError(_) | Error::BuildRequest(_) => Self::Final(why),
            _ => Self::Away(why),
        }
    }
}

/// Tries the write once.
pub(super) async fn once(client: &Client, write: &Write) -> Result<(), Failure> {
    Ok(tell(client.clone(), write).await?)
}

async fn tell(client: Client, write: &Write) -> Result<(), Error> {
    match &write.target {
        Target::Pod { namespace, name } => {
            metadata(&Api::<Pod>::namespaced(client, namespace), name, &write.action).await
        }
        Target::Node(name) => metadata(&Api::<Node>::all(client), name, &write.action).await,
        Target::Namespace(name) => metadata(&Api::<Namespace>::all(client), name, &write.action).await,
        Target::Subnet(name) => whole(&Api::<Subnet>::all(client), name, &write.action).await,
        Target::SubnetStatus(name) => status(&Api::<Subnet>::all(client), name, &write.action).await,
        Target::IpPool(name) => whole(&Api::<IpPool>::all(client), name, &write.action).await,
        Target::IpPoolStatus(name) => status(&Api::<IpPool>::all(client), name, &write.action).await,
        Target::Ip(name) => whole(&Api::<Ip>::all(client), name, &write.action).await,
    }
}

/// Patches metadata alone; the answer is metadata too, a tenth of the object.
async fn metadata<K>(api: &Api<K>, name: &str, action: &Action) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    if let Action::Merge(patch) = action {
        api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(raw(patch)?)).await?;
    }
    Ok(())
}

async fn status<K>(api: &Api<K>, name: &str, action: &Action) -> Result<(), Error>
where
    K: serde::de::DeserializeOwned,
{
    if let Action::Merge(patch) = action {
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(raw(patch)?)).await?;
    }
    Ok(())
}

async fn whole<K>(api: &Api<K>, name: &str, action: &Action) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    match action {
        Action::Merge(patch) => drop(api.patch(name, &PatchParams::default(), &Patch::Merge(raw(patch)?)).await?),
        Action::Create(object) => {
            drop(api.create(&PostParams::default(), &object.parse::<K>().map_err(Error::SerdeError)?).await?);
        }
        Action::Delete => match api.delete(name, &DeleteParams::default()).await {
            Err(Error::Api(status)) if status.code == 404 => {}
            other => drop(other?),
        },
    }
    Ok(())
}

fn raw(body: &Body) -> Result<&RawValue, Error> {
    body.raw().map_err(Error::SerdeError)
}
