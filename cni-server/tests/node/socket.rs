//! Requests on the socket, including malformed ones.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use cni_server::attachments::Attachments;
use cni_server::socket::{self, Agent};
use cni_wire::rpc::{self, Attached};
use cni_wire::{CniError, Code};
use kit::endpoint::Readiness;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::sandbox::{PodNs, eventually, in_netns};
use crate::scene::{Scene, attachment};

/// Sends one line and reads one. Returns `None` if the agent closes the connection.
async fn say(path: &std::path::Path, line: &[u8]) -> Option<String> {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(line).await.unwrap();
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer).await;
    Some(answer).filter(|answer| !answer.is_empty())
}

#[test]
fn the_socket_serves_and_survives_what_comes() {
    in_netns(|| async {
        let Scene { sandbox, attacher, .. } = &Scene::new([5]);
        let attachments = Attachments::spawn(attacher.clone());
        let readiness = Readiness::waiting_for("ovn0");
        let agent = Agent { attachments, ovs: sandbox.ovs(), readiness: readiness.clone() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/agent.sock");
        // A stale socket of an earlier process is replaced.
        drop(socket::bind(&path).unwrap());
        let listener = socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (_stop, never) = watch::channel(false);
        let (methods, at) = (socket::methods(agent).unwrap(), path.clone());
        tokio::spawn(async move { socket::serve(listener, &at, methods, never, Duration::ZERO).await });

        let fault = |line: &'static [u8]| {
            let path = path.clone();
            async move {
                let answer = say(&path, line).await.unwrap();
                rpc::reply::<serde_json::Value>(answer.as_bytes()).unwrap_err()
            }
        };
        assert_eq!(fault(b"nonsense\n").await.code, Code::PROTOCOL);
        assert_eq!(fault(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"fly\"}\n").await.code, Code::VERB);
        assert_eq!(
            fault(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"add\",\"params\":{}}\n").await.code,
            Code::PROTOCOL
        );
        assert_eq!(fault(b"\xff\xfe\n").await.code, Code::PROTOCOL);
        let mut long = vec![b'x'; rpc::MAX_LINE + 10];
        long.push(b'\n');
        assert_eq!(say(&path, &long).await, None);

        let pod = PodNs::new();
        let good = attachment(5, &pod);
        let walk = rpc::Attachment { container_id: "../../x".to_owned(), ..good.clone() };
        let answer = say(&path, rpc::request("add", &walk).unwrap().as_bytes()).await.unwrap();
        let error: CniError = rpc::reply::<Attached>(answer.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.msg.contains("CNI_CONTAINERID")), (Code::ENVIRONMENT, true));

        let answer = say(&path, rpc::request("add", &good).unwrap().as_bytes()).await.unwrap();
        let reply: Attached = rpc::reply(answer.as_bytes()).unwrap();
        assert_eq!(reply.mac, "0a:00:00:00:00:05");
        for (promised, code) in
            [("10.16.0.5/16", None), ("10.16.0.6/16", Some(Code::DIFFERS)), ("x", Some(Code::CONFIG))]
        {
            let check = rpc::Check { attachment: good.clone(), promised: vec![promised.to_owned()] };
            let answer = say(&path, rpc::request("check", &check).unwrap().as_bytes()).await.unwrap();
            assert_eq!(rpc::reply::<()>(answer.as_bytes()).err().map(|error| error.code), code, "{promised}");
        }
        // A plugin of an earlier version does not send them.
        let answer = say(&path, rpc::request("check", &good).unwrap().as_bytes()).await.unwrap();
        rpc::reply::<()>(answer.as_bytes()).unwrap();
        let keep = |list: &[&str]| {
            let valid =
                list.iter().map(|id| serde_json::json!({ "containerID": id, "ifname": "eth0" })).collect::<Vec<_>>();
            rpc::request("gc", &serde_json::json!({ "valid_attachments": valid })).unwrap()
        };
        let answer = say(&path, keep(&[&good.container_id]).as_bytes()).await.unwrap();
        rpc::reply::<()>(answer.as_bytes()).unwrap();
        assert_eq!(sandbox.ports().len(), 1);
        let answer = say(&path, keep(&[]).as_bytes()).await.unwrap();
        rpc::reply::<()>(answer.as_bytes()).unwrap();
        assert_eq!(sandbox.ports().len(), 0);

        let status = rpc::request("status", &[(); 0]).unwrap();
        let answer = say(&path, status.as_bytes()).await.unwrap();
        assert_eq!(rpc::reply::<()>(answer.as_bytes()).unwrap_err().code, Code::NOT_AVAILABLE);
        readiness.ready();
        rpc::reply::<()>(say(&path, status.as_bytes()).await.unwrap().as_bytes()).unwrap();

        let answer = say(&path, rpc::request("del", &good).unwrap().as_bytes()).await.unwrap();
        rpc::reply::<()>(answer.as_bytes()).unwrap();
        assert!(sandbox.ports().is_empty());
    });
}

#[test]
fn an_agent_that_stops_answers_what_is_under_way_and_takes_nothing_more() {
    in_netns(|| async {
        let mut scene = Scene::new([]);
        scene.pods.send_replace(crate::scene::pods([5]));
        scene.attacher.patience = Duration::from_secs(20);
        let attachments = Attachments::spawn(scene.attacher.clone());
        let agent = Agent { attachments, ovs: scene.sandbox.ovs(), readiness: Readiness::waiting_for("ovn0") };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let listener = socket::bind(&path).unwrap();
        let (stop, stopping) = watch::channel(false);
        let methods = socket::methods(agent).unwrap();
        let at = path.clone();
        let served =
            tokio::spawn(async move { socket::serve(listener, &at, methods, stopping, Duration::from_secs(20)).await });
        // This one says nothing. It must not delay the end.
        let _idle = UnixStream::connect(&path).await.unwrap();
        // The pod has no address yet.
        let pod = PodNs::new();
        let idle = scene.leases.receiver_count();
        let add = rpc::request("add", &attachment(5, &pod)).unwrap();
        let waits = tokio::spawn({
            let path = path.clone();
            async move { say(&path, add.as_bytes()).await }
        });
        eventually("the ADD waits for the address", || scene.leases.receiver_count() > idle).await;
        stop.send_replace(true);
        eventually("the socket is gone", || !path.exists()).await;
        assert!(!served.is_finished() && !waits.is_finished());
        scene.leases.send_replace(crate::scene::addressed([5]));
        let answer = waits.await.unwrap().unwrap();
        assert_eq!(rpc::reply::<Attached>(answer.as_bytes()).unwrap().mac, "0a:00:00:00:00:05");
        served.await.unwrap();
    });
}
