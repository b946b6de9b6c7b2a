//! The addresses and routes of `ovn0`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use links::{Link, LinkError, Links, Route};

use crate::allocation::Allocation;

/// Makes the addresses of the link those of the allocation, and adds the routes to their networks if they are missing.
pub(super) async fn addresses(links: &Links, link: &Link, net: &Allocation) -> Result<(), LinkError> {
    let wanted: BTreeSet<IpNet> = net.addresses().map(|(address, _)| address).collect();
    let have = links.addresses(link).await?;
    for address in wanted.difference(&have) {
        links.add_address(link, *address).await?;
        tracing::info!(%address, "added to ovn0");
    }
    for address in have.difference(&wanted) {
        links.delete_address(link, *address).await?;
        tracing::info!(%address, "removed from ovn0");
    }
    // The kernel adds the route to an address' network with the address, and not again when it was deleted alone.
    let connected = links.connected(link).await?;
    for address in wanted.iter().filter(|address| address.prefix_len() < address.max_prefix_len()) {
        if !connected.contains(&address.trunc()) {
            links.add_connected(link, *address).await?;
            tracing::info!(to = %address.trunc(), "connected route added to ovn0");
        }
    }
    Ok(())
}

/// Makes the agent's routes on the link the wanted ones. Returns those that the kernel has refused. Each is logged once:
/// `refused` are the earlier ones.
pub(super) async fn routes(
    links: &Links,
    link: &Link,
    wanted: &BTreeSet<Route>,
    refused: &BTreeSet<Route>,
) -> Result<BTreeSet<Route>, LinkError> {
    let have = links.routes(link).await?;
    let mut still = BTreeSet::new();
    let missing: BTreeSet<&Route> = wanted.difference(&have).collect();
    // A destination has one route. Another one to the same destination is replaced, so that there is always one.
    let (replaced, unwanted): (Vec<_>, Vec<_>) =
        have.difference(wanted).partition(|route| missing.iter().any(|other| other.to == route.to));
    for route in unwanted {
        links.delete_route(link, route).await?;
        tracing::info!(%route, "route removed from ovn0");
    }
    for route in missing {
        let takes_over = replaced.iter().any(|other| other.to == route.to);
        let result =
            if takes_over { links.replace_route(link, route).await } else { links.add_route(link, route).await };
        match result {
            Ok(()) => tracing::info!(%route, "route added to ovn0"),
            Err(error) => {
                if !refused.contains(route) {
                    tracing::warn!(%error, "the kernel refuses a route: it is left out");
                }
                still.insert(route.clone());
            }
        }
    }
    Ok(still)
}
