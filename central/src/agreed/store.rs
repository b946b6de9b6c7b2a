//! The records of both databases in a ConfigMap. A write succeeds only over the version that was read.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use super::record::Record;

/// The name of the ConfigMap.
pub const NAME: &str = "ovn-central";

/// The time limit of a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Access to the record of one database.
#[derive(Clone, Debug)]
pub struct Store {
    api: Api<ConfigMap>,
    /// The key in the ConfigMap: the name of the database.
    key: &'static str,
}

/// A record and the version of the object that it was read from.
#[derive(Clone, Debug)]
pub struct Read {
    /// The record.
    pub record: Record,
    /// `None` if there was no object.
    object: Option<ConfigMap>,
}

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server refused the request, or did not answer.
    #[error("ConfigMap {NAME}: {0}")]
    Api(#[from] kube::Error),
    /// The API server did not answer in time.
    #[error("ConfigMap {NAME}: no answer of the API server within {PATIENCE:?}")]
    Slow,
    /// The value is not that of a record.
    #[error("ConfigMap {NAME}, key {key}: {source}; remove the key, and the members record themselves again")]
    Unreadable {
        /// The key.
        key: &'static str,
        /// The error.
        source: serde_json::Error,
    },
}

impl Store {
    /// Returns access to the record of the database with this name.
    pub fn new(client: &Client, namespace: &str, database: &'static str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), key: database }
    }

    /// Reads the record. One that does not exist is empty.
    pub async fn read(&self) -> Result<Read, StoreError> {
        let object = within(self.api.get_opt(NAME)).await?;
        let text = object.as_ref().and_then(|object| object.data.as_ref()?.get(self.key));
        let record = text.map_or(Ok(Record::default()), |text| serde_json::from_str(text));
        let record = record.map_err(|source| StoreError::Unreadable { key: self.key, source })?;
        Ok(Read { record, object })
    }

    /// Writes a record over what was read. Returns false if somebody else has written in between.
    pub async fn write(&self, over: &Read, record: &Record) -> Result<bool, StoreError> {
        let text = serde_json::to_string(record).map_err(|source| StoreError::Unreadable { key: self.key, source })?;
        let written = if let Some(object) = &over.object {
            let mut object = object.clone();
            object.data.get_or_insert_default().insert(self.key.to_owned(), text);
            within(self.api.replace(NAME, &PostParams::default(), &object)).await
        } else {
            let object = ConfigMap {
                metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
                data: Some(BTreeMap::from([(self.key.to_owned(), text)])),
                ..ConfigMap::default()
            };
            within(self.api.create(&PostParams::default(), &object)).await
        };
        match written {
            Ok(_) => Ok(true),
            // Changed, created, or deleted since.
            Err(StoreError::Api(kube::Error::Api(status)))
                // Nothing can be created in a namespace that does not exist.
                if status.code == 409 || status.code == 404 && over.object.is_some() =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Bounds a request.
pub(super) async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, StoreError> {
    tokio::time::timeout(PATIENCE, request).await.map_err(|_| StoreError::Slow)?.map_err(StoreError::Api)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_with_the_way_out() {
        let source = serde_json::from_str::<Record>("{").unwrap_err();
        let message = StoreError::Unreadable { key: "OVN_Northbound", source }.to_string();
        assert!(message.starts_with("ConfigMap ovn-central, key OVN_Northbound: "), "{message}");
        assert!(message.ends_with("; remove the key, and the members record themselves again"), "{message}");
    }
}
