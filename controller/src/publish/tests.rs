//! The publisher and an API server that answers as a test says. Time is tokio's own, so that nothing is waited for.

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::*;

/// Hands over writes, with an API server that answers by the path of a request; answers the receiving end of what ended.
fn published(
    writes: impl IntoIterator<Item = Write>,
    answer: impl Fn(&str) -> Result<StatusCode, &'static str> + Clone + Send + 'static,
) -> mpsc::UnboundedReceiver<Done> {
    let server = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(request.uri().path());
        async move {
            let code = answer?;
            let body = match code.as_u16() {
                200 => json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" }),
                code => json!({ "kind": "Status", "metadata": {}, "status": "Failure", "message": "no", "code": code }),
            };
            Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).map_err(|_| "no response")
        }
    });
    let (writes_in, queue) = mpsc::unbounded_channel();
    let (done_in, done) = mpsc::unbounded_channel();
    for write in writes {
        writes_in.send(write).unwrap();
    }
    tokio::spawn(async move {
        run(Client::new(server, "default"), queue, done_in).await;
        drop(writes_in);
    });
    done
}

fn delete(name: &str) -> Write {
    Write { target: Target::Ip(name.into()), action: Action::Delete }
}

async fn next(done: &mut mpsc::UnboundedReceiver<Done>) -> (Target, bool) {
    let done = tokio::time::timeout(Duration::from_mins(10), done.recv()).await.expect("a write has ended").unwrap();
    (done.target, done.refused.is_none())
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_over_and_over_hold_up_no_other() {
    let failing = (0..IN_FLIGHT * 2).map(|at| delete(&format!("failing-{at}")));
    let writes = failing.chain([delete("good")]);
    let mut done = published(writes, |path| {
        Ok(if path.contains("failing") { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
    });
    assert_eq!(next(&mut done).await, (Target::Ip("good".into()), true));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_tried_every_few_seconds_and_everything_is_written_once_it_is_back() {
    let (began, tries) = (Instant::now(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let away = Duration::from_mins(1);
    let counted = Arc::clone(&tries);
    let writes: Vec<Write> = (0..IN_FLIGHT * 4).map(|at| delete(&format!("ip-{at}"))).collect();
    let mut done = published(writes.clone(), move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if began.elapsed() < away { Err("connection refused") } else { Ok(StatusCode::OK) }
    });
    for _ in &writes {
        assert!(next(&mut done).await.1);
    }
    assert!(began.elapsed() < away + LONGEST_WAIT * 2, "{:?}", began.elapsed());
    let tries = tries.load(std::sync::atomic::Ordering::Relaxed);
    assert!(tries < writes.len() + IN_FLIGHT * 26, "{tries}: in a minute 5 short pauses and 19 of 3 s");
}

#[tokio::test(start_paused = true)]
async fn what_can_never_succeed_is_told_back() {
    let mut done = published([delete("forbidden")], |_| Ok(StatusCode::FORBIDDEN));
    assert_eq!(next(&mut done).await, (Target::Ip("forbidden".into()), false));
}
