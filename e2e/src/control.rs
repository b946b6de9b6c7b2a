//! A control plane outside of the machine of the lab: etcd and the API server. In an emulated machine they would take
//! minutes to start, and most of its time after that. So they run where the emulator runs, and the lab reaches them
//! through it.
//!
//! No controller of Kubernetes runs. The objects that the network needs are created here: the custom resources, accounts
//! and roles of the manifest, and the Nodes.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ::kube::api::{Patch, PatchParams};
use ::kube::{Api, Client};
use anyhow::{Context, Result, bail};
use api::annotations::ROLE_LABEL;
use k8s_openapi::api::core::v1::{Namespace, Node as NodeObject};
use serde_json::json;

use crate::bare::{account, create};
use crate::layout::{self, Node, cache};
use crate::{central, kube, pki, process};

/// The port of the API server, here and at the address where the lab looks for it. Another lab may use the default one.
pub const API: u16 = 16443;
/// The port of etcd.
const ETCD: u16 = 22379;
/// The kinds of the manifest that are not workloads.
const KINDS: [&str; 6] =
    ["CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];

/// Runs the control plane in the directory that `LAB_CONTROL` names. Creates the file `ready` there when the lab can
/// start. Returns only when a program has ended. When this process ends, so do they.
pub fn run() -> Result<()> {
    let folder = layout::control().context("LAB_CONTROL says in which directory")?;
    fs::create_dir_all(&folder)?;
    let nodes = [Node::ONE, Node::TWO];
    pki::make(&nodes)?;
    // The program is chosen by its name, so it runs by a link.
    let program = folder.join("kube-apiserver");
    std::os::unix::fs::symlink(cache("bin/kube"), &program)?;
    let mut apiserver = Command::new(&program);
    apiserver.args(kube::apiserver(ETCD, API).get_args()).arg("--bind-address=127.0.0.1");
    let mut children = [
        start(&folder, "etcd", &kube::etcd(ETCD, &folder.join("etcd")))?,
        start(&folder, "kube-apiserver", &apiserver)?,
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = process::until(Duration::from_mins(1), ready).await?;
        objects(&client, &nodes).await
    })?;
    File::create(folder.join("ready"))?;
    loop {
        for child in &mut children {
            if let Some(status) = child.try_wait()? {
                bail!("a program of the control plane has ended: {status}; see {}", folder.display());
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Starts a program that ends with this process. Its output goes to `<name>.log`.
fn start(folder: &Path, name: &str, command: &Command) -> Result<Child> {
    let log = File::create(folder.join(format!("{name}.log")))?;
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    bound.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().with_context(|| name.to_owned())
}

async fn ready() -> Result<Client> {
    let client = kube::client_at(Some(format!("https://127.0.0.1:{API}").parse()?)).await?;
    client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
    // The API server creates its own namespaces some time after it is ready.
    Api::<Namespace>::all(client.clone()).get("kube-system").await?;
    Ok(client)
}

/// Creates the objects of the manifest that are not workloads, and the Nodes.
async fn objects(client: &Client, nodes: &[Node]) -> Result<()> {
    let manifest = yamls::objects(&fs::read_to_string(yamls::MANIFEST)?)?;
    for object in manifest.into_iter().filter(|o| o["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind))) {
        create(client, object).await?;
    }
    account(client, "default").await?;
    let api: Api<NodeObject> = Api::all(client.clone());
    for node in nodes {
        let (name, address) = (node.name(), |kind: &str, address: String| json!({"type": kind, "address": address}));
        let mut labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
        if *node == central::NODE {
            labels[ROLE_LABEL] = "master".into();
        }
        let metadata = json!({"name": name, "labels": labels});
        create(client, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})).await?;
        let status = json!({"status": {
            "addresses": [
                address("InternalIP", node.ip4()), address("InternalIP", node.ip6()), address("Hostname", name.clone()),
            ],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": "no kubelet runs"}],
        }});
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(())
}
