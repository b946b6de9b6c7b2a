//! Lists of the kernel's links.

use futures::future::try_join_all;
use links::Links;

use crate::sandbox::{in_netns, run};

#[test]
fn many_may_list_at_once() {
    in_netns(|| async {
        // There are so many links that a list needs several messages.
        for index in 0..50 {
            run("ip", &["link", "add", &format!("a{index}"), "type", "veth", "peer", "name", &format!("b{index}")]);
        }
        let links = Links::here().unwrap();
        let one = links.find("a7").await.unwrap().unwrap();
        for _ in 0..20 {
            let lists = try_join_all((0..8).map(|_| links.all()));
            let addresses = try_join_all((0..8).map(|_| links.addresses(&one)));
            let routes = try_join_all((0..8).map(|_| links.routes(&one)));
            let (lists, ..) = tokio::try_join!(lists, addresses, routes).unwrap();
            assert!(lists.iter().all(|list| list.len() > 100), "{:?}", lists.iter().map(Vec::len).collect::<Vec<_>>());
        }
    });
}
