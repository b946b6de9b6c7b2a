//! Where a server listens, in the words of ovsdb(7), "Connection Methods".

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens.
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
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// TLS is not there yet.
    #[error("endpoint {0:?}: ssl is not supported yet, use tcp: or unix:")]
    Ssl(String),
    /// No known method in front.
    #[error("endpoint {0:?}: expected unix:<path> or tcp:<host>:<port>")]
    Method(String),
    /// The path is missing.
    #[error("endpoint {0:?}: the path is empty")]
    Path(String),
    /// The host is missing, or is an IPv6 address without brackets.
    #[error("endpoint {0:?}: expected a host, an IPv4 address or an IPv6 address in brackets")]
    Host(String),
    /// The port is missing or not one.
    #[error("endpoint {0:?}: expected a port from 1 to 65535")]
    Port(String),
}

impl Endpoint {
    /// Reads a list as OVN writes it: `tcp:10.0.0.1:6641,tcp:10.0.0.2:6641`.
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
            Some(("tcp", rest)) => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(|| EndpointError::Port(whole()))?;
                let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| EndpointError::Port(whole()))?;
                let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
                    Some(v6) if v6.parse::<Ipv6Addr>().is_ok() => v6,
                    None if !host.is_empty() && !host.contains([':', '[', ']']) => host,
                    _ => return Err(EndpointError::Host(whole())),
                };
                Ok(Endpoint::Tcp { host: host.to_owned(), port })
            }
            Some(("ssl", _)) => Err(EndpointError::Ssl(whole())),
            _ => Err(EndpointError::Method(whole())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
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
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::parse_list("tcp:a:1, tcp:b:2").unwrap().len(), 2);
    }

    #[test]
    fn bad_endpoints_say_what_is_wrong() {
        for (text, error) in [
            ("", "expected unix:<path> or tcp:<host>:<port>"),
            ("10.0.0.1:6641", "expected unix:<path> or tcp:<host>:<port>"),
            ("unix:", "the path is empty"),
            ("tcp:", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1:0", "expected a port from 1 to 65535"),
            ("tcp:10.0.0.1:65536", "expected a port from 1 to 65535"),
            ("tcp::6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:fd00::1:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:[fd00::1:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("tcp:[10.0.0.1]:6641", "expected a host, an IPv4 address or an IPv6 address in brackets"),
            ("ssl:10.0.0.1:6641", "ssl is not supported yet, use tcp: or unix:"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), format!("endpoint {text:?}: {error}"));
        }
    }
}
