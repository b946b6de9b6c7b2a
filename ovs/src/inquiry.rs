//! Answers probes about the daemons.

use daemons::control::{self, ControlError};
use daemons::status::Question;
use tokio::sync::watch;

use crate::args::RunDirectories;
use crate::places::{CONTROLLER, VSWITCHD, control_socket};
use crate::session::Session;
use crate::vswitchd::Table;

/// What probes ask.
#[derive(Debug)]
pub(crate) struct Inquiry {
    /// The directories of the sockets.
    pub directories: RunDirectories,
    /// The session with the node's database.
    pub session: Session,
    /// Whether the node cannot send through tunnels.
    pub no_tunnels: bool,
    /// The UDP port of tunnels.
    pub port: u16,
    /// The flows of ovs-vswitchd.
    pub table: watch::Receiver<Table>,
}

impl Inquiry {
    /// Answers a probe for one daemon. A single node without tunnels is ready, because it needs none.
    pub async fn answer(&self, question: Question, name: &str, pid: u32) -> Result<(), InquiryError> {
        let socket = control_socket(&self.directories, name, pid);
        if (question, name) == (Question::Ready, VSWITCHD) && *self.table.borrow() == Table::Awaited {
            return Err(InquiryError::Flows);
        }
        if (question, name) == (Question::Ready, CONTROLLER) {
            let said = control::ask(&socket, "connection-status", &[]).await?;
            return match said.trim() {
                "connected" => self.tunnels(),
                other => Err(InquiryError::Southbound(other.to_owned())),
            };
        }
        // ovn-controller does not answer while it computes the flows of a large cluster. A restart of the container would not
        // help it, and would interrupt the datapath.
        if (question, name) != (Question::Live, CONTROLLER) {
            control::ask(&socket, "version", &[]).await?;
        }
        Ok(())
    }

    fn tunnels(&self) -> Result<(), InquiryError> {
        let tunnels = self.session.tunnels();
        if self.no_tunnels && !tunnels.is_empty() {
            let others: Vec<_> = tunnels.into_iter().map(|(remote, _)| remote).collect();
            return Err(InquiryError::NoTunnels(others.join(", ")));
        }
        let broken = tunnels.into_iter().find_map(|(remote, error)| Some((remote, error?)));
        broken.map_or(Ok(()), |(remote, error)| Err(InquiryError::Tunnel { remote, error, port: self.port }))
    }
}

/// Why a daemon is not alive or not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InquiryError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("new flows are not handled until ovn-controller has written its own")]
    Flows,
    #[error("the southbound database: {0}")]
    Southbound(String),
    #[error(
        "no --iface: the userspace datapath has no tunnels to other nodes without an interface for them, and so pods reach \
         none of those at {0}"
    )]
    NoTunnels(String),
    #[error(
        "the tunnel to {remote} cannot be made: {error}; look whether another network of this node has UDP port {port}, and take \
         it away"
    )]
    Tunnel { remote: String, error: String, port: u16 },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use ovn::local;
    use ovsdb::client::{Client, Config};
    use ovsdb::testing::OvsdbServer;
    use ovsdb::{Datum, Op, Row};

    #[tokio::test]
    async fn a_tunnel_that_cannot_be_made_is_named_with_the_reason_and_the_port() {
        let server =
            OvsdbServer::start(&std::fs::read_to_string("/usr/share/openvswitch/vswitch.ovsschema").unwrap()).unwrap();
        let ovsdb::client::Endpoint::Unix(socket) = server.endpoint() else { panic!("{:?}", server.endpoint()) };
        let session = Session::new(socket);
        session.begin().await.unwrap();
        let directories = RunDirectories { run_directory: "/run/none".into(), ovn_run_directory: "/run/none".into() };
        let table = watch::channel(Table::Complete).1;
        let inquiry = Inquiry { directories, session, no_tunnels: false, port: 6081, table };
        inquiry.tunnels().unwrap();

        let config = Config::new(vec![server.endpoint()], "Open_vSwitch", local::open_vswitch());
        let client = Client::spawn(config).0;
        client.synced().await;
        // Rows that nothing refers to are deleted.
        let names = [("ovn-n2-0", "172.31.0.2", ""), ("ovn-n3-0", "172.31.0.3", ERROR)];
        let mut ops = Vec::new();
        let mut ports = Vec::new();
        for (name, remote, error) in names {
            let (interface, port) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
            let mut row = Row::from([("name", name.into()), ("type", "geneve".into())]);
            row.insert("options", Datum::map([("remote_ip", remote)]));
            row.insert("error", error.into());
            ops.push(Op::Insert { table: local::INTERFACE, uuid: Some(interface), row });
            let row = Row::from([("name", name.into()), ("interfaces", interface.into())]);
            ops.push(Op::Insert { table: local::PORT, uuid: Some(port), row });
            ports.push(port);
        }
        let bridge = uuid::Uuid::new_v4();
        let row = Row::from([("name", "br-int".into()), ("ports", Datum::set(ports))]);
        ops.push(Op::Insert { table: local::BRIDGE, uuid: Some(bridge), row });
        let mutations =
            vec![ovsdb::Mutation { column: "bridges", mutator: ovsdb::Mutator::Insert, value: bridge.into() }];
        ops.push(Op::Mutate { table: local::OPEN_VSWITCH, on: ovsdb::Where::All, mutations });
        client.transact(&ops).await.unwrap();
        while inquiry.session.tunnels().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            inquiry.tunnels().unwrap_err().to_string(),
            "the tunnel to 172.31.0.3 cannot be made: could not add network device ovn-n3-0 to ofproto (Address already in use); \
             look whether another network of this node has UDP port 6081, and take it away"
        );
        let blind = Inquiry { no_tunnels: true, ..inquiry };
        assert!(blind.tunnels().unwrap_err().to_string().ends_with("none of those at 172.31.0.2, 172.31.0.3"));
    }

    /// As ovs-vswitchd says it.
    const ERROR: &str = "could not add network device ovn-n3-0 to ofproto (Address already in use)";
}
