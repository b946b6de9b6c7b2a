//! Security: what the accounts of our programs may not do, tried as them.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::kube::kubectl;
use e2e::layout::Node;
use k8s_openapi::ByteString;
use keys::{HOLDER, Identity, Request, Role, SIGNER};
use serde_json::{Value, json};

const CENTRAL: &str = "--as=system:serviceaccount:kube-system:ovn-central";

/// Returns the name of the first pod with these labels.
async fn pod(labels: &str) -> Result<String> {
    let selector = format!("--selector={labels}");
    let names = kubectl(&["get", "pods", "--namespace=kube-system", "--output=name", &selector]).await?;
    names.lines().next().map(str::to_owned).with_context(|| format!("no pod with {labels}"))
}

/// Tries a change as ovn-central. It is not made.
async fn change(namespace: &str, object: &str, patch: &str) -> Result<()> {
    let namespace = format!("--namespace={namespace}");
    let words = ["patch", object, &namespace, "--type=merge", "--dry-run=server", CENTRAL, "--patch", patch];
    kubectl(&words).await.map(drop)
}

#[tokio::test]
async fn sec_ovn_central_changes_nothing_but_the_labels_of_leaders() -> Result<()> {
    Cluster::running().await?;
    let (own, other) = (pod("app=ovn-central").await?, pod("app=kube-ovn-controller").await?);
    let label = r#"{"metadata": {"labels": {"ovn-nb-leader": "true", "ovn-sb-leader": null}}}"#;
    change("kube-system", &own, label).await?;
    let image = r#"{"spec": {"activeDeadlineSeconds": 60}}"#;
    let node = format!("node/{}", Node::ONE.name());
    for (object, patch, why) in [
        (&own, r#"{"metadata": {"labels": {"app": "other"}}}"#, "ovn-central may change only the labels ovn-nb-leader"),
        (&own, r#"{"metadata": {"labels": {"new": "x"}}}"#, "ovn-central may change only the labels ovn-nb-leader"),
        (&own, r#"{"metadata": {"annotations": {"a": "b"}}}"#, "ovn-central may change nothing but labels"),
        (&own, r#"{"metadata": {"finalizers": ["example.org/x"]}}"#, "ovn-central may change nothing but labels"),
        (&own, image, "ovn-central may change nothing but labels"),
        (&other, label, "ovn-central may label only its own pods"),
        (&"configmap/kube-root-ca.crt".to_owned(), r#"{"data": {"a": "b"}}"#, "cannot"),
        (&node, label, "cannot"),
    ] {
        let refused = change("kube-system", object, patch).await;
        let refused = refused.err().with_context(|| format!("{object}: {patch} is not refused"))?;
        ensure!(format!("{refused:#}").contains(why), "{object}: {patch}: {refused:#}");
    }
    Ok(())
}

#[tokio::test]
async fn sec_accounts_may_only_what_they_need() -> Result<()> {
    Cluster::running().await?;
    let everywhere = "--all-namespaces";
    let may = async |account: &str, verb: &str, resource: &str, place: &str| {
        let account = format!("--as=system:serviceaccount:kube-system:{account}");
        // It ends with status 1 where the answer is no.
        let said = kubectl(&["auth", "can-i", verb, resource, place, &account]).await;
        said.is_ok_and(|said| said.trim() == "yes")
    };
    for (account, allowed, refused) in [
        (
            "kube-ovn-cni",
            &[("list", "pods"), ("watch", "subnets.kubeovn.io")][..],
            &[
                ("patch", "pods"),
                ("create", "pods"),
                ("patch", "nodes"),
                ("patch", "nodes/status"),
                ("get", "secrets"),
                ("patch", "subnets.kubeovn.io"),
                ("create", "ips.kubeovn.io"),
                ("delete", "ips.kubeovn.io"),
                ("create", "serviceaccounts/token"),
                ("create", "pods/exec"),
                ("get", "nodes/proxy"),
            ][..],
        ),
        (
            "kube-ovn-external-host",
            &[("list", "externalhosts.kubeovn.io")],
            &[
                ("list", "pods"),
                ("list", "nodes"),
                ("get", "secrets"),
                ("patch", "externalhosts.kubeovn.io"),
                ("patch", "subnets.kubeovn.io"),
                ("create", "ips.kubeovn.io"),
                ("create", "pods"),
            ],
        ),
        (
            "ovn-central",
            &[("list", "nodes")],
            &[
                ("patch", "nodes"),
                ("patch", "pods"),
                ("create", "pods"),
                ("get", "secrets"),
                ("list", "configmaps"),
                ("patch", "subnets.kubeovn.io"),
                ("list", "ips.kubeovn.io"),
                ("create", "pods/exec"),
            ],
        ),
        (
            "kube-ovn-controller",
            &[("patch", "pods"), ("create", "ips.kubeovn.io")],
            &[
                ("create", "pods"),
                ("delete", "pods"),
                ("delete", "nodes"),
                ("get", "secrets"),
                ("list", "configmaps"),
                ("delete", "subnets.kubeovn.io"),
                ("patch", "daemonsets.apps"),
                ("create", "pods/exec"),
                ("create", "serviceaccounts/token"),
                ("patch", "clusterroles.rbac.authorization.k8s.io"),
            ],
        ),
    ] {
        for (verb, resource) in allowed {
            ensure!(may(account, verb, resource, everywhere).await, "{account} may not {verb} {resource}");
        }
        for (verb, resource) in refused {
            ensure!(!may(account, verb, resource, everywhere).await, "{account} may {verb} {resource}");
        }
    }
    ensure!(!may("ovn-central", "get", "configmaps/other", "--namespace=kube-system").await, "of another ConfigMap");
    ensure!(may("ovn-central", "update", "configmaps/ovn-central", "--namespace=kube-system").await, "its ConfigMap");
    Ok(())
}

#[tokio::test]
async fn sec_requests_for_keys_are_for_keys_of_the_databases() -> Result<()> {
    Cluster::running().await?;
    let (_, request) = Request::create(&Identity::new(Role::Chassis, "nobody"), None)?;
    let object = |signer: &str, labels: Value| {
        let spec = json!({"request": ByteString(request.clone().into_bytes()), "signerName": signer, "usages": ["client auth"]});
        let metadata = json!({"generateName": "sec-", "labels": labels});
        json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": metadata, "spec": spec,
        })
    };
    let create = async |account: &str, object: Value| -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), object.to_string())?;
        let account = format!("--as=system:serviceaccount:kube-system:{account}");
        let name = file.path().display().to_string();
        Ok(kubectl(&["create", "--filename", &name, "--output=name", &account]).await?.trim().to_owned())
    };
    let ask = async |account: &str, signer: &str, labels: Value| create(account, object(signer, labels)).await;
    for account in ["kube-ovn-cni", "kube-ovn-controller", "kube-ovn-external-host"] {
        let refused = ask(account, "kubernetes.io/kube-apiserver-client", json!({})).await;
        let refused =
            refused.err().with_context(|| format!("{account} may ask for a certificate of the API server"))?;
        ensure!(format!("{refused:#}").contains("may ask only for keys of the databases"), "{refused:#}");
    }
    // One that is about nothing waits for an administrator, and is not signed when its label is not true.
    let name = ask("kube-ovn-external-host", SIGNER, json!({})).await?;
    kubectl(&["certificate", "approve", &name]).await?;
    let signed = ["wait", &name, "--for=jsonpath={.status.certificate}", "--timeout=10s"];
    kubectl(&signed).await.context("an administrator's approval counts")?;
    let lies = ask("kube-ovn-external-host", SIGNER, json!({(HOLDER): "n1"})).await?;
    kubectl(&["certificate", "approve", &lies]).await?;
    let failed =
        ["wait", &lies, "--for=jsonpath={.status.conditions[?(@.type==\"Failed\")].status}=True", "--timeout=10s"];
    kubectl(&failed).await.context("a request whose label is not true is refused")?;
    // Others do not wait for the hundreds of requests of one account.
    let items = vec![object(SIGNER, json!({"sec": "flood"})); 300];
    create("kube-ovn-cni", json!({"apiVersion": "v1", "kind": "List", "items": items})).await?;
    let other = ask("kube-ovn-external-host", SIGNER, json!({})).await?;
    kubectl(&["certificate", "approve", &other]).await?;
    kubectl(&["wait", &other, "--for=jsonpath={.status.certificate}", "--timeout=5s"])
        .await
        .context("beside a flood")?;
    kubectl(&["delete", "--wait=false", &name, &lies, &other]).await?;
    kubectl(&["delete", "--raw", "/apis/certificates.k8s.io/v1/certificatesigningrequests?labelSelector=sec%3Dflood"])
        .await
        .map(drop)
}
