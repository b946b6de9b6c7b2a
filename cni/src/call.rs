//! Parses the runtime's request from the environment variables.

use cni_wire::rpc::{Attachment, Keep};
use cni_wire::{CniError, Code, NetConf, Version};

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// A verb with its parameters.
#[derive(Debug)]
pub(crate) enum Call {
    Add(Attachment),
    Del(Attachment),
    Check(Attachment),
    Status,
    Gc(Keep),
}

impl Verb {
    /// Parses `CNI_COMMAND`. A missing or unknown value is error 4.
    pub(crate) fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        match get("CNI_COMMAND").as_deref() {
            Some("ADD") => Ok(Self::Add),
            Some("DEL") => Ok(Self::Del),
            Some("CHECK") => Ok(Self::Check),
            Some("STATUS") => Ok(Self::Status),
            Some("GC") => Ok(Self::Gc),
            Some("VERSION") => Ok(Self::Version),
            Some(other) => Err(CniError::new(Code::ENVIRONMENT, format!("CNI_COMMAND: {other:?} is not a verb"))),
            None => Err(CniError::new(Code::ENVIRONMENT, "CNI_COMMAND: missing")),
        }
    }

    /// Returns the first version of the specification with this verb.
    fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_3_1,
            Self::Check => Version::V0_4_0,
            Self::Status | Self::Gc => Version::V1_1_0,
        }
    }
}

impl Call {
    /// Parses the variables that `verb` needs. Error 4 names the first missing or invalid one.
    pub(crate) fn from_env(verb: Verb, conf: &NetConf, get: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        if conf.version < verb.since() {
            let text = format!("{verb:?} is not a verb of cniVersion {}", conf.version.as_str());
            return Err(CniError::new(Code::VERSION, text));
        }
        // A DEL needs only the container. It must not fail if other variables are missing.
        let pod = |name: &str, args: &str| match argument(name, args) {
            Err(_) if verb == Verb::Del => Ok(String::new()),
            other => other,
        };
        let attachment = || {
            let args = get("CNI_ARGS").unwrap_or_default();
            let attachment = Attachment {
                cni_version: conf.version.as_str().to_owned(),
                container_id: required("CNI_CONTAINERID", &get)?,
                netns: get("CNI_NETNS").filter(|n| !n.is_empty()),
                ifname: required("CNI_IFNAME", &get)?,
                pod_name: pod("K8S_POD_NAME", &args)?,
                pod_namespace: pod("K8S_POD_NAMESPACE", &args)?,
                pod_uid: argument("K8S_POD_UID", &args).ok(),
            };
            if attachment.netns.is_none() && verb != Verb::Del {
                return Err(CniError::new(Code::ENVIRONMENT, "CNI_NETNS: missing"));
            }
            if verb == Verb::Del {
                cni_wire::ident::container_id(&attachment.container_id)?;
            } else {
                attachment.validate()?;
            }
            Ok(attachment)
        };
        Ok(match verb {
            Verb::Add => Self::Add(attachment()?),
            Verb::Del => Self::Del(attachment()?),
            Verb::Check => Self::Check(attachment()?),
            Verb::Status | Verb::Version => Self::Status,
            Verb::Gc => {
                let missing = || CniError::new(Code::CONFIG, "cni.dev/valid-attachments: missing");
                Self::Gc(Keep { valid_attachments: conf.valid_attachments.clone().ok_or_else(missing)? })
            }
        })
    }
}

/// Returns the `cniVersion` of a VERSION request, if standard input contains one.
pub(crate) fn asked_version(stdin: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(stdin).ok()?;
    value.get("cniVersion")?.as_str().map(str::to_owned)
}

fn required(name: &str, get: &impl Fn(&str) -> Option<String>) -> Result<String, CniError> {
    let missing = || CniError::new(Code::ENVIRONMENT, format!("{name}: missing"));
    get(name).filter(|v| !v.is_empty()).ok_or_else(missing)
}

/// Returns the value of a key in `CNI_ARGS`, a list of `KEY=value` separated by `;`.
fn argument(name: &str, args: &str) -> Result<String, CniError> {
    args.split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
        .ok_or_else(|| CniError::new(Code::ENVIRONMENT, format!("CNI_ARGS: {name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_UID=11-22";

    fn call(verb: Verb, version: &str, env: &[(&str, &str)]) -> Result<Call, CniError> {
        let text = format!(r#"{{"cniVersion":"{version}","name":"kube-ovn"}}"#);
        let conf = NetConf::parse(text.as_bytes()).unwrap();
        Call::from_env(verb, &conf, |name| env.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn an_add_is_read_whole() {
        let env =
            [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/run/netns/a"), ("CNI_ARGS", ARGS)];
        let Call::Add(attachment) = call(Verb::Add, "1.0.0", &env).unwrap() else { panic!("not an ADD") };
        assert_eq!(attachment.pod_uid.as_deref(), Some("11-22"));
        assert_eq!((attachment.pod_namespace.as_str(), attachment.pod_name.as_str()), ("ns", "a"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let name = |verb, env: &[(&str, &str)]| {
            let error = call(verb, "1.1.0", env).unwrap_err();
            assert_eq!(error.code, Code::ENVIRONMENT);
            error.msg
        };
        assert_eq!(name(Verb::Add, &[]), "CNI_CONTAINERID: missing");
        let mut env = vec![("CNI_CONTAINERID", "c1"), ("CNI_ARGS", ARGS)];
        assert_eq!(name(Verb::Add, &env), "CNI_IFNAME: missing");
        env.push(("CNI_IFNAME", "eth0"));
        assert_eq!(name(Verb::Add, &env), "CNI_NETNS: missing");
        call(Verb::Del, "1.1.0", &env).unwrap();
        env[0].1 = "../../etc";
        assert_eq!(name(Verb::Del, &env), r#"CNI_CONTAINERID: "../../etc" is not valid"#);
        let few = [("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "e")];
        call(Verb::Del, "1.1.0", &few).unwrap();
        assert_eq!(name(Verb::Check, &few), "CNI_ARGS: K8S_POD_NAME is missing");
    }

    #[test]
    fn a_verb_that_the_version_lacks_is_refused() {
        assert_eq!(call(Verb::Gc, "1.0.0", &[]).unwrap_err().code, Code::VERSION);
        assert_eq!(call(Verb::Gc, "1.1.0", &[]).unwrap_err().code, Code::CONFIG);
        assert!(Verb::from_env(|_| None).is_err());
        assert!(Verb::from_env(|_| Some("add".into())).is_err());
    }
}
