//! The protocol between plugin and agent: one JSON-RPC 2.0 object per line on a unix socket.
//!
//! The methods are `add`, `del`, `check`, `status` and `gc`. The parameters of `add` and `del` are an [`Attachment`],
//! and those of `check` a [`Check`]. `add` returns an [`Attached`], the other methods return `null`.
//!
//! An error's `code` is the CNI code ([`Code`]), its `message` is the CNI `msg`, and its `data` is the CNI `details`.
//! The negative codes of JSON-RPC mean a protocol error.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::conf::ValidAttachment;
use crate::result::{Interface, Ip, Route};
use crate::{CniError, CniResult, Code, ident};

/// The maximum length of a line in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// The methods of the agent.
pub mod method {
    /// Attaches a container to the network.
    pub const ADD: &str = "add";
    /// Removes the attachment of a container.
    pub const DEL: &str = "del";
    /// Compares an attachment with the result of ADD.
    pub const CHECK: &str = "check";
    /// Reports whether the agent can serve `add`.
    pub const STATUS: &str = "status";
    /// Removes all attachments that are not in a list.
    pub const GC: &str = "gc";
}

/// An attachment: an interface of a container, and the pod it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attachment {
    /// The CNI version of the configuration, for the agent's log.
    pub cni_version: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`. A DEL can lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `K8S_POD_NAME` of `CNI_ARGS`
    pub pod_name: String,
    /// `K8S_POD_NAMESPACE` of `CNI_ARGS`
    pub pod_namespace: String,
    /// `K8S_POD_UID` of `CNI_ARGS`, if the runtime sets it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

impl Attachment {
    /// Validates every identifier ([`ident`]). Error 4 names the first invalid one.
    pub fn validate(&self) -> Result<(), CniError> {
        ident::container_id(&self.container_id)?;
        ident::ifname(&self.ifname)?;
        if let Some(netns) = &self.netns {
            ident::netns(netns)?;
        }
        ident::object_name("K8S_POD_NAME", &self.pod_name)?;
        ident::object_name("K8S_POD_NAMESPACE", &self.pod_namespace)?;
        if let Some(uid) = &self.pod_uid {
            ident::uid("K8S_POD_UID", uid)?;
        }
        Ok(())
    }
}

/// The parameters of `check`: an attachment and the expected addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Check {
    /// The attachment.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The addresses of the interface in `prevResult`, with their prefix lengths.
    #[serde(default)]
    pub promised: Vec<String>,
}

/// The parameters of `gc`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Keep {
    /// The attachments to keep. All other attachments of this network are removed.
    pub valid_attachments: Vec<ValidAttachment>,
}

/// The result of `add`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attached {
    /// The name of the host end.
    pub host_ifname: String,
    /// The MAC address of the container end.
    pub mac: String,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The addresses, IPv4 first.
    pub ips: Vec<Address>,
    /// The routes, without the connected ones.
    pub routes: Vec<Route>,
}

/// An address in [`Attached`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Address {
    /// The address with its prefix length.
    pub address: String,
    /// The gateway of the address family.
    pub gateway: IpAddr,
}

impl Attached {
    /// Returns the CNI result: the host end first, then the container's interface.
    pub fn into_result(self, attachment: &Attachment) -> CniResult {
        let host = Interface { name: self.host_ifname, mtu: Some(self.mtu), ..Interface::default() };
        let inner = Interface {
            name: attachment.ifname.clone(),
            mac: self.mac,
            mtu: Some(self.mtu),
            sandbox: attachment.netns.clone().unwrap_or_default(),
        };
        let ips = self.ips.into_iter();
        CniResult {
            interfaces: vec![host, inner],
            ips: ips.map(|a| Ip { address: a.address, gateway: Some(a.gateway), interface: Some(1) }).collect(),
            routes: self.routes,
            ..CniResult::default()
        }
    }
}

/// Returns a request line with its newline. A connection carries one request, so the ID is always 1.
pub fn request(method: &str, params: &impl Serialize) -> Result<String, CniError> {
    let mut line = serde_json::to_string(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
        .map_err(|e| CniError::new(Code::DECODE, format!("request {method} cannot be encoded")).details(e))?;
    line.push('\n');
    Ok(line)
}

/// Parses a reply line. Returns the `result`, or the error as a CNI error.
pub fn reply<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, CniError> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(default)]
        result: Value,
        error: Option<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: i64,
        message: String,
        #[serde(default)]
        data: Value,
    }
    let strange =
        |e: serde_json::Error| CniError::new(Code::PROTOCOL, "the agent's answer is not understood").details(e);
    let wire: Wire = serde_json::from_slice(line).map_err(strange)?;
    let Some(fault) = wire.error else {
        return serde_json::from_value(wire.result).map_err(strange);
    };
    let code = match u32::try_from(fault.code) {
        Ok(code) if code > 0 => Code(code),
        _ if fault.code == -32601 => Code::VERB,
        _ => Code::PROTOCOL,
    };
    let details = match fault.data {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    Err(CniError { code, msg: fault.message, details })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line() {
        let attachment = Attachment {
            cni_version: "1.0.0".into(),
            container_id: "c".into(),
            netns: None,
            ifname: "eth0".into(),
            pod_name: "a".into(),
            pod_namespace: "b\nc".into(),
            pod_uid: None,
        };
        let line = request(method::DEL, &attachment).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with('\n'));
        assert_eq!(attachment.validate().unwrap_err().code, Code::ENVIRONMENT);
    }

    #[test]
    fn errors_keep_their_cni_code() {
        let get = |text: &str| reply::<Value>(text.as_bytes()).unwrap_err();
        let error = get(r#"{"jsonrpc":"2.0","id":1,"error":{"code":11,"message":"not yet","data":"why"}}"#);
        assert_eq!(error, CniError::new(Code::TRY_AGAIN, "not yet").details("why"));
        assert_eq!(get(r#"{"error":{"code":-32601,"message":"Method not found"}}"#).code, Code::VERB);
        assert_eq!(get("nonsense").code, Code::PROTOCOL);
        assert_eq!(reply::<Value>(br#"{"jsonrpc":"2.0","id":1,"result":null}"#).unwrap(), Value::Null);
    }
}
