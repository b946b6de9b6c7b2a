//! `systemctl` for a node of the lab, which has no systemd: the verbs of `docs/by-hand.md`, on the unit files that are on the node.
//!
//! A service is a process of the lab called `UNIT-NODE`. It is not started again when it ends, nor when its node is: tests do that.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::unit::{Lines, Unit};
use crate::layout::{Node, state};
use crate::{process, rootfs};

/// Who runs what is to run as nobody.
const NOBODY: u32 = 65534;

/// `systemctl` with `words`, on `node`; what it prints.
pub async fn run(node: Node, words: &[String]) -> Result<String> {
    let (flags, names): (Vec<_>, Vec<_>) = words.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let (verb, units) = names.split_first().context("systemctl: no verb")?;
    match (*verb, flags.as_slice()) {
        ("daemon-reload", []) => {}
        ("mask", []) => units.iter().try_for_each(|unit| mask(node, unit))?,
        // There is no boot that would start them.
        ("enable" | "disable", []) => units.iter().try_for_each(|unit| load(node, unit).map(drop))?,
        ("enable", ["--now"]) | ("start", []) => {
            for unit in units {
                start(node, unit).await?;
            }
        }
        ("disable", ["--now"]) | ("stop", []) => {
            for unit in units {
                stop(node, unit).await?;
            }
        }
        ("restart", []) => {
            for unit in units {
                stop(node, unit).await?;
                start(node, unit).await?;
            }
        }
        ("is-active", []) => {
            let dead: Vec<_> = units.iter().filter(|unit| !process::runs(&name(node, unit))).collect();
            ensure!(dead.is_empty(), "inactive on {}: {dead:?}", node.name());
            return Ok("active\n".repeat(units.len()));
        }
        _ => bail!("systemctl {}: the lab's own does not know that", words.join(" ")),
    }
    Ok(String::new())
}

/// What the process of a unit on a node is called.
pub fn name(node: Node, unit: &str) -> String {
    format!("{unit}-{}", node.name())
}

/// Starts a unit, unless it runs.
pub async fn start(node: Node, unit: &str) -> Result<()> {
    if process::runs(&name(node, unit)) {
        return Ok(());
    }
    let service = load(node, unit)?;
    let lines = service.lines(&node.name(), |path| match fs::read_to_string(rootfs::file(node, path)?) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| path.to_owned()),
    })?;
    for directory in &service.directories {
        fs::create_dir_all(rootfs::file(node, &format!("/run/{directory}"))?)?;
    }
    show(node, &service)?;
    for words in &lines.before {
        process::run(command(node, &service, words, &lines)?).await?;
    }
    let program = rootfs::file(node, &lines.start[0])?;
    ensure!(program.exists(), "{unit}: {} is not on {}", lines.start[0], node.name());
    process::start(&name(node, unit), command(node, &service, &lines.start, &lines)?)
}

/// Stops a unit, if it runs.
pub async fn stop(node: Node, unit: &str) -> Result<()> {
    let service = load(node, unit)?;
    process::stop(&state("pid").join(name(node, unit)), Duration::from_secs(service.grace)).await?;
    hide(node, &service)
}

fn command(node: Node, service: &Unit, words: &[String], lines: &Lines) -> Result<Command> {
    let id = NOBODY.to_string();
    let (user, group) = (format!("--reuid={id}"), format!("--regid={id}"));
    let mut all = Vec::new();
    if service.nobody {
        all.extend(["setpriv", &user, &group, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        all.extend(["--no-new-privs", "--"]);
    }
    all.extend(words.iter().map(String::as_str));
    let (program, arguments) = all.split_first().context("no program")?;
    let mut command = rootfs::on(node, program, arguments)?;
    command.env_clear().envs(&lines.environment);
    Ok(command)
}

/// Puts the secrets of a service where it alone reads them.
fn show(node: Node, service: &Unit) -> Result<()> {
    hide(node, service)?;
    if service.secrets.is_empty() {
        return Ok(());
    }
    let owner = if service.nobody { NOBODY } else { 0 };
    let put = |path: &PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        chown(path, Some(owner), Some(owner))
    };
    let directory = rootfs::file(node, &service.credentials())?;
    fs::create_dir_all(&directory)?;
    for (name, from) in &service.secrets {
        let to = directory.join(name);
        fs::copy(rootfs::file(node, from)?, &to).with_context(|| from.clone())?;
        put(&to, 0o400)?;
    }
    Ok(put(&directory, 0o500)?)
}

fn hide(node: Node, service: &Unit) -> Result<()> {
    match fs::remove_dir_all(rootfs::file(node, &service.credentials())?) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| service.credentials()),
        _ => Ok(()),
    }
}

fn file(node: Node, unit: &str) -> Result<PathBuf> {
    rootfs::file(node, &format!("/etc/systemd/system/{unit}.service"))
}

fn load(node: Node, unit: &str) -> Result<Unit> {
    let path = file(node, unit)?;
    ensure!(!path.is_symlink(), "{unit} is masked on {}", node.name());
    let text = fs::read_to_string(&path).with_context(|| format!("unit {unit} on {}", node.name()))?;
    Unit::parse(unit, &text)
}

fn mask(node: Node, unit: &str) -> Result<()> {
    let path = file(node, unit)?;
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    match symlink("/dev/null", &path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_symlink() => Ok(()),
        made => made.with_context(|| path.display().to_string()),
    }
}
