//! The node forwards packets of pods: the sysctls for it.

use std::io;
use std::path::Path;

use links::sysctl;

use super::Family;
use crate::node_port::DEVICE;

/// Enables forwarding for these families if it is disabled. Succeeds if the kernel has no IPv6.
pub(super) fn enable(families: impl Iterator<Item = Family>) -> io::Result<()> {
    families.into_iter().try_for_each(|family| enable_in(sysctl::directory(), family))
}

fn enable_in(net: &Path, family: Family) -> io::Result<()> {
    let path = match family {
        Family::V4 => net.join("ipv4/ip_forward"),
        Family::V6 => net.join("ipv6/conf/all/forwarding"),
    };
    match std::fs::read_to_string(&path) {
        Ok(now) if now.trim() == "1" => Ok(()),
        Ok(_) => {
            if family == Family::V6 {
                keep_advertisements(&net.join("ipv6/conf"))?;
            }
            std::fs::write(path, "1")
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets interfaces that take their default route from router advertisements go on doing so: a kernel that forwards ignores
/// them, unless `accept_ra` is 2 (ip-sysctl.rst).
fn keep_advertisements(interfaces: &Path) -> io::Result<()> {
    for interface in std::fs::read_dir(interfaces)? {
        let interface = interface?.path();
        let is = |name: &str, value| std::fs::read_to_string(interface.join(name)).is_ok_and(|now| now.trim() == value);
        // `all` would change nothing, and `default` would affect the interfaces of pods. The node learns no routes from the pods'
        // network.
        if ["all", "default", DEVICE].iter().any(|name| interface.ends_with(name)) {
            continue;
        }
        if is("accept_ra", "1") && is("forwarding", "0") {
            std::fs::write(interface.join("accept_ra"), "2")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_goes_on_taking_advertisements_when_the_node_forwards() {
        let net = tempfile::tempdir().unwrap();
        let put = |path: &str, value: &str| {
            let path = net.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        };
        let get = |path: &str| std::fs::read_to_string(net.path().join(path)).unwrap().trim().to_owned();
        for (interface, accept, forwarding) in [
            ("all", "1", "0"),
            ("default", "1", "0"),
            ("eth0", "1", "0"),
            ("eth1", "0", "0"),
            ("eth2", "1", "1"),
            ("ovn0", "1", "0"),
        ] {
            put(&format!("ipv6/conf/{interface}/accept_ra"), &format!("{accept}\n"));
            put(&format!("ipv6/conf/{interface}/forwarding"), &format!("{forwarding}\n"));
        }
        enable_in(net.path(), Family::V4).unwrap();
        enable_in(net.path(), Family::V6).unwrap();
        assert_eq!(get("ipv6/conf/all/forwarding"), "1");
        let accepts = ["all", "default", "eth0", "eth1", "eth2", "ovn0"];
        let accepts = accepts.map(|interface| get(&format!("ipv6/conf/{interface}/accept_ra")));
        assert_eq!(accepts, ["1", "1", "2", "0", "1", "1"]);
        // The host has decided about the rest.
        put("ipv6/conf/eth0/accept_ra", "1");
        put("ipv6/conf/eth0/forwarding", "0");
        enable_in(net.path(), Family::V6).unwrap();
        assert_eq!(get("ipv6/conf/eth0/accept_ra"), "1");
    }
}
