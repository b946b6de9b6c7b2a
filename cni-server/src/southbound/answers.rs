//! Which servers of the southbound database answer.
//!
//! ovn-controller takes twenty seconds to leave a server that is silent: a shorter interval would punish servers that are only
//! busy. The agent takes six to ten, because it compares: a server is left out only while another one answers. It has a session
//! with each of them, in which nothing is replicated.
//!
//! A server that is busy with many nodes is left by all of them, and the others are busy then. So the nodes leave it at different
//! times, and come back only after it has answered for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use ovn::southbound::DATABASE;
use ovsdb::Uuid;
use ovsdb::client::{Accept, Client, Config, Endpoint, TlsFiles};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a server may be silent before it is asked for an answer, and how long it has for it.
const SILENCE: Duration = Duration::from_secs(3);

/// The same for the only server: nothing is decided by its silence.
const SILENCE_OF_ONE: Duration = Duration::from_secs(30);

/// By how much that differs from node to node.
const SPREAD: Duration = Duration::from_secs(2);

/// How long a server that has failed must answer before it is preferred to none that is just as good.
const TRUST: Duration = Duration::from_secs(10);

/// The pauses between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The sessions with the servers.
#[derive(Debug)]
pub(super) struct Answers {
    tls: Option<TlsFiles>,
    silence: Duration,
    trust: Duration,
    sessions: HashMap<Endpoint, Session>,
    /// Whether none answered when they were last looked at, after one had.
    none_answered: bool,
    are_back: bool,
    /// Whether there is at most one server, which cannot be left out.
    is_alone: bool,
}

/// A session with one server, which lasts as long as the handle.
#[derive(Debug)]
struct Session {
    _client: Client,
    connected: watch::Receiver<bool>,
    /// Why the last attempt or session has failed, if none has begun since.
    failure: watch::Receiver<Option<Arc<str>>>,
    /// What was last seen of it.
    state: State,
    /// When a server that has failed is as good as one that has not.
    trusted: Option<Instant>,
    /// Whether it was left among the servers.
    is_listed: bool,
}

/// What is known of a server. It is known of a new one that it has neither answered nor failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    answers: bool,
    has_failed: bool,
}

impl Answers {
    /// Starts without a server. `tls` is the key of the chassis.
    pub(super) fn new(tls: Option<TlsFiles>) -> Self {
        let spread = Uuid::new_v4().as_u128() % SPREAD.as_millis();
        let silence = SILENCE + Duration::from_millis(spread.try_into().unwrap_or_default());
        let sessions = HashMap::new();
        Self { tls, silence, trust: TRUST, sessions, none_answered: false, are_back: false, is_alone: true }
    }

    /// Returns the servers but those that do not answer, or have only just begun to, while another one does.
    pub(super) fn among(&mut self, servers: Vec<Endpoint>) -> Vec<Endpoint> {
        let answered = self.sessions.values().any(|one| one.state.answers) || self.none_answered;
        let is_alone = servers.len() < 2;
        if is_alone != self.is_alone {
            self.sessions.clear();
        }
        self.is_alone = is_alone;
        let silence = if is_alone { SILENCE_OF_ONE } else { self.silence };
        self.sessions.retain(|server, _| servers.contains(server));
        for server in &servers {
            let start = || Session::start(server, self.tls.clone(), silence);
            self.sessions.entry(server.clone()).or_insert_with(start).look(self.trust);
        }
        let is_any = |wanted: fn(&Session) -> bool| self.sessions.values().any(wanted);
        let answer = is_any(|one| one.state.answers);
        self.are_back = answer && self.none_answered;
        self.none_answered = answered && !answer;
        let is_left: fn(&Session) -> bool = match (is_any(|one| one.state.answers && one.is_trusted()), answer) {
            // Whoever was good enough while there was no better one stays.
            (true, _) => |one| one.is_trusted() || (one.is_listed && !one.state.has_failed),
            (false, true) => |one| !one.state.has_failed,
            (false, false) => |_| true,
        };
        for session in self.sessions.values_mut() {
            session.is_listed = is_left(session);
        }
        servers.into_iter().filter(|server| self.sessions.get(server).is_some_and(|one| one.is_listed)).collect()
    }

    /// Returns whether a server was found to answer again, after a time without any. ovn-controller may be about to wait for up to
    /// 8 s before it tries the next time.
    pub(super) fn are_back(&self) -> bool {
        self.are_back
    }

    /// Waits until a server begins or ceases to answer. Never returns without servers. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.sessions.is_empty() {
            std::future::pending::<()>().await;
        }
        select_all(self.sessions.values_mut().map(|session| session.changed().boxed())).await;
    }
}

impl Session {
    fn start(server: &Endpoint, tls: Option<TlsFiles>, silence: Duration) -> Self {
        let (client, _) = Client::spawn(Config {
            accept: Accept::Connected,
            tls,
            inactivity: silence,
            connect_timeout: silence,
            backoff: PAUSES,
            ..Config::new(vec![server.clone()], DATABASE, Vec::new())
        });
        let (connected, failure) = (client.connected(), client.failure());
        Self { _client: client, connected, failure, state: State::default(), trusted: None, is_listed: true }
    }

    /// Records what is known of the server now.
    fn look(&mut self, trust: Duration) {
        let (answers, has_failed) = (*self.connected.borrow(), self.failure.borrow().is_some());
        let now = Instant::now();
        if self.state.has_failed && !has_failed {
            self.trusted = Some(now + trust);
        }
        self.trusted = self.trusted.filter(|trusted| *trusted > now);
        self.state = State { answers, has_failed };
    }

    fn is_trusted(&self) -> bool {
        !self.state.has_failed && self.trusted.is_none()
    }

    /// Waits until the state is another one than was seen last, or the server is trusted.
    async fn changed(&mut self) {
        let State { answers, has_failed } = self.state;
        let (waits, trusted) = (self.trusted.is_some(), self.trusted.unwrap_or_else(Instant::now));
        // The senders live as long as the client.
        tokio::select! {
            _ = self.connected.wait_for(|now| *now != answers) => {}
            _ = self.failure.wait_for(|now| now.is_some() != has_failed) => {}
            () = tokio::time::sleep_until(trusted), if waits => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ovsdb::testing::OvsdbServer;

    use super::*;

    const SCHEMA: &str = r#"{ "name": "OVN_Southbound", "version": "1.0.0", "tables": {} }"#;

    /// Waits until these servers are left.
    async fn until(answers: &mut Answers, servers: &[Endpoint], left: &[&Endpoint]) {
        let change = async {
            while answers.among(servers.to_vec()).iter().ne(left.iter().copied()) {
                answers.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), change).await.unwrap();
    }

    async fn one_answers(answers: &mut Answers, server: &Endpoint) {
        let connected = &mut answers.sessions.get_mut(server).unwrap().connected;
        connected.wait_for(|connected| *connected).await.unwrap();
    }

    #[tokio::test]
    async fn a_server_is_left_out_while_another_one_answers() {
        let [mut one, two] = [(); 2].map(|()| OvsdbServer::start(SCHEMA).unwrap());
        // Nobody listens on port 1.
        let away: Endpoint = "tcp:127.0.0.1:1".parse().unwrap();
        let (a, b) = (&one.tcp(), &two.tcp());
        let servers = [a.clone(), away.clone(), b.clone()];
        let mut answers =
            Answers { silence: Duration::from_millis(300), trust: Duration::from_secs(1), ..Answers::new(None) };
        assert_eq!(answers.among(servers.to_vec()), servers, "nothing is known");
        until(&mut answers, &servers, &[a, b]).await;
        one.kill().unwrap();
        until(&mut answers, &servers, &[b]).await;
        one.restart().unwrap();
        // It is not trusted at once.
        one_answers(&mut answers, a).await;
        assert_eq!(answers.among(servers.to_vec()), std::slice::from_ref(b));
        until(&mut answers, &servers, &[a, b]).await;
        two.pause().unwrap();
        until(&mut answers, &servers, &[a]).await;
        one.kill().unwrap();
        until(&mut answers, &servers, &[a, &away, b]).await;
        two.resume().unwrap();
        until(&mut answers, &servers, &[b]).await;
        assert_eq!(answers.among(vec![away.clone()]), [away], "there is no other one");
    }

    #[tokio::test]
    async fn servers_that_answer_again_are_said_to_be_back_once() {
        let mut one = OvsdbServer::start(SCHEMA).unwrap();
        let server = &one.tcp();
        let mut answers = Answers::new(None);
        let among = |answers: &mut Answers| assert_eq!(&answers.among(vec![server.clone()])[0], server);
        among(&mut answers);
        one_answers(&mut answers, server).await;
        among(&mut answers);
        assert!(!answers.are_back(), "it was never away");
        one.kill().unwrap();
        answers.changed().await;
        among(&mut answers);
        assert!(!answers.are_back());
        one.restart().unwrap();
        one_answers(&mut answers, server).await;
        among(&mut answers);
        assert!(answers.are_back());
        among(&mut answers);
        assert!(!answers.are_back());
    }
}
