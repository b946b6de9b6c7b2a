//! The cluster's certificates and kubeconfigs. There are two CAs, for Kubernetes and for the front proxy of aggregated
//! APIs. All keys are elliptic curve keys.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::layout::{self, CONTROL_PLANE, CONTROL_PLANE_6, Node};

/// The kubeconfigs: file name, user, group.
const USERS: [(&str, &str, Option<&str>); 6] = [
    ("admin", "admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("proxy", "system:kube-proxy", None),
    // For a lab without pods of the network: the service accounts, with certificates instead of tokens.
    ("kube-ovn-controller", "system:serviceaccount:kube-system:kube-ovn-controller", Some("system:serviceaccounts")),
    ("kube-ovn-cni", "system:serviceaccount:kube-system:kube-ovn-cni", Some("system:serviceaccounts")),
];

/// Returns a file under `pki` as a string for command lines.
pub fn file(name: &str) -> String {
    layout::pki().join(name).display().to_string()
}

/// Creates all files.
pub fn make(nodes: &[Node]) -> Result<()> {
    fs::create_dir_all(layout::pki())?;
    let (cluster, front) = (authority("ca")?, authority("front")?);

    let server = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let server = server.into_iter().chain([CONTROL_PLANE, CONTROL_PLANE_6, "127.0.0.1", "10.96.0.1", "fd00:10:96::1"]);
    leaf(&cluster, "apiserver", "kube-apiserver", None, server.map(str::to_owned).collect())?;
    leaf(&cluster, "kubelet-client", "kube-apiserver-kubelet-client", Some("system:masters"), vec![])?;
    leaf(&front, "front-client", "front-proxy-client", None, vec![])?;

    for (name, user, group) in USERS {
        leaf(&cluster, name, user, group, vec![])?;
        kubeconfig(name)?;
    }
    for node in nodes {
        let name = node.name();
        let names = vec![name.clone(), node.ip4(), node.ip6()];
        leaf(&cluster, &name, &format!("system:node:{name}"), Some("system:nodes"), names)?;
        kubeconfig(&name)?;
    }

    // A plain key pair signs service account tokens.
    let key = KeyPair::generate()?;
    write("sa.key", &key.serialize_pem())?;
    write("sa.pub", &key.public_key_pem())
}

fn authority(name: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName); // the crate's default
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    write(&format!("{name}.crt"), &params.self_signed(&key)?.pem())?;
    write(&format!("{name}.key"), &key.serialize_pem())?;
    Ok(Issuer::new(params, key))
}

/// `names` are DNS names and addresses.
fn leaf(by: &Issuer<'_, KeyPair>, file: &str, user: &str, group: Option<&str>, names: Vec<String>) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    write(&format!("{file}.crt"), &params.signed_by(&key, by)?.pem())?;
    write(&format!("{file}.key"), &key.serialize_pem())
}

/// A kubeconfig is YAML, and JSON is valid YAML.
fn kubeconfig(user: &str) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": format!("https://{CONTROL_PLANE}:{}", layout::api_port()), "certificate-authority": file("ca.crt")}}],
        "users": [{"name": user, "user": {"client-certificate": file(&format!("{user}.crt")), "client-key": file(&format!("{user}.key"))}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
    });
    write(&format!("{user}.conf"), &format!("{config:#}\n"))
}

fn write(name: &str, text: &str) -> Result<()> {
    let path = PathBuf::from(file(name));
    fs::write(&path, text).with_context(|| path.display().to_string())
}
