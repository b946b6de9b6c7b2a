//! Replacements for what `docs/by-hand.md` and `docs/external-hosts.md` assume and a lab lacks. Nothing else differs from the page.
//!
//! | The page | The lab |
//! |---|---|
//! | `$EDITOR kube-ovn.default` | writes the values of [`SETTINGS`] into the file |
//! | `images/compile DIRECTORY` | copies the programs of `images/programs` that `e2e/build` has built, and the plugins that `e2e/setup` has built |
//! | `ssh root@NODE COMMAND` | runs `COMMAND` in the node's Debian |
//! | `apt-get` | checks that the packages are installed in the node's Debian ([`APT_GET`]) |

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::layout::{Node, SERVICES, cache, lab, sibling, state};
use crate::{external_host, operator, rootfs};

/// The settings of the lab: its addresses in both families, and the datapath that works in a network namespace.
const SETTINGS: [(&str, &str); 7] = [
    ("OVN_CENTRAL", "172.30.0.1"),
    ("POD_CIDR", "10.16.0.0/16,fd00:10:16::/112"),
    ("JOIN_CIDR", "100.64.0.0/16,fd00:100:64::/112"),
    ("SVC_CIDR", SERVICES),
    ("TUNNEL_IFACES", "br-phy"),
    ("DATAPATH", "userspace"),
    ("USERSPACE_IFACE", "eth1"),
];

/// The replacement programs: the path in the operator's directory, and the name.
const FILES: [(&str, &str); 3] = [("bin/ssh", "ssh"), ("bin/editor", "editor"), ("images/compile", "compile")];

/// A node's Debian contains the packages of `images/packages` and their dependencies, with dpkg's database.
const APT_GET: &str = r#"#!/bin/sh
case $1 in
    update) exit ;;
    install) shift ;;
    *) echo "apt-get $*: the lab's own does not know that" >&2; exit 100 ;;
esac
for name; do
    case $name in -*) continue ;; esac
    dpkg-query --show --showformat '${db:Status-Status}\n' "$name" | grep --quiet --line-regexp installed || {
        echo "apt-get install: $name is not in the nodes' root file system" >&2
        exit 100
    }
done
"#;

/// Returns the operator's directory, which contains the parts of the project that the page uses.
pub fn folder() -> std::path::PathBuf {
    state("operator")
}

/// Creates a directory of the operator.
pub fn prepare(folder: &Path) -> Result<()> {
    for (path, name) in FILES {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, format!("#!/bin/sh\nexec {} stand-in {name} \"$@\"\n", lab().display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    for part in ["yamls", "systemd"] {
        symlink(operator::project().join(part), folder.join(part))?;
    }
    Ok(())
}

/// Returns a shell of the operator that runs `script` in a directory of [`prepare`].
pub fn shell(folder: &Path, script: &str) -> Command {
    let mut command = operator::shell(folder, script);
    command.env("EDITOR", "editor");
    command
}

/// `lab stand-in NAME ARGUMENT...`. Does the work, or executes another program and does not return.
pub fn act(name: &str, arguments: &[String]) -> Result<()> {
    match (name, arguments) {
        ("ssh", [host, command @ ..]) => match ssh(host, &command.join(" "))? {},
        ("editor", [file]) => edit(Path::new(file)),
        ("compile", [directory]) => compile(Path::new(directory)),
        _ => bail!("{name} {}: the lab's own does not know that", arguments.join(" ")),
    }
}

fn ssh(host: &str, command: &str) -> Result<Infallible> {
    let machine = |name| Node::named(name).or((name == external_host::NAME).then_some(external_host::MACHINE));
    let node = host.strip_prefix("root@").and_then(machine).with_context(|| format!("ssh {host}: no such machine"))?;
    Err(rootfs::on(node, "sh", &["-c", command])?.exec()).context("ssh")
}

fn edit(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(fs::write(file, edited(&text)?)?)
}

/// Returns the settings with the lab's values. Each setting must occur exactly once.
fn edited(text: &str) -> Result<String> {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for (name, value) in SETTINGS {
        let mut found = lines.iter_mut().filter(|line| line.split_once('=').is_some_and(|(key, _)| key == name));
        let line = found.next().with_context(|| format!("there is no setting {name}"))?;
        *line = format!("{name}={value}");
        ensure!(found.next().is_none(), "there are two settings {name}");
    }
    Ok(lines.join("\n") + "\n")
}

fn compile(directory: &Path) -> Result<()> {
    for (program, place) in programs()? {
        let (from, to) = (built(&program)?, directory.join(place.trim_start_matches('/')));
        fs::create_dir_all(&to)?;
        fs::copy(&from, to.join(&program)).with_context(|| from.display().to_string())?;
    }
    let to = directory.join(PLUGINS);
    fs::create_dir_all(&to)?;
    for plugin in plugins()? {
        fs::copy(&plugin, to.join(plugin.file_name().unwrap_or_default()))
            .with_context(|| plugin.display().to_string())?;
    }
    Ok(())
}

/// The directory of the plugins of the CNI project, on a node and below that of `images/plugins/build`.
pub const PLUGINS: &str = "usr/lib/kube-ovn/cni";

/// Returns the plugins that `e2e/setup` has built.
fn plugins() -> Result<Vec<PathBuf>> {
    let folder = cache("plugins").join(PLUGINS);
    let entries = fs::read_dir(&folder).with_context(|| format!("{}: run e2e/setup lab", folder.display()))?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

/// Returns our programs and their directories from `images/programs`.
fn programs() -> Result<Vec<(String, String)>> {
    let path = operator::project().join("images/programs");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let words = lines.filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .map(|words| match words.as_slice() {
            [_, program, place, ..] => Ok(((*program).to_owned(), (*place).to_owned())),
            other => bail!("{}: {other:?}", path.display()),
        })
        .collect()
}

/// Returns the path of a built program: in the directory of static programs, or next to this program.
fn built(program: &str) -> Result<PathBuf> {
    let of_no_host = sibling(&format!("static/{program}"))?;
    let path = if of_no_host.exists() { of_no_host } else { sibling(program)? };
    ensure!(path.exists(), "{} is missing: run e2e/build", path.display());
    Ok(path)
}

/// Checks that all programs are built.
pub fn present() -> Result<()> {
    programs()?.iter().try_for_each(|(program, _)| built(program).map(drop))?;
    plugins().map(drop)
}

/// Installs the replacement of `apt-get` on a node.
pub fn equip(node: Node) -> Result<()> {
    let path = rootfs::file(node, "/usr/bin/apt-get")?;
    fs::write(&path, APT_GET).with_context(|| path.display().to_string())?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labs_settings_are_among_those_of_the_project() {
        let path = operator::project().join("systemd/kube-ovn.default");
        let text = edited(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(text.contains("\nOVN_CENTRAL=172.30.0.1\n") && text.contains("\nMTU=0\n"), "{text}");
        assert!(edited("OVN_CENTRAL=\n").unwrap_err().to_string().contains("POD_CIDR"));
    }

    #[test]
    fn all_programs_of_the_image_are_known() {
        let names: Vec<_> = programs().unwrap().into_iter().map(|(program, _)| program).collect();
        assert_eq!(names, ["kube-ovn-controller", "kube-ovn-cni", "ovn-central", "ovs-ovn", "kube-ovn"]);
    }
}
