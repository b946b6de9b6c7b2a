//! Runs the plugin with invalid input as a runtime would. Standard output must be one error object with a code of the
//! specification and the name of the invalid part. The agent must not receive a request.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const CONF: &str =
    r#"{"cniVersion":"1.0.0","name":"kube-ovn","type":"kube-ovn","server_socket":"/nonexistent/folder/agent.sock"}"#;
const ENV: [(&str, &str); 5] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "9688b4ab4bec"),
    ("CNI_NETNS", "/run/netns/a"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_UID=1-2"),
];

/// Runs the plugin with one variable of [`ENV`] changed. An empty value unsets the variable.
fn plugin(change: (&str, &str), stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-ovn"));
    command.env_clear().envs(ENV).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match change {
        (_, "") => command.env_remove(change.0),
        (name, value) => command.env(name, value),
    };
    let mut child = command.spawn().unwrap();
    // The plugin does not need to read all of its input.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

/// Returns the code and the text of the error object.
fn refusal(output: &Output) -> (u64, String) {
    assert!(!output.status.success(), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(error["cniVersion"].is_string(), "{error}");
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (error["code"].as_u64().unwrap(), format!("{} {}", text("msg"), text("details")))
}

#[test]
fn every_wrong_variable_is_named() {
    let traversal = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=../../etc/passwd";
    let cases = [
        (("CNI_COMMAND", ""), "CNI_COMMAND"),
        (("CNI_COMMAND", "add"), "CNI_COMMAND"),
        (("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
        (("CNI_CONTAINERID", "../../../etc"), "CNI_CONTAINERID"),
        (("CNI_CONTAINERID", "a/b"), "CNI_CONTAINERID"),
        (("CNI_NETNS", ""), "CNI_NETNS"),
        (("CNI_NETNS", "run/netns/a"), "CNI_NETNS"),
        (("CNI_NETNS", "/run/netns/../../etc/passwd"), "CNI_NETNS"),
        (("CNI_IFNAME", ""), "CNI_IFNAME"),
        (("CNI_IFNAME", "../eth0"), "CNI_IFNAME"),
        (("CNI_IFNAME", "sixteen-bytes-xx"), "CNI_IFNAME"),
        (("CNI_ARGS", ""), "K8S_POD_NAME"),
        (("CNI_ARGS", "K8S_POD_NAME=a"), "K8S_POD_NAMESPACE"),
        (("CNI_ARGS", traversal), "K8S_POD_NAME"),
        (("CNI_ARGS", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_UID=a/b"), "K8S_POD_UID"),
    ];
    for (change, named) in cases {
        let (code, text) = refusal(&plugin(change, CONF.as_bytes()));
        assert!(code == 4 && text.contains(named), "{change:?}: {code} {text}");
    }
}

#[test]
fn every_wrong_configuration_has_its_code() {
    let cases: [(&[u8], u64); 8] = [
        (b"", 6),
        (b"{", 6),
        (b"\xff\xfe\x00", 6),
        (b"[]", 7),
        (br#"{"cniVersion":"1.0.0"}"#, 7),
        (br#"{"cniVersion":"9.9.9","name":"a"}"#, 1),
        (br#"{"cniVersion":"1.0.0","name":"a","server_socket":"rel/../sock"}"#, 7),
        (br#"{"cniVersion":"1.0.0","name":"a","prevResult":7}"#, 7),
    ];
    for (stdin, expected) in cases {
        let (code, text) = refusal(&plugin(("CNI_COMMAND", "ADD"), stdin));
        assert_eq!(code, expected, "{}: {text}", String::from_utf8_lossy(stdin));
    }
    // Input nested deeper than the recursion limit, and input longer than the size limit.
    assert_eq!(refusal(&plugin(("CNI_COMMAND", "ADD"), &b"[".repeat(100_000))).0, 6);
    assert_eq!(refusal(&plugin(("CNI_COMMAND", "ADD"), &b" ".repeat(2 << 20))).0, 6);
}

#[test]
fn an_agent_that_is_away_or_talks_nonsense_is_an_error_of_its_own() {
    assert_eq!(refusal(&plugin(("CNI_COMMAND", "ADD"), CONF.as_bytes())).0, 11);
    assert_eq!(refusal(&plugin(("CNI_COMMAND", "DEL"), CONF.as_bytes())).0, 11);

    let dir = std::env::temp_dir().join(format!("kube-ovn-plugin-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answers = ["nonsense\n", "\n", "", r#"{"jsonrpc":"2.0","id":1,"error":{"code":101,"message":"m","data":"d"}}"#];
    let agent = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let conf = CONF.replace("/nonexistent/folder/agent.sock", path.to_str().unwrap());
    let codes: Vec<_> = answers.map(|_| refusal(&plugin(("CNI_COMMAND", "ADD"), conf.as_bytes())).0).into();
    agent.join().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(codes, [102, 102, 11, 101]);
}
