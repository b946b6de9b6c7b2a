//! Endpoints in the syntax of ovsdb(7), "Connection Methods".

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `unix:/path`
    Unix(PathBuf),
    /// `tcp:host:port`, `tcp:[fd00::1]:port`
    Tcp {
        /// A host name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `ssl:host:port`: TCP with TLS. [`TlsFiles`](super::TlsFiles) names the key and the certificates.
    Ssl {
        /// A host name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a string is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The string does not start with a known method.
    #[error("endpoint {0:?}: expected unix:<path>, tcp:<host>:<port> or ssl:<host>:<port>")]
    Method(String),
    /// The path is missing.
    #[error("endpoint {0:?}: the path is empty")]
    Path(String),
    /// The host is missing, or is an IPv6 address without brackets.
    #[error("endpoint {0:?}: expected a host, an IPv4 address or an IPv6 address in brackets")]
    Host(String),
    /// The port is missing or invalid.
    #[error("endpoint {0:?}: expected a port from 1 to 65535")]
    Port(String),
}

impl Endpoint {
    /// Parses a list in OVN's syntax: `tcp:10.0.0.1:6641,tcp:10.0.0.2:6641`.
    pub fn parse_list(list: &str) -> Result<Vec<Endpoint>, EndpointError> {
        list.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let whole = || text.to_owned();
        match text.split_once(':') {
            Some(("unix", "")) => Err(EndpointError::Path(whole())),
            Some(("unix", path)) => Ok(Endpoint::Unix(path.into())),
            Some(("tcp", rest)) => host_port(text, rest).map(|(host, port)| Endpoint::Tcp { host, port }),
            Some(("ssl", rest)) => host_port(text, rest).map(|(host, port)| Endpoint::Ssl { host, port }),
            _ => Err(EndpointError::Method(whole())),
        }
    }
}

fn host_port(whole: &str, rest: &str) -> Result<(String, u16), EndpointError> {
    let whole = || whole.to_owned();
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| EndpointError::Port(whole()))?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| EndpointError::Port(whole()))?;
    // Open vSwitch also accepts IPv4 addresses in brackets, and kube-ovn's scripts write them that way.
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<IpAddr>().is_ok() => address,
        None if !host.is_empty() && !host.contains([':', '[', ']']) => host,
        _ => return Err(EndpointError::Host(whole())),
    };
    Ok((host.to_owned(), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, host, port) = match self {
            Endpoint::Unix(path) => return write!(f, "unix:{}", path.display()),
            Endpoint::Tcp { host, port } => ("tcp", host, port),
            Endpoint::Ssl { host, port } => ("ssl", host, port),
        };
        if host.contains(':') { write!(f, "{method}:[{host}]:{port}") } else { write!(f, "{method}:{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_as_they_are_written() {
        for text in [
            "unix:/run/openvswitch/db.sock",
            "unix:relative",
            "tcp:10.0.0.1:6641",
            "tcp:[fd00::1]:6641",
            "tcp:ovn-nb.kube-system:6641",
            "ssl:10.0.0.1:6641",
            "ssl:[fd00::1]:6641",
            "ssl:ovn-nb.kube-system:6641",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("ssl:[10.0.0.1]:6641".parse::<Endpoint>().unwrap().to_string(), "ssl:10.0.0.1:6641");
        assert_eq!(Endpoint::parse_list("tcp:a:1, tcp:b:2").unwrap().len(), 2);
    }

    #[test]
    fn bad_endpoints_say_what_is_wrong() {
        for (text, error) in [
            ("", "expected unix:<path>, tcp:<host>:<port> or ssl:<host>:<port>"),
            ("10.0.0.1:6641", "expected unix:<path>, tcp:<host>:<port> or ssl:<host>:<port>"),
            ("unix:", "the path is empty"),
            ("tcp:", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1:0", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1:65536", "expected a port from 1 to 65535"),
            ("tcp::6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:fd00::1:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:[fd00::1:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:[ovn-nb]:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("ssl:10.0.0.1", "expected a port from 1 to 65535"),
            ("ssl:fd00::1:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), format!("endpoint {text:?}: {error}"));
        }
    }
}
