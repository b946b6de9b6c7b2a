//! The checks of what the node reaches: the API server and the other nodes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use api::annotations::SUBNET_LABEL;
use api::{Ip, NodeView};
use futures::{StreamExt, stream};
use http::Request;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use links::Links;
use tokio::time::timeout;

use super::host::connect;
use super::{Args, Finding, PATIENCE};
use crate::node_port::DEVICE;
use crate::ping;

/// How many nodes are asked at the same time.
const AT_ONCE: usize = 16;

/// The largest difference between the clocks of the node and of the API server. Certificates and leases need them to agree.
const CLOCKS: Duration = Duration::from_secs(10);

/// Checks the API server.
pub(super) async fn server(client: &Client) -> Vec<Finding> {
    let (server, clock) = match timeout(PATIENCE, date(client)).await {
        Err(_) => (Err(format!("no answer within {PATIENCE:?}")), None),
        Ok(Err(why)) => (Err(why), None),
        Ok(Ok(date)) => (Ok("answers".to_owned()), Some(compare(date, SystemTime::now()))),
    };
    let clock = clock.map(|result| Finding::new("clock", result));
    [Finding::new("api-server", server)].into_iter().chain(clock).collect()
}

/// Checks the way to each of the other nodes.
pub(super) async fn nodes(args: &Args, client: &Client) -> Vec<Finding> {
    let why = match timeout(PATIENCE * 2, others(args, client)).await {
        Ok(Ok(nodes)) => return ask(nodes, args.port).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {:?}", PATIENCE * 2),
    };
    vec![Finding::new("nodes", Err(format!("the API server does not list them: {why}")))]
}

/// Returns the time of the API server, from its answer.
async fn date(client: &Client) -> Result<Option<SystemTime>, String> {
    let request = Request::get("/version").body(kube::client::Body::empty()).map_err(|error| error.to_string())?;
    let answer = client.send(request).await.map_err(|error| error.to_string())?;
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
}

fn compare(there: Option<SystemTime>, here: SystemTime) -> Result<String, String> {
    let Some(there) = there else { return Ok("the API server does not tell its time".to_owned()) };
    let apart = here.duration_since(there).or_else(|_| there.duration_since(here)).unwrap_or_default();
    // The API server's time has no fractions of seconds.
    let apart = Duration::from_secs(apart.as_secs());
    if apart > CLOCKS {
        return Err(format!("differs from the API server's by {apart:?}: synchronize the clocks"));
    }
    Ok("agrees with the API server's".to_owned())
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    name: String,
    /// Its first `InternalIP`.
    address: Option<IpAddr>,
    /// The address of its `ovn0`.
    ovn0: Option<IpAddr>,
}

/// Lists the other nodes.
async fn others(args: &Args, client: &Client) -> kube::Result<Vec<Other>> {
    let all: Api<NodeView> = Api::all(client.clone());
    let nodes = all.list(&ListParams::default()).await?;
    let ips: Api<Ip> = Api::all(client.clone());
    // The agent may list objects, and not get one.
    let own = ListParams::default().fields(&format!("metadata.name={}", api::node_port(&args.node_name)));
    let own = ips.list(&own).await?.items.into_iter().next();
    let join = own.map(|own| own.spec.subnet).unwrap_or_default();
    let ips = ips.list(&ListParams::default().labels(&format!("{SUBNET_LABEL}={}", api::label_value(&join)))).await?;
    let ovn0 = |name: &str| {
        let object = ips.items.iter().find(|ip| ip.name_any() == api::node_port(name));
        object.and_then(|ip| ip.lease().ok()).and_then(|(addresses, _)| addresses.iter().next().copied())
    };
    let others = nodes.items.iter().filter(|node| node.name() != args.node_name);
    Ok(others
        .map(|node| Other {
            name: node.name().to_owned(),
            address: node.internal_ips().next(),
            ovn0: ovn0(node.name()),
        })
        .collect())
}

/// Asks the agent of each node, and sends packets of the largest size through the tunnel to it.
async fn ask(nodes: Vec<Other>, port: u16) -> Vec<Finding> {
    let mtu = match Links::here() {
        Ok(links) => links.find(DEVICE).await.ok().flatten().map(|link| link.mtu),
        Err(_) => None,
    };
    let each = nodes.into_iter().map(|node| async move {
        let agent = match node.address {
            Some(address) => connect(SocketAddr::new(address, port)).await,
            None => Err("the Node has no InternalIP".to_owned()),
        };
        let tunnel = match (node.ovn0, mtu) {
            (Some(address), Some(mtu)) => echo(address, mtu).await,
            (None, _) => Err("the node has no address on the join switch".to_owned()),
            (_, None) => Err(format!("this node has no {DEVICE}")),
        };
        [
            Finding { check: "node-agent", of: node.name.clone(), result: agent },
            Finding { check: "tunnel", of: node.name, result: tunnel },
        ]
    });
    stream::iter(each).buffered(AT_ONCE).map(stream::iter).flatten().collect().await
}

/// Sends packets of this size, which may not be fragmented, and waits for an answer. Packets of normal size tell whether
/// only the size is wrong.
async fn echo(address: IpAddr, mtu: u32) -> Result<String, String> {
    let headers = if address.is_ipv4() { 28 } else { 48 };
    if ping::answers(DEVICE, address, mtu.saturating_sub(headers)).await? {
        return Ok(format!("{address} answers packets of {mtu} bytes"));
    }
    if ping::answers(DEVICE, address, ping::SMALL).await? {
        return Err(format!(
            "{address} answers small packets, but not those of {mtu} bytes: the network between the nodes carries less \
             than the interface says; set a smaller --mtu"
        ));
    }
    Err(format!("{address} does not answer: a firewall may drop UDP port 6081 (Geneve) or 4789 (VXLAN)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_seconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        for (seconds, is_right) in [(0, true), (10, true), (11, false)] {
            let apart = Duration::from_secs(seconds);
            assert_eq!(compare(Some(now), now + apart).is_ok(), is_right);
            assert_eq!(compare(Some(now), now - apart).is_ok(), is_right);
        }
        let why = compare(Some(now), now + Duration::from_secs(90)).unwrap_err();
        assert_eq!(why, "differs from the API server's by 90s: synchronize the clocks");
    }
}
