//! The CNI plugin. The container runtime executes it.
//!
//! The plugin reads the environment variables and standard input, sends a `cni_wire::rpc` request to the node agent,
//! and prints the reply. It has no state. It uses no async runtime and no threads, so it starts in well under a
//! millisecond.
//!
//! Standard output contains one JSON object or nothing. Every failure has an error code of the specification. The
//! plugin never waits longer than [`agent::ABSENCE`] plus [`agent::PATIENCE`].

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
            // The runtime logs standard error.
            eprintln!("kube-ovn: {error}");
            (error.to_json(version), ExitCode::FAILURE)
        }
    };
    // Ignore the error: a runtime that closed the pipe no longer needs the reply.
    let _ = std::io::stdout().write_all(out.as_bytes());
    code
}

/// Handles one call. Returns the text for standard output. Sets `version` to the caller's version as soon as it is
/// known.
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
    // ADD and DEL wait for an absent agent, because the pod waits anyway. Other calls need an immediate reply.
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
            // For STATUS, the specification has another code for an unreachable agent.
            Err(error) if error.code == Code::TRY_AGAIN => Err(CniError { code: Code::NOT_AVAILABLE, ..error }),
            other => other.map(quiet),
        },
        Call::Gc(keep) => agent::ask::<()>(socket, rpc::method::GC, &keep, now).map(quiet),
    }
}

fn quiet(_nothing_to_say: ()) -> String {
    String::new()
}
