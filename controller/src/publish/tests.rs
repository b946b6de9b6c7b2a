//! Tests of the publisher with a mock API server and tokio's paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::cluster::Object;

/// A publisher that was given these writes. `answer` maps the path of a request to a response.
fn published(
    writes: impl IntoIterator<Item = Target>,
    answer: impl Fn(&str) -> Result<StatusCode, &'static str> + Clone + Send + 'static,
) -> Publisher {
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
    let until = Instant::now() + Duration::from_hours(1);
    let standing = watch::channel(Standing::Leading { asked: Instant::now(), until }).1;
    let publisher = Publisher::spawn(Client::new(server, "default"), standing);
    for target in writes {
        publisher.writes.send(delete(target)).unwrap();
    }
    publisher
}

fn ip(name: &str) -> Target {
    Target::main(Object::Ip(name.into()))
}

fn delete(target: Target) -> Write {
    let action = Action::Delete(Precondition { uid: "1".into(), version: "2".into() });
    Write { id: 1, target, action: Some(action) }
}

async fn next(publisher: &mut Publisher) -> (Target, Outcome) {
    let done = tokio::time::timeout(Duration::from_mins(10), publisher.done.recv()).await;
    let done = done.expect("a write has ended").unwrap();
    (done.target, done.outcome)
}

#[tokio::test(start_paused = true)]
async fn failing_writes_do_not_delay_others() {
    let failing = (0..IN_FLIGHT * 2).map(|at| ip(&format!("failing-{at}")));
    let mut publisher = published(failing.chain([ip("good")]), |path| {
        Ok(if path.contains("failing") { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
    });
    assert_eq!(next(&mut publisher).await, (ip("good"), Outcome::Taken));
}

#[tokio::test(start_paused = true)]
async fn everything_is_written_after_an_outage_with_few_attempts_during_it() {
    let (began, tries) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let away = Duration::from_mins(1);
    let counted = Arc::clone(&tries);
    let count = IN_FLIGHT * 4;
    let mut publisher = published((0..count).map(|at| ip(&format!("ip-{at}"))), move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        if began.elapsed() < away { Err("connection refused") } else { Ok(StatusCode::OK) }
    });
    for _ in 0..count {
        assert_eq!(next(&mut publisher).await.1, Outcome::Taken);
    }
    assert!(began.elapsed() < away + LONGEST_BACKOFF * 2, "{:?}", began.elapsed());
    let tries = tries.load(Ordering::Relaxed);
    assert!(tries < count + IN_FLIGHT * 26, "{tries}: in a minute 5 short pauses and 19 of 3 s");
}

#[tokio::test(start_paused = true)]
async fn refusals_and_conflicts_are_reported() {
    for (code, outcome) in [
        (StatusCode::FORBIDDEN, Outcome::Refused("no".to_owned())),
        (StatusCode::UNPROCESSABLE_ENTITY, Outcome::Refused("no".to_owned())),
        (StatusCode::CONFLICT, Outcome::Conflict),
        // The object to delete is already gone.
        (StatusCode::NOT_FOUND, Outcome::Taken),
    ] {
        let mut publisher = published([ip("a")], move |_| Ok(code));
        assert_eq!(next(&mut publisher).await, (ip("a"), outcome), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_with_which_the_api_server_fails_again_and_again_is_reported_and_others_go_on() {
    let mut publisher = published([ip("a"), ip("b")], |path| {
        Ok(if path.ends_with("/a") { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
    });
    let began = Instant::now();
    assert_eq!(next(&mut publisher).await, (ip("b"), Outcome::Taken));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let (target, outcome) = next(&mut publisher).await;
    assert!(target == ip("a") && matches!(&outcome, Outcome::Failing(why) if why.contains("no")), "{outcome:?}");
    assert!(began.elapsed() < LONGEST_BACKOFF * 4, "{:?}", began.elapsed());
}

/// A publisher, the number of its requests, and the sender of its standing.
fn counting(standing: Standing) -> (Publisher, Arc<AtomicUsize>, watch::Sender<Standing>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = tower::service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Result<Response<Body>, &'static str>>()
    });
    let (standing_in, standing) = watch::channel(standing);
    (Publisher::spawn(Client::new(server, "default"), standing), requests, standing_in)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_between_the_expiry_of_the_lease_and_its_renewal() {
    let leading =
        |seconds| Standing::Leading { asked: Instant::now(), until: Instant::now() + Duration::from_secs(seconds) };
    let (publisher, requests, standing) = counting(leading(8));
    publisher.writes.send(delete(ip("a"))).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    // The process is suspended, or the Lease is not renewed.
    sleep(Duration::from_secs(20)).await;
    publisher.writes.send(delete(ip("b"))).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    standing.send_replace(leading(8));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(requests.load(Ordering::Relaxed), 3, "the first one has had no answer, and is sent again");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_keeps_no_write() {
    let until = Instant::now() + Duration::from_mins(1);
    let hangs = AtomicUsize::new(IN_FLIGHT);
    let server = tower::service_fn(move |_: Request<Body>| {
        let is_hanging = hangs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        async move {
            if is_hanging {
                std::future::pending::<()>().await;
            }
            Ok::<_, &'static str>(Response::new(Body::from(b"{}".to_vec())))
        }
    });
    let standing = watch::channel(Standing::Leading { asked: Instant::now(), until });
    let mut publisher = Publisher::spawn(Client::new(server, "default"), standing.1);
    for at in 0..=IN_FLIGHT {
        publisher.writes.send(delete(ip(&format!("ip-{at}")))).unwrap();
    }
    let began = Instant::now();
    for _ in 0..=IN_FLIGHT {
        next(&mut publisher).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn queued_writes_are_dropped_with_the_publisher() {
    let until = Instant::now() + Duration::from_secs(15);
    let (publisher, requests, _standing) = counting(Standing::Leading { asked: Instant::now(), until });
    for at in 0..IN_FLIGHT * 2 {
        publisher.writes.send(delete(ip(&format!("ip-{at}")))).unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(requests.load(Ordering::Relaxed), IN_FLIGHT);
    drop(publisher);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(requests.load(Ordering::Relaxed), IN_FLIGHT);
}
