//! The CNI plugin that the container runtime runs.
//!
//! It owns nothing: it reads what the runtime says (variables, standard input), says it to the node agent in the words of
//! `cni_wire::rpc`, and prints the answer. It has neither a runtime nor threads, so that it starts in well under a
//! millisecond. Promise: standard output carries one JSON object or nothing; every failure has a code of the
//! specification; no input and no state of the agent makes it wait for longer than [`agent::ABSENCE`] and then
//! [`agent::PATIENCE`].

mod agent;
mod call;

use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use cni_wire::{CniError, Code, NetConf, Version, rpc};

use crate::call::{Call, Verb};

fn main() -> ExitCode {
    let mut version = Version::NEWEST;
    let (out, code) = match run(&mut version) {
        Ok(out) => (out, ExitCode::SUCCESS),
        Err(error) => {
            // The runtime logs what comes on standard error.
            eprintln!("kube-ovn: {error}");
            (error.to_json(version), ExitCode::FAILURE)
        }
    };
    // A runtime that closed the pipe no longer wants the answer.
    let _ = std::io::stdout().write_all(out.as_bytes());
    code
}

/// One call, from the environment to what goes to standard output. `version` learns which version the caller speaks.
fn run(version: &mut Version) -> Result<String, CniError> {
    let verb = Verb::from_env(|name| std::env::var(name).ok())?;
    let mut stdin = Vec::new();
    std::io::stdin()
        .take(rpc::MAX_LINE as u64)
        .read_to_end(&mut stdin)
        .map_err(|e| CniError::new(Code::IO, "standard input cannot be read").details(e))?;
    if verb == Verb::Version {
        return Ok(Version::reply(call::asked_version(&stdin).as_deref()));
    }
    let conf = NetConf::parse(&stdin)?;
    *version = conf.version;
    let socket = &conf.server_socket;
    // What a pod waits for anyway is worth waiting for; whoever asks how things are wants to know it now.
    let (wait, now) = (agent::ABSENCE, Duration::ZERO);
    match Call::from_env(verb, &conf, |name| std::env::var(name).ok())? {
        Call::Add(attachment) => {
            let attached: rpc::Attached = agent::ask(socket, rpc::method::ADD, &attachment, wait)?;
            let ours = attached.into_result(&attachment);
            let result = conf.prev_result.unwrap_or_default().followed_by(ours);
            Ok(result.to_json(conf.version))
        }
        Call::Del(attachment) => agent::ask::<()>(socket, rpc::method::DEL, &attachment, wait).map(quiet),
        Call::Check(attachment) => {
            let promised = conf.prev_result.iter().flat_map(|result| result.addresses_of(&attachment.ifname));
            let promised = promised.map(str::to_owned).collect();
            let check = rpc::Check { attachment, promised };
            agent::ask::<()>(socket, rpc::method::CHECK, &check, now).map(quiet)
        }
        Call::Status => match agent::ask::<()>(socket, rpc::method::STATUS, &[(); 0], now) {
            // The specification's word for "the agent is away" is another one here.
            Err(error) if error.code == Code::TRY_AGAIN => Err(CniError { code: Code::NOT_AVAILABLE, ..error }),
            other => other.map(quiet),
        },
        Call::Gc(keep) => agent::ask::<()>(socket, rpc::method::GC, &keep, now).map(quiet),
    }
}

fn quiet(_nothing_to_say: ()) -> String {
    String::new()
}
