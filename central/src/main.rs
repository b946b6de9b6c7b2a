//! The entry point: parses the arguments, starts logging and runs [`ovn_central::member`].

use std::process::ExitCode;

use clap::Parser;
use daemons::user::become_user;
use ovn_central::args::{Args, Verb};
use ovn_central::{backup, member};

fn main() -> ExitCode {
    kit::logs::ending("ovn-central", act(Args::parse().verb))
}

/// How the names begin of what members have in their directories.
const OWN: [&str; 12] = [
    "ovnnb_db",
    ".ovnnb_db",
    "ovnsb_db",
    ".ovnsb_db",
    "backups",
    "keys",
    "raft",
    "kube-ovn.lock",
    "ovn-central",
    "ovn-northd",
    "ovn-nbctl",
    "ovn-sbctl",
];

fn act(verb: Verb) -> anyhow::Result<()> {
    if let Verb::Run(run) = &verb
        && let Some(user) = run.run_as
    {
        become_user(user, &[&run.database_directory, &run.directory.run_directory], &OWN)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Run(run) => {
            kit::logs::init(&run.logs, "")?;
            runtime.block_on(member::run(*run))?;
        }
        Verb::Check(check) => runtime.block_on(member::check(&check))?,
        Verb::Restore(restore) => backup::restore(&restore)?,
    }
    Ok(())
}
