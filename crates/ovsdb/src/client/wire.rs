//! Translates single messages between jsonrpsee's JSON-RPC 2.0 and OVSDB's JSON-RPC 1.0.

use std::borrow::Cow;

use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::types::ErrorObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// The monitor method. Its reply is a snapshot or the changes since a given transaction.
pub(super) const MONITOR: &str = "monitor_cond_since";

/// The database in which the server describes its databases.
pub(super) const SERVER: &str = "_Server";

/// The ID of the monitor of the server's role. That of the tables is the name of their database, which can be [`SERVER`].
pub(super) const ROLE: &str = "role";

/// The two monitors of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Monitor {
    /// The table with the server's role.
    Server,
    /// The tables of the replica.
    Tables,
}

/// The parameters of a request, with its ticket. The transport removes the ticket.
#[derive(Serialize)]
pub(super) struct Ticketed {
    pub(super) ticket: u64,
    pub(super) params: Vec<Value>,
}

impl ToRpcParams for Ticketed {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        to_raw_value(&self).map(Some)
    }
}

/// A request in wire format.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ticket: u64,
    /// The ID of the request as JSON. The reply carries the same ID.
    pub(super) id: String,
    /// The monitor that the request starts.
    pub(super) monitor: Option<Monitor>,
    pub(super) json: Vec<u8>,
}

/// Translates a request of jsonrpsee. Returns `None` for other messages.
pub(super) fn outgoing(message: &str) -> Result<Option<Request>, serde_json::Error> {
    #[derive(Deserialize)]
    struct From<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Cow<'a, str>,
        #[serde(borrow)]
        params: Option<FromParams<'a>>,
    }
    #[derive(Deserialize)]
    struct FromParams<'a> {
        ticket: u64,
        #[serde(borrow)]
        params: &'a RawValue,
    }
    // OVSDB refuses a "jsonrpc" member and requires "params".
    #[derive(Serialize)]
    struct To<'a> {
        id: &'a RawValue,
        method: &'a str,
        params: &'a RawValue,
    }

    let from: From<'_> = serde_json::from_str(message)?;
    let (Some(id), Some(params)) = (from.id, from.params) else { return Ok(None) };
    let json = serde_json::to_vec(&To { id, method: &from.method, params: params.params })?;
    let monitor = match &*from.method {
        MONITOR => serde_json::from_str::<Vec<&RawValue>>(params.params.get())?.get(1).map(|of| Monitor::of(of)),
        _ => None,
    };
    Ok(Some(Request { ticket: params.ticket, id: id.get().to_owned(), monitor, json }))
}

/// A message from the server.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// An echo request, with the reply to send.
    Echo(Vec<u8>),
    /// Changed rows.
    Update { monitor: Monitor, last_txn: Cow<'a, str>, updates: &'a RawValue },
    /// The monitor is canceled because the schema changed.
    Canceled,
    /// A reply to a request.
    Reply(Reply<'a>),
    /// Any other message. A client may ignore it (RFC 7047 section 4).
    Other,
}

/// The reply to a request.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) id: &'a RawValue,
    /// `None` for null.
    pub(super) result: Option<&'a RawValue>,
    pub(super) error: Option<&'a RawValue>,
}

/// Parses a message from the server.
pub(super) fn incoming(message: &str) -> Result<Incoming<'_>, serde_json::Error> {
    // Serde deserializes null as `None`, so null and absent are the same.
    #[derive(Deserialize)]
    struct From<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        method: Option<Cow<'a, str>>,
        #[serde(borrow)]
        params: Option<&'a RawValue>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    #[derive(Serialize)]
    struct EchoReply<'a> {
        id: &'a RawValue,
        result: Option<&'a RawValue>,
        error: (),
    }
    #[derive(Deserialize)]
    struct Update<'a>(#[serde(borrow)] &'a RawValue, #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a RawValue);

    let from: From<'_> = serde_json::from_str(message)?;
    Ok(match (from.method.as_deref(), from.id) {
        (Some("echo"), Some(id)) => {
            Incoming::Echo(serde_json::to_vec(&EchoReply { id, result: from.params, error: () })?)
        }
        (Some("update3"), None) => {
            let Update(of, last_txn, updates) = serde_json::from_str(from.params.map_or("null", RawValue::get))?;
            Incoming::Update { monitor: Monitor::of(of), last_txn, updates }
        }
        (Some("monitor_canceled"), None) => Incoming::Canceled,
        (None, Some(id)) => Incoming::Reply(Reply { id, result: from.result, error: from.error }),
        _ => Incoming::Other,
    })
}

/// The result of [`MONITOR`].
#[derive(Deserialize)]
pub(super) struct Monitored<'a> {
    /// True if the updates are the changes since the given transaction, false if they are a snapshot.
    pub(super) found: bool,
    #[serde(borrow)]
    pub(super) last_txn: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) updates: &'a RawValue,
}

impl Monitor {
    fn of(name: &RawValue) -> Monitor {
        match serde_json::from_str::<Cow<'_, str>>(name.get()) {
            Ok(name) if name == ROLE => Monitor::Server,
            _ => Monitor::Tables,
        }
    }
}

impl Reply<'_> {
    /// Returns the reply in JSON-RPC 2.0: with a version, either a result or an error, and the error as an object.
    pub(super) fn to_jsonrpc(&self) -> Result<Vec<u8>, serde_json::Error> {
        #[derive(Serialize)]
        struct To<'a> {
            jsonrpc: &'static str,
            id: &'a RawValue,
            #[serde(flatten)]
            outcome: Outcome<'a>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "lowercase")]
        enum Outcome<'a> {
            Error(ToError<'a>),
            Result(Option<&'a RawValue>),
        }
        #[derive(Serialize)]
        struct ToError<'a> {
            code: i32,
            message: &'static str,
            data: &'a RawValue,
        }

        let outcome = match self.error {
            Some(data) => Outcome::Error(ToError { code: -32000, message: "refused by the database server", data }),
            None => Outcome::Result(self.result),
        };
        serde_json::to_vec(&To { jsonrpc: "2.0", id: self.id, outcome })
    }
}

/// Returns the error and the details of an error reply, which is a string or an object (RFC 7047 section 3.1,
/// `<error>`).
pub(super) fn describe(error: &ErrorObject<'_>) -> (String, String) {
    let data: Value = error.data().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    let text = |member: &str| data.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
    match &data {
        Value::String(error) => (error.clone(), String::new()),
        Value::Object(_) => (text("error"), text("details")),
        _ => (error.message().to_owned(), data.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check_out(message: &str, expected: &Expect) {
        expected.assert_eq(&match outgoing(message) {
            Ok(Some(Request { ticket, id, monitor, json })) => {
                format!("ticket {ticket} id {id} monitor {monitor:?}: {}", String::from_utf8(json).unwrap())
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn requests_lose_their_version_and_ticket() {
        check_out(
            r#"{"jsonrpc":"2.0","id":3,"method":"transact","params":{"ticket":7,"params":["db",{"op":"abort"}]}}"#,
            &expect![[r#"ticket 7 id 3 monitor None: {"id":3,"method":"transact","params":["db",{"op":"abort"}]}"#]],
        );
        check_out(
            r#"{"jsonrpc":"2.0","id":"x","method":"monitor_cond_since","params":{"ticket":1,"params":["Shop",7]}}"#,
            &expect![[
                r#"ticket 1 id "x" monitor Some(Tables): {"id":"x","method":"monitor_cond_since","params":["Shop",7]}"#
            ]],
        );
        check_out(
            r#"{"jsonrpc":"2.0","id":2,"method":"monitor_cond_since","params":{"ticket":3,"params":["_Server","role"]}}"#,
            &expect![[
                r#"ticket 3 id 2 monitor Some(Server): {"id":2,"method":"monitor_cond_since","params":["_Server","role"]}"#
            ]],
        );
        check_out(r#"{"jsonrpc":"2.0","method":"unsubscribe"}"#, &expect!["nothing"]);
    }

    fn check_in(message: &str, expected: &Expect) {
        expected.assert_eq(&match incoming(message) {
            Ok(Incoming::Echo(reply)) => format!("echo {}", String::from_utf8(reply).unwrap()),
            Ok(Incoming::Update { monitor, last_txn, updates }) => format!("update {monitor:?} {last_txn} {updates}"),
            Ok(Incoming::Canceled) => "canceled".to_owned(),
            Ok(Incoming::Reply(reply)) => format!("reply {}", String::from_utf8(reply.to_jsonrpc().unwrap()).unwrap()),
            Ok(Incoming::Other) => "other".to_owned(),
            Err(error) => error.to_string(),
        });
    }

    #[test]
    fn messages_of_the_server_are_told_apart() {
        check_in(
            r#"{"id":"echo","method":"echo","params":[1]}"#,
            &expect![[r#"echo {"id":"echo","result":[1],"error":null}"#]],
        );
        check_in(
            r#"{"id":null,"method":"update3","params":["Shop","t1",{"Shelf":{}}]}"#,
            &expect![[r#"update Tables t1 {"Shelf":{}}"#]],
        );
        check_in(r#"{"id":null,"method":"update3","params":["role","t1",{}]}"#, &expect![[r#"update Server t1 {}"#]]);
        check_in(
            r#"{"id":null,"method":"update3","params":["Shop","t1"]}"#,
            &expect!["invalid length 2, expected tuple struct Update with 3 elements at line 1 column 13"],
        );
        check_in(r#"{"id":null,"method":"monitor_canceled","params":["Shop"]}"#, &expect!["canceled"]);
        check_in(r#"{"id":null,"method":"stolen","params":["lock"]}"#, &expect!["other"]);
        check_in(r#"{"id":null,"result":[],"error":null}"#, &expect!["other"]);
        check_in("{", &expect!["EOF while parsing an object at line 1 column 1"]);
    }

    #[test]
    fn replies_get_a_version_and_one_outcome() {
        check_in(
            r#"{"id":1,"result":[{}],"error":null}"#,
            &expect![[r#"reply {"jsonrpc":"2.0","id":1,"result":[{}]}"#]],
        );
        check_in(r#"{"id":1,"result":null}"#, &expect![[r#"reply {"jsonrpc":"2.0","id":1,"result":null}"#]]);
        check_in(
            r#"{"id":1,"result":null,"error":"not owner"}"#,
            &expect![[
                r#"reply {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"refused by the database server","data":"not owner"}}"#
            ]],
        );
        check_in(
            r#"{"id":1,"error":{"error":"unknown database","details":"x"}}"#,
            &expect![[
                r#"reply {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"refused by the database server","data":{"error":"unknown database","details":"x"}}}"#
            ]],
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[{}\[\]",:a-z0-9 \\]{0,60}"#) {
            let _ = incoming(&text);
            let _ = outgoing(&text);
        }

        #[test]
        fn no_members_make_it_panic(
            members in prop::collection::vec(
                (
                    prop::sample::select(&["id", "method", "params", "result", "error", "x"][..]),
                    prop_oneof![
                        prop::sample::select(&[
                            "null", "7", "\"update3\"", "\"echo\"", "[]", "[\"role\",\"t\",{}]", "{}",
                            "{\"ticket\":1,\"params\":[\"Shop\"]}", "\"monitor_cond_since\"", "\"\\u0000\"",
                        ][..]).prop_map(str::to_owned),
                        r#"[{}\[\]",:a-z0-9 \\]{0,12}"#,
                    ],
                ),
                0..6,
            ),
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            if let Ok(Incoming::Reply(reply)) = incoming(&text) {
                let reply = reply.to_jsonrpc().unwrap();
                prop_assert!(serde_json::from_slice::<Value>(&reply).is_ok_and(|reply| reply.is_object()));
            }
            let _ = outgoing(&text);
        }
    }
}
