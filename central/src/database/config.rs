//! The configuration file of a server (ovsdb-server(1), "Configuration File"): where it listens, and for whom. Only this file can set
//! the inactivity probe for one server alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Database, DatabaseError};

impl Database {
    /// Writes the configuration file of the server. Returns its path.
    pub(super) fn configure(&self, open: bool) -> Result<PathBuf, DatabaseError> {
        let config = self.beside("json");
        let listen = if open && self.serves_chassis() { &self.listen[..] } else { &[] };
        let listen: Vec<_> = listen.iter().map(|address| SocketAddr::new(*address, self.port)).collect();
        let settings = remote_settings(self.transport.is_tls(), self.probe_interval);
        let text = config_file(&self.socket(), &listen, &settings, &self.file.path).to_string();
        std::fs::write(&config, text).map_err(|source| DatabaseError::Io { path: config.clone(), source })?;
        Ok(config)
    }
}

/// Returns the configuration file of the server (ovsdb-server(1), "Configuration File"). Only this file can set the
/// inactivity probe for this server alone.
fn config_file(socket: &Path, listen: &[SocketAddr], (method, settings): &(&str, Value), file: &Path) -> Value {
    let mut remotes = Map::new();
    remotes.insert(format!("punix:{}", socket.display()), json!({}));
    for address in listen {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        remotes.insert(format!("{method}:{}:{ip}", address.port()), settings.clone());
    }
    json!({"remotes": remotes, "databases": {file.display().to_string(): {}}})
}

/// Returns the method by which chassis connect, and its settings. With TLS, a chassis can change only what the role allows to the
/// one that its certificate names (ovn-sb(5), `RBAC_Role`).
fn remote_settings(tls: bool, probe_interval: u32) -> (&'static str, Value) {
    if tls {
        ("pssl", json!({"inactivity-probe": probe_interval, "role": "ovn-controller"}))
    } else {
        ("ptcp", json!({"inactivity-probe": probe_interval}))
    }
}

/// Returns the address at which a client on this machine reaches this listener.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let v6 = address.is_ipv6();
        address.set_ip(if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_served_in_the_words_of_ovs() {
        let listen = ["10.0.0.1:6641", "[::]:6641"].map(|text| text.parse().unwrap());
        let config = |tls| {
            let settings = remote_settings(tls, 5000);
            config_file(Path::new("/run/ovn/ovnnb_db.sock"), &listen, &settings, Path::new("/etc/ovn/ovnnb_db.db"))
        };
        let expected = json!({
            "remotes": {
                "punix:/run/ovn/ovnnb_db.sock": {},
                "ptcp:6641:10.0.0.1": {"inactivity-probe": 5000},
                "ptcp:6641:[::]": {"inactivity-probe": 5000},
            },
            "databases": {"/etc/ovn/ovnnb_db.db": {}},
        });
        assert_eq!(config(false), expected);
        let chassis = json!({"inactivity-probe": 5000, "role": "ovn-controller"});
        assert_eq!(config(true)["remotes"]["pssl:6641:[::]"], chassis);
        assert_eq!(listen.map(reachable).map(|address| address.to_string()), ["10.0.0.1:6641", "[::1]:6641"]);
    }
}
