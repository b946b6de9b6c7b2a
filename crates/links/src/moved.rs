//! Routes that move to another link.

use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteType};

use crate::{Link, LinkError, Links};

/// A route with everything that it keeps on another link: destination, gateway, source address, metric, table, protocol
/// and metrics such as the MTU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedRoute(RouteMessage);

impl Links {
    /// Returns the routes on the link, of all tables. Omits those that the kernel adds together with an address, and those
    /// over several links. The order is that in which they can be added: the kernel refuses a route whose gateway it
    /// cannot reach.
    pub async fn routes_to_move(&self, link: &Link) -> Result<Vec<MovedRoute>, LinkError> {
        let messages = self.all_routes(&format!("list routes of {}", link.name)).await?;
        let mut routes: Vec<_> = messages.iter().filter_map(|message| MovedRoute::on(message, link.index)).collect();
        routes.sort_by_key(MovedRoute::has_gateway);
        Ok(routes)
    }

    /// Puts the route on this link. It replaces a route to the same destination with the same metric and table.
    pub async fn move_route(&self, route: &MovedRoute, link: &Link) -> Result<(), LinkError> {
        let mut message = route.0.clone();
        message.attributes.push(RouteAttribute::Oif(link.index));
        let what = format!("move a route to {}", link.name);
        self.handle.route().add(message).replace().execute().await.map_err(LinkError::on(what))
    }
}

impl MovedRoute {
    /// Returns the route of a message if it moves from the link with this index.
    fn on(message: &RouteMessage, index: u32) -> Option<Self> {
        let RouteMessage { header, attributes, .. } = message;
        let moves = header.kind == RouteType::Unicast
            && header.protocol != RouteProtocol::Kernel
            && !header.flags.contains(RouteFlags::Cloned)
            && attributes.contains(&RouteAttribute::Oif(index));
        let mut kept = RouteMessage::default();
        kept.header = header.clone();
        // The kernel refuses the other flags: they describe the state of the route.
        kept.header.flags &= RouteFlags::Onlink;
        kept.attributes = attributes.iter().filter(|attribute| is_kept(attribute)).cloned().collect();
        moves.then_some(Self(kept))
    }

    fn has_gateway(&self) -> bool {
        let is_gateway =
            |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
        self.0.attributes.iter().any(is_gateway)
    }
}

fn is_kept(attribute: &RouteAttribute) -> bool {
    use RouteAttribute as A;
    matches!(
        attribute,
        A::Destination(_)
            | A::Source(_)
            | A::Gateway(_)
            | A::Via(_)
            | A::PrefSource(_)
            | A::Priority(_)
            | A::Table(_)
            | A::Metrics(_)
            | A::Preference(_)
    )
}
