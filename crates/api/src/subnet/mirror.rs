//! The collector of a Subnet as users write it.

use kube::KubeSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{null_is_default, plain, rules};

/// A collector outside of the nodes, to which the nodes send copies of the packets of a subnet's pods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["to"]))]
#[schemars(transform = plain)]
pub struct RemoteMirror {
    /// The address of the collector.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = rules::MIRROR_TO)]
    pub to: String,
    /// How copies are packed: `gre` (the default) or `erspan`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["gre", "erspan"]))]
    pub type_: Option<String>,
    /// The key of GRE, or the session and index of ERSPAN, which has at most 1023; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub key: Option<i64>,
    /// Which pods: `All` (the default), or `Annotated` for those with the annotation `ovn.kubernetes.io/mirror: "true"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["All", "Annotated"]))]
    pub pods: Option<String>,
}

/// Reads any stored value: before the field was known, the API server stored it unchecked. What is no collector gives one
/// that the checks refuse.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RemoteMirror>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        written => Some(serde_json::from_value(written).unwrap_or_default()),
    })
}
