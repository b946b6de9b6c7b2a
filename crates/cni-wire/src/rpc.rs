//! What plugin and agent say to each other: one JSON-RPC 2.0 object per line over a unix socket.
//!
//! Methods: `add`, `del`, `check`, `status` and `gc`. The parameters of `add` and `del` are an [`Attachment`],
//! those of `check` a [`Check`].
//! `add` answers an [`Attached`], the others `null`. An error's `code` is the CNI code ([`Code`]), its `message` the CNI
//! `msg`, its `data` the CNI `details`; the codes below zero that JSON-RPC itself defines mean a fault in the protocol.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::conf::ValidAttachment;
use crate::result::{Interface, Ip, Route};
use crate::{CniError, CniResult, Code, ident};

/// The longest line either side accepts, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// The methods of the agent.
pub mod method {
    /// Plug a container in.
    pub const ADD: &str = "add";
    /// Take a container's attachment away.
    pub const DEL: &str = "del";
    /// Compare an attachment with what was promised.
    pub const CHECK: &str = "check";
    /// Would an ADD work?
    pub const STATUS: &str = "status";
    /// Take away what is not in a list.
    pub const GC: &str = "gc";
}

/// One attachment: which interface of which container, for which pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attachment {
    /// The configuration's CNI version, for the agent's log.
    pub cni_version: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`; a DEL may come without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `K8S_POD_NAME` of `CNI_ARGS`
    pub pod_name: String,
    /// `K8S_POD_NAMESPACE` of `CNI_ARGS`
    pub pod_namespace: String,
    /// `K8S_POD_UID` of `CNI_ARGS`, when the runtime gives it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

impl Attachment {
    /// Checks every identifier ([`ident`]); the first wrong one is named in error 4.
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

/// The parameters of `check`: an attachment's members, and more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Check {
    /// Whose.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The addresses that `prevResult` says the interface has, as address and prefix length.
    #[serde(default)]
    pub promised: Vec<String>,
}

/// The parameters of `gc`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Keep {
    /// What stays; everything else of this network goes.
    pub valid_attachments: Vec<ValidAttachment>,
}

/// What `add` did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attached {
    /// The host end's name.
    pub host_ifname: String,
    /// The container end's hardware address.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses, IPv4 first.
    pub ips: Vec<Address>,
    /// Its routes beyond the connected ones.
    pub routes: Vec<Route>,
}

/// One address of [`Attached`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Address {
    /// Address and prefix length.
    pub address: String,
    /// The family's gateway.
    pub gateway: IpAddr,
}

impl Attached {
    /// The CNI result of this attachment: host end first, then the container's interface.
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

/// One request line, newline included. Every connection carries one request, so the id is always 1.
pub fn request(method: &str, params: &impl Serialize) -> Result<String, CniError> {
    let mut line = serde_json::to_string(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
        .map_err(|e| CniError::new(Code::DECODE, format!("request {method} cannot be encoded")).details(e))?;
    line.push('\n');
    Ok(line)
}

/// Reads one reply line: the `result`, or the error as the CNI error it stands for.
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
