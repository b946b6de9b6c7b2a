//! The network configuration that a runtime passes to a plugin, and the versions of the CNI specification.

use serde::Deserialize;
use serde_json::Value;

use crate::{CniError, CniResult, Code};

/// A supported version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: adds CHECK
    V0_4_0,
    /// 1.0.0: removes `ips[].version`
    V1_0_0,
    /// 1.1.0: adds STATUS and GC, and fields of interfaces and routes
    V1_1_0,
}

impl Version {
    /// All versions, from the oldest to the newest.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// Returns the version as written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Parses `cniVersion`. An unknown version is error 1.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            CniError::new(Code::VERSION, format!("cniVersion {text:?} is not supported"))
                .details("supported: 0.3.1, 0.4.0, 1.0.0, 1.1.0")
        })
    }

    /// Returns the reply to VERSION. `asked` is the request's `cniVersion`; a supported one is echoed.
    pub fn reply(asked: Option<&str>) -> String {
        let version = asked.and_then(|a| Self::parse(a).ok()).unwrap_or(Self::NEWEST);
        let all = Self::ALL.map(Self::as_str);
        serde_json::json!({ "cniVersion": version.as_str(), "supportedVersions": all }).to_string()
    }
}

/// The configuration on standard input. Unused fields are ignored.
#[derive(Clone, Debug)]
pub struct NetConf {
    /// The version of the specification for the reply.
    pub version: Version,
    /// The name of the network.
    pub name: String,
    /// The path of the agent's unix socket. It is absolute.
    pub server_socket: String,
    /// The result of the previous plugin in the chain (ADD), or of the whole ADD (CHECK, DEL).
    pub prev_result: Option<CniResult>,
    /// GC: the attachments to keep.
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

/// An element of `cni.dev/valid-attachments`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct ValidAttachment {
    /// The ID of the container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface in the container.
    pub ifname: String,
}

/// The default path of the agent's socket, the same as in kube-ovn.
pub const DEFAULT_SOCKET: &str = "/run/openvswitch/kube-ovn-daemon.sock";

impl NetConf {
    /// Parses standard input. Invalid JSON is error 6, an invalid field is error 7, and an unknown version is error 1.
    pub fn parse(stdin: &[u8]) -> Result<Self, CniError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            cni_version: Option<String>,
            name: Option<String>,
            #[serde(rename = "server_socket")]
            server_socket: Option<String>,
            prev_result: Option<Value>,
            #[serde(rename = "cni.dev/valid-attachments")]
            valid_attachments: Option<Vec<ValidAttachment>>,
        }
        let value: Value = serde_json::from_slice(stdin)
            .map_err(|e| CniError::new(Code::DECODE, "network configuration is not JSON").details(e))?;
        let wire: Wire = serde_json::from_value(value)
            .map_err(|e| CniError::new(Code::CONFIG, "network configuration is malformed").details(e))?;
        let version = match wire.cni_version.as_deref() {
            // By the specification, a missing version means 0.1.0, which is not supported.
            None => Version::parse("0.1.0")?,
            Some(text) => Version::parse(text)?,
        };
        let wrong = |field: &str, why: &str| Err(CniError::new(Code::CONFIG, format!("{field}: {why}")));
        let Some(name) = wire.name.filter(|n| !n.is_empty()) else {
            return wrong("name", "missing");
        };
        let server_socket = wire.server_socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        if !server_socket.starts_with('/') || server_socket.contains('\0') {
            return wrong("server_socket", "must be an absolute path");
        }
        let prev_result = match wire.prev_result {
            None | Some(Value::Null) => None,
            Some(value) => Some(
                serde_json::from_value(value)
                    .map_err(|e| CniError::new(Code::CONFIG, "prevResult is malformed").details(e))?,
            ),
        };
        Ok(Self { version, name, server_socket, prev_result, valid_attachments: wire.valid_attachments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> u32 {
        NetConf::parse(text.as_bytes()).unwrap_err().code.0
    }

    #[test]
    fn a_conflists_plugin_is_read() {
        let conf = NetConf::parse(
            br#"{"cniVersion":"1.0.0","name":"kube-ovn","type":"kube-ovn","server_socket":"/run/a.sock","x":1}"#,
        )
        .unwrap();
        assert_eq!((conf.version, conf.server_socket.as_str()), (Version::V1_0_0, "/run/a.sock"));
    }

    #[test]
    fn bad_input_gets_the_specifications_codes() {
        assert_eq!(code("{"), 6);
        assert_eq!(code(""), 6);
        assert_eq!(code("[]"), 7);
        assert_eq!(code(r#"{"name":"a"}"#), 1);
        assert_eq!(code(r#"{"cniVersion":"9.9.9","name":"a"}"#), 1);
        assert_eq!(code(r#"{"cniVersion":"1.0.0"}"#), 7);
        assert_eq!(code(r#"{"cniVersion":1,"name":"a"}"#), 7);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"a","server_socket":"rel"}"#), 7);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"a","prevResult":{"ips":7}}"#), 7);
    }

    #[test]
    fn version_echoes_what_we_speak() {
        let all = r#""supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
        assert_eq!(Version::reply(Some("0.4.0")), format!(r#"{{"cniVersion":"0.4.0",{all}"#));
        assert_eq!(Version::reply(Some("7")), format!(r#"{{"cniVersion":"1.1.0",{all}"#));
    }
}
