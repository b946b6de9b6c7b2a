//! Tests the fence on a real cluster of three members: every member refuses an overtaken writer, whichever member
//! leads.

use std::sync::Arc;

use ovn::{LogicalSwitch, TableId};
use ovsdb::testing::OvsdbCluster;
use ovsdb::{Accept, Client, Config, Endpoint, Uuid};
use sync::{Changes, CommitError, Facts, FenceError, Writer};
use tokio::task::JoinSet;

use crate::model::diff_all;
use crate::server::{schema, something};

/// Returns a writer with a client of these servers.
async fn writer_by(endpoints: Vec<Endpoint>, accept: Accept) -> Writer {
    let config = Config { accept, ..Config::new(endpoints, "OVN_Northbound", ovn::northbound()) };
    let (client, changes) = Client::spawn(config);
    drop(changes);
    client.synced().await;
    Writer::new(client)
}

async fn writer(cluster: &OvsdbCluster) -> Writer {
    writer_by(cluster.endpoints(), Accept::Leader).await
}

/// Raises the epoch. Retries until there is a leader.
async fn raise(writer: &mut Writer) {
    loop {
        writer.client().synced().await;
        match writer.raise_epoch().await {
            Ok(_) => return,
            Err(FenceError::Disconnected | FenceError::Unknown | FenceError::Contended) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns the operations that create a switch.
fn switch(name: &str) -> Changes {
    let facts: Facts = [LogicalSwitch { name: name.into(), ..Default::default() }.fact()].into_iter().collect();
    diff_all(&facts, &ovsdb::Replica::new(ovn::northbound()))
}

fn find(writer: &Writer, name: &str) -> Option<Uuid> {
    writer.client().read(|nb| nb.find(TableId::LogicalSwitch.name(), name).next())
}

fn switches(writer: &Writer) -> usize {
    writer.client().read(|nb| nb.len(TableId::LogicalSwitch.name()))
}

/// Expects that the writer is fenced as soon as it has a session.
async fn refused(writer: &Writer) {
    loop {
        writer.client().synced().await;
        match writer.commit(switch("too-late")).await {
            Err(CommitError::Fenced) => return,
            Err(CommitError::Disconnected | CommitError::Unknown) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_writer_that_was_overtaken_is_refused_by_every_member() {
    let mut cluster = OvsdbCluster::start(&schema(), 3).unwrap();
    let mut older = Vec::new();
    for endpoint in cluster.endpoints() {
        let mut writer = writer_by(vec![endpoint], Accept::Any).await;
        raise(&mut writer).await;
        writer.commit(switch(&format!("by-{}", older.len()))).await.unwrap();
        older.push(writer);
    }
    let mut newest = writer(&cluster).await;
    raise(&mut newest).await;
    for writer in &older {
        refused(writer).await;
    }

    let leader = cluster.leader();
    cluster.member(leader).kill().unwrap();
    for (_, writer) in older.iter().enumerate().filter(|(member, _)| *member != leader) {
        refused(writer).await;
    }
    cluster.member(leader).restart().unwrap();
    refused(&older[leader]).await;

    newest.client().synced().await;
    newest.commit(switch("by-the-newest")).await.unwrap();
    assert_eq!(switches(&newest), 4);
    assert_eq!(find(&newest, "too-late"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_older_writer_lands_once_the_epoch_is_raised() {
    let mut cluster = OvsdbCluster::start(&schema(), 3).unwrap();
    let mut newer = writer(&cluster).await;
    for round in 0..3 {
        let mut older = writer(&cluster).await;
        raise(&mut older).await;
        let before = switches(&older);
        let client = older.client().clone();
        let older = tokio::spawn(async move {
            for at in 0.. {
                match older.commit(switch(&format!("{round}-{at}"))).await {
                    Ok(()) => {}
                    Err(CommitError::Disconnected | CommitError::Unknown) => older.client().synced().await,
                    Err(CommitError::Fenced) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        while client.read(|nb| nb.len(TableId::LogicalSwitch.name())) < before + 50 {
            tokio::task::yield_now().await;
        }
        let leader = cluster.leader();
        cluster.member(leader).kill().unwrap();
        raise(&mut newer).await;
        let there = switches(&newer);
        older.await.unwrap();
        newer.client().synced().await;
        newer.commit(something(&format!("given_up_{}", Uuid::new_v4().simple()))).await.unwrap();
        assert_eq!(switches(&newer), there);
        cluster.member(leader).restart().unwrap();
        cluster.wait(leader).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_is_known_once_it_is_settled() {
    let mut cluster = OvsdbCluster::start(&schema(), 3).unwrap();
    let mut writer = writer(&cluster).await;
    raise(&mut writer).await;
    let (mut lost, mut known) = (0, Vec::new());
    for round in 0..3 {
        let (leader, before, shared) = (cluster.leader(), switches(&writer), Arc::new(writer));
        let mut commits = JoinSet::new();
        for at in 0..200 {
            let (name, writer) = (format!("{round}-{at}"), shared.clone());
            commits.spawn(async move { (writer.commit(switch(&name)).await, name) });
        }
        while switches(&shared) < before + 20 {
            tokio::task::yield_now().await;
        }
        cluster.member(leader).kill().unwrap();
        let outcomes = commits.join_all().await;

        writer = Arc::try_unwrap(shared).unwrap();
        loop {
            writer.client().synced().await;
            match writer.settle().await {
                Ok(()) => break,
                Err(CommitError::Disconnected | CommitError::Unknown) => {}
                // The epoch was raised already, but the reply was lost.
                Err(CommitError::Fenced) => raise(&mut writer).await,
                Err(error) => panic!("{error}"),
            }
        }
        for (outcome, name) in outcomes {
            let there = find(&writer, &name).is_some();
            match outcome {
                Ok(()) => assert!(there, "{name} was written and is gone"),
                Err(CommitError::Disconnected) => assert!(!there, "{name} was surely not sent and is there"),
                Err(CommitError::Unknown) => lost += 1,
                Err(error) => panic!("{name}: {error}"),
            }
            known.push((name, there));
        }
        cluster.member(leader).restart().unwrap();
        cluster.wait(leader).unwrap();
    }
    writer.client().synced().await;
    writer.commit(switch("end")).await.unwrap();
    for (name, there) in &known {
        assert_eq!(find(&writer, name).is_some(), *there, "{name} was found out wrongly");
    }
    assert!(lost > 0, "no reply was lost, so that nothing was tested");
}
