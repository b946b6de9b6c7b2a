//! Tests the values that each workload has: where its pods run, as whom, and with which further arguments.

#![allow(clippy::unwrap_used)] // test helpers may panic

use serde_json::{Value, json};
use yamls::{HelmError, render, render_with};

const WORKLOADS: [(&str, &str); 4] =
    [("central", "ovn-central"), ("controller", "kube-ovn-controller"), ("agent", "kube-ovn-cni"), ("ovs", "ovs-ovn")];

#[track_caller]
fn refused(values: &[&str], said: &str) {
    match render(values) {
        Err(HelmError::Refused(why)) => assert!(why.contains(said), "{values:?} is not refused for {said:?}: {why}"),
        other => assert!(other.is_err(), "{values:?} is not refused for {said:?}"),
    }
}

/// Returns the pod template of a workload.
#[track_caller]
fn template(values: &[&str], name: &str) -> Value {
    let objects = yamls::objects(&render(values).unwrap()).unwrap();
    let found =
        objects.iter().find(|object| object["metadata"]["name"] == name && !object["spec"]["template"].is_null());
    found.unwrap()["spec"]["template"].clone()
}

#[test]
fn each_workload_has_settings_of_its_own() {
    for (key, name) in WORKLOADS {
        // The agent and ovs-ovn run on the same nodes.
        let keys = if ["agent", "ovs"].contains(&key) { vec!["agent", "ovs"] } else { vec![key] };
        let mut values = vec![
            format!("{key}.annotations.example\\.org/a=b"),
            format!("{key}.priorityClassName=mine"),
            format!("{key}.podSecurityContext.seLinuxOptions.level=s0"),
            format!("{key}.securityContext.seLinuxOptions.type=mine_t"),
            format!("{key}.resources.limits.cpu=3"),
        ];
        for key in keys {
            values.push(format!("{key}.nodeSelector.example\\.org/pool=net"));
            values.push(format!("{key}.tolerations[0].operator=Exists,{key}.tolerations[0].effect=NoSchedule"));
            let term =
                "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]";
            values.push(format!("{key}.affinity.{term}.key=gpu,{key}.affinity.{term}.operator=DoesNotExist"));
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (before, after) = (template(&[], name), template(&values, name));
        let (spec, container) = (&after["spec"], &after["spec"]["containers"][0]);
        assert_eq!(after["metadata"]["annotations"], json!({ "example.org/a": "b" }), "{name}");
        assert_eq!(spec["priorityClassName"], "mine");
        assert_eq!(
            (&spec["nodeSelector"]["example.org/pool"], &spec["nodeSelector"]["kubernetes.io/os"]),
            (&"net".into(), &"linux".into())
        );
        assert_eq!(spec["tolerations"][0], json!({ "operator": "Exists", "effect": "NoSchedule" }));
        assert_eq!(spec["securityContext"], json!({ "seLinuxOptions": { "level": "s0" } }));
        assert_eq!(container["securityContext"]["seLinuxOptions"]["type"], "mine_t");
        assert_eq!(container["resources"]["limits"]["cpu"], 3);
        let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(
            terms["nodeSelectorTerms"][0]["matchExpressions"][0],
            json!({ "key": "gpu", "operator": "DoesNotExist" })
        );
        // What is not named stays.
        for field in ["hostNetwork", "dnsPolicy", "volumes", "serviceAccountName"] {
            assert_eq!(spec[field], before["spec"][field], "{name}: {field}");
        }
        let capabilities =
            |template: &Value| template["spec"]["containers"][0]["securityContext"]["capabilities"].clone();
        assert_eq!(capabilities(&after), capabilities(&before), "{name}");
    }
    let anti = "podAntiAffinity";
    assert!(template(&[], "kube-ovn-controller")["spec"]["affinity"][anti].is_object());
}

#[test]
fn further_arguments_come_last_and_are_not_those_that_are_there() {
    for ((key, name), argument) in
        WORKLOADS.iter().zip(["--grace=20", "--allocation-events", "--add-timeout=60", "--grace=20"])
    {
        let value = format!("{key}.extraArgs={{{argument}}}");
        let arguments = template(&[&value], name)["spec"]["containers"][0]["args"].clone();
        assert_eq!(arguments.as_array().unwrap().last().unwrap(), argument);
    }
    for (value, said) in [
        (
            "agent.extraArgs={--add-timeout=60,--mtu=1400}",
            "agent.extraArgs[1]: --mtu is among the arguments already, by a value",
        ),
        ("ovs.extraArgs={--datapath}", "ovs.extraArgs[0]: --datapath is among the arguments already"),
        ("controller.extraArgs={--default-cidr=10.0.0.0/8}", "controller.extraArgs[0]: --default-cidr is among"),
        ("central.extraArgs={--log-format=json}", "central.extraArgs[0]: --log-format is among"),
        ("agent.extraArgs={60}", "/agent/extraArgs/0"),
        ("agent.extraArgs={-v}", "/agent/extraArgs/0"),
        ("agent.extraArgs={--a=1,--a=1}", "/agent/extraArgs"),
        ("agent.extraArgs=--add-timeout=60", "/agent/extraArgs"),
    ] {
        refused(&[value], said);
    }
    // A name that begins like another one is another one, and quotes are no part of a name.
    template(&["agent.extraArgs={--metrics=1}"], "kube-ovn-cni");
    refused(
        &["tunnel.iface=eth1", "agent.extraArgs={--iface=eth2}"],
        "agent.extraArgs[0]: --iface is among the arguments already",
    );
}

#[test]
fn a_privileged_container_has_no_more_rules() {
    for (key, name) in [("agent", "kube-ovn-cni"), ("ovs", "ovs-ovn")] {
        let privileged = template(&[&format!("{key}.securityContext.privileged=true")], name);
        let expected = json!({ "privileged": true, "seLinuxOptions": { "type": "spc_t" } });
        assert_eq!(privileged["spec"]["containers"][0]["securityContext"], expected);
    }
}

/// What the programs need cannot be taken away.
#[test]
fn what_cannot_work_is_refused() {
    for (value, said) in [
        ("agent.securityContext.capabilities.add={NET_ADMIN,NET_RAW}", "/agent/securityContext"),
        ("agent.securityContext.capabilities=null", "/agent/securityContext"),
        ("ovs.securityContext.capabilities.add={SYS_NICE}", "/ovs/securityContext"),
        ("central.securityContext.capabilities.add={DAC_OVERRIDE}", "/central/securityContext"),
        (
            "central.databaseDir=/etc/origin",
            "central.databaseDir: /etc/origin is that of ovs.databaseDir, or one of them is in",
        ),
        (
            "ovs.databaseDir=/etc/origin/ovn",
            "central.databaseDir: /etc/origin/ovn is that of ovs.databaseDir, or one of them",
        ),
        ("ovs.securityContext.runAsUser=1000", "/ovs/securityContext/runAsUser"),
        ("agent.securityContext.runAsNonRoot=true", "/agent/securityContext/runAsNonRoot"),
        ("agent.podSecurityContext.runAsNonRoot=true", "/agent/podSecurityContext/runAsNonRoot"),
        ("central.securityContext.runAsUser=1000", "/central/securityContext/runAsUser"),
        ("central.podSecurityContext.runAsNonRoot=true", "/central/podSecurityContext/runAsNonRoot"),
        ("controller.podSecurityContext.sysctls[0].name=net.core.somaxconn", "'sysctls'"),
        ("controller.securityContext.seccompProfile.type=Default", "/controller/securityContext/seccompProfile/type"),
        ("controller.securityContext.hostNetwork=false", "'hostNetwork'"),
        ("agent.hostNetwork=false", "'hostNetwork'"),
        ("agent.nodeSelector.kubernetes\\.io/os=windows", "/agent/nodeSelector/kubernetes.io~1os"),
        ("agent.nodeSelector.a=b c", "/agent/nodeSelector/a"),
        (
            "agent.nodeSelector.pool=net",
            "agent.nodeSelector: differs from ovs.nodeSelector, but a node needs both of them",
        ),
        (
            "ovs.tolerations[0].effect=NoSchedule,ovs.tolerations[0].operator=Exists",
            "agent.tolerations: differs from ovs.tolerations",
        ),
        ("agent.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution={}", "agent.affinity: differs"),
        ("agent.affinity.nodes=all", "'nodes'"),
        ("agent.tolerations={}", "/agent/tolerations"),
        ("agent.tolerations[0].operator=Always", "/agent/tolerations/0/operator"),
        (
            "controller.tolerations[0].key=CriticalAddonsOnly,controller.tolerations[0].operator=Exists",
            "controller.tolerations: do not tolerate node.kubernetes.io/not-ready with effect NoSchedule",
        ),
        (
            "central.tolerations[0].operator=Exists,central.tolerations[0].effect=NoExecute",
            "central.tolerations: do not tolerate node.kubernetes.io/not-ready with effect NoSchedule",
        ),
        ("central.nodeSelector=null", "nodeSelector"),
        ("ovs.priorityClassName=", "/ovs/priorityClassName"),
        ("ovs.annotations.a=1", "/ovs/annotations/a"),
        ("ovs.annotations.a b=c", "'a b'"),
        ("agent.nodeSelector./a=b", "'/a'"),
    ] {
        refused(&[value], said);
    }
    let not_ready =
        "controller.tolerations[0].key=node.kubernetes.io/not-ready,controller.tolerations[0].operator=Exists";
    template(&[not_ready], "kube-ovn-controller");
}

/// `helm --namespace` says where everything is, down to the subjects of the roles. Cluster-wide objects and the reader of
/// Service `default/kubernetes` have no other namespace.
#[test]
fn everything_is_in_the_namespace_of_the_release() {
    let count = |text: &str, namespace: &str| text.matches(&format!("namespace: {namespace}\n")).count();
    let here = render(&[]).unwrap();
    let there = render_with(&["--namespace=net"], &[]).unwrap();
    assert_eq!(there, here.replace("kube-system", "net"));
    assert_eq!((count(&here, "kube-system"), count(&there, "net"), count(&there, "kube-system")), (35, 35, 0));
    assert_eq!(count(&there, "default"), 2);
    let mut found = 0;
    for object in yamls::objects(&there).unwrap() {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let wide = kind.starts_with("ClusterRole")
            || kind.starts_with("ValidatingAdmissionPolicy")
            || kind == "CustomResourceDefinition";
        let reader = name == "kube-ovn-controller-api-servers";
        let expected = if wide { Value::Null } else { if reader { "default" } else { "net" }.into() };
        assert_eq!(object["metadata"]["namespace"], expected, "{kind} {name}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "net", "{kind} {name}");
            found += 1;
        }
    }
    assert_eq!(found, 13);
    // A value wins, for releases whose record is elsewhere.
    assert_eq!(render_with(&["--namespace=elsewhere"], &["namespace=net"]).unwrap(), there);
    assert_eq!(render_with(&[], &["namespace=net"]).unwrap(), there);
    let said = render_with(&[], &[]).unwrap_err().to_string();
    assert!(
        said.contains("namespace: is empty, and helm was told of no namespace; use --namespace kube-system"),
        "{said}"
    );
    refused(&["namespace=Net"], "/namespace");
}
