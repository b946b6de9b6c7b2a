//! Members that know each other from a list (`--members`), without the API server.
//!
//! A member that is alone founds a cluster with the contents of its file. Beside other members, one without data never founds
//! one: it joins theirs. A file that no server can open, or that is of a member with another address, is renamed, and the
//! contents come from the other members, or from the controller, which fills an empty database again.

use std::path::PathBuf;

use crate::file::{File, FileError, Found, Identity, members};

/// Why a file cannot be used beside the members of the list.
#[derive(Debug, thiserror::Error)]
pub enum ListedError {
    /// The file cannot be read or made.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file belongs to a member with another address, in a cluster with other members.
    #[error("database {} belongs to {was} in a cluster of {members}, and this is {is}: name those in --members that are left of \
        it, so that this member joins them",
        path.display())]
    Clustered {
        /// The file.
        path: PathBuf,
        /// The address in the file.
        was: String,
        /// The number of members.
        members: usize,
        /// The address of this member.
        is: String,
    },
    /// The file is in no cluster, and there are other members, which may have a cluster already.
    #[error("database {} is in no cluster, and the other members may have one: start this member alone in --members to found a \
        cluster with its contents, or move the file away to join theirs",
        path.display())]
    Standalone {
        /// The file.
        path: PathBuf,
    },
}

/// Prepares a file before its server opens it. `others` are the addresses of the other members. If a server could not open the
/// file, it is looked at `closely`.
pub async fn prepare(file: &File, others: &[String], closely: bool) -> Result<(), ListedError> {
    let path = file.path.display();
    file.remove_new()?;
    let found = file.look(closely).await?;
    match &found {
        Found::Damaged(why) => {
            tracing::error!(%path, why, "THE DATABASE CANNOT BE READ: its file is kept, and another one takes its place");
            begin(file, others, Some("damaged")).await
        }
        Found::Standalone if !others.is_empty() => Err(ListedError::Standalone { path: file.path.clone() }),
        Found::Standalone => {
            tracing::info!(%path, "the database is in no cluster yet: one is made of it");
            file.create(&found).await?;
            Ok(file.replace(None)?)
        }
        // When the file of one that has not joined was made, the other members may have been others.
        Found::Nothing | Found::Joining => begin(file, others, None).await,
        Found::Member(identity) if identity.address == file.address => Ok(()),
        Found::Member(identity) => move_from(file, identity, others).await,
    }
}

/// Makes the file of a new member: of one that joins the others, or of the first one of a cluster.
async fn begin(file: &File, others: &[String], keep: Option<&str>) -> Result<(), ListedError> {
    let path = file.path.display();
    if others.is_empty() {
        tracing::info!(%path, "there is no database yet: an empty one is made");
        file.create(&Found::Nothing).await?;
    } else {
        tracing::info!(%path, ?others, "there is no database yet: this member joins the others");
        file.join(others).await?;
    }
    Ok(file.replace(keep)?)
}

/// Moves the file from another address to ours, for example after the node's address changed. The only member of a
/// cluster can be recreated from its contents. Beside others it joins them, as the members of a cluster cannot change
/// their addresses.
async fn move_from(file: &File, identity: &Identity, others: &[String]) -> Result<(), ListedError> {
    let (path, was, is) = (file.path.display(), &identity.address, &file.address);
    let last = file.last_configuration().await;
    let members = members(last.as_deref().unwrap_or_default());
    let clustered = || ListedError::Clustered { path: file.path.clone(), was: was.clone(), members, is: is.clone() };
    if !others.is_empty() && members != 1 {
        let last = last?;
        if !others.iter().any(|other| last.contains(&format!("(\"{other}\")"))) {
            return Err(clustered());
        }
        tracing::warn!(%path, was, is, "this member has another address than before, and joins the others anew");
        return begin(file, others, Some("replaced")).await;
    }
    if members > 1 {
        return Err(clustered());
    }
    if let Err(error) = file.create(&Found::Member(identity.clone())).await {
        // The last write is incomplete. The server repairs this when it opens the file. A single member works with
        // any address.
        tracing::warn!(%path, was, is, %error, "the database keeps its old address for now");
        return Ok(());
    }
    tracing::warn!(%path, was, is, "this member has another address than before: its database is moved");
    Ok(file.replace(None)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use daemons::tool;

    use super::*;

    const SCHEMA: &str = r#"{"name": "Test", "version": "1.0.0", "tables":
        {"T": {"columns": {"name": {"type": "string"}}, "isRoot": true}}}"#;

    /// Returns a database file in a directory with a schema.
    fn file(dir: &Path, address: &str) -> File {
        let schema = dir.join("test.ovsschema");
        fs::write(&schema, SCHEMA).unwrap();
        File { path: dir.join("test.db"), schema, database: "Test", address: address.to_owned(), first: None }
    }

    async fn tool(verb: &str, paths: &[&Path]) -> String {
        let said = tool::run("ovsdb-tool", [Path::new(verb)].iter().chain(paths)).await.unwrap();
        said.trim().to_owned()
    }

    /// Returns whether the file is that of a member with the address that is expected.
    async fn is_ours(file: &File) -> bool {
        matches!(file.look(false).await.unwrap(), Found::Member(identity) if identity.address == file.address)
    }

    /// Returns the names of the rows in a clustered database file.
    async fn rows(file: &File, dir: &Path) -> String {
        let copy = dir.join("copy");
        let _ = fs::remove_file(&copy);
        tool("cluster-to-standalone", &[&copy, &file.path]).await;
        let select = r#"["Test", {"op": "select", "table": "T", "where": [], "columns": ["name"]}]"#;
        tool("query", &[&copy, Path::new(select)]).await
    }

    const HELD: &str = r#"[{"rows":[{"name":"held"}]}]"#;
    const EMPTY: &str = r#"[{"rows":[]}]"#;

    /// Creates a standalone database with one row.
    async fn standalone(file: &File) {
        tool("create", &[&file.path, &file.schema]).await;
        let insert = r#"["Test", {"op": "insert", "table": "T", "row": {"name": "held"}}]"#;
        tool("transact", &[&file.path, Path::new(insert)]).await;
    }

    #[tokio::test]
    async fn what_is_there_is_kept_whoever_has_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = file(dir.path(), "tcp:127.0.0.1:6643");
        prepare(&here, &[], false).await.unwrap();
        assert_eq!(rows(&here, dir.path()).await, EMPTY);

        fs::remove_file(&here.path).unwrap();
        standalone(&here).await;
        prepare(&here, &[], false).await.unwrap();
        assert!(is_ours(&here).await);
        assert_eq!(rows(&here, dir.path()).await, HELD);
        let before = fs::read(&here.path).unwrap();
        prepare(&here, &[], false).await.unwrap();
        assert_eq!(fs::read(&here.path).unwrap(), before);

        let there = file(dir.path(), "tcp:[::1]:6643");
        prepare(&there, &[], false).await.unwrap();
        assert!(is_ours(&there).await);
        assert_eq!(rows(&there, dir.path()).await, HELD);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.retain(|name| !name.to_string_lossy().starts_with('.'));
        left.sort();
        assert_eq!(left, ["copy", "test.db", "test.ovsschema"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_put_aside_as_it_is() {
        for cut in [0, 100] {
            let dir = tempfile::tempdir().unwrap();
            let file = file(dir.path(), "tcp:127.0.0.1:6643");
            prepare(&file, &[], false).await.unwrap();
            let damaged = fs::read(&file.path).unwrap()[..cut].to_vec();
            fs::write(&file.path, &damaged).unwrap();
            prepare(&file, &[], false).await.unwrap();
            assert_eq!(rows(&file, dir.path()).await, EMPTY);
            let aside = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
            let aside: Vec<_> = aside.filter(|path| path.to_string_lossy().contains(".damaged-")).collect();
            assert_eq!(aside.len(), 1);
            assert_eq!(fs::read(&aside[0]).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn a_write_that_was_cut_short_costs_nothing_but_the_move() {
        let dir = tempfile::tempdir().unwrap();
        let here = file(dir.path(), "tcp:127.0.0.1:6643");
        prepare(&here, &[], false).await.unwrap();
        let mut cut = fs::read(&here.path).unwrap();
        cut.extend_from_slice(b"OVSDB CLUSTER 100 0123456789");
        fs::write(&here.path, &cut).unwrap();
        let there = file(dir.path(), "tcp:[::1]:6643");
        prepare(&there, &[], false).await.unwrap();
        assert_eq!(fs::read(&here.path).unwrap(), cut);
    }

    #[tokio::test]
    async fn beside_others_a_file_in_no_cluster_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let others = ["tcp:127.0.0.2:6643".to_owned()];
        let here = file(dir.path(), "tcp:127.0.0.1:6643");
        standalone(&here).await;
        let before = fs::read(&here.path).unwrap();
        let refused = prepare(&here, &others, false).await.unwrap_err();
        assert!(matches!(refused, ListedError::Standalone { .. }), "{refused}");
        assert_eq!(fs::read(&here.path).unwrap(), before);
        let message = ListedError::Standalone { path: "/etc/ovn/ovnnb_db.db".into() }.to_string();
        let start = "database /etc/ovn/ovnnb_db.db is in no cluster, and the other members may have one: start this member alone";
        assert!(message.starts_with(start), "{message}");

        // Without a file, it joins, and it knows no cluster until the others answer.
        fs::remove_file(&here.path).unwrap();
        prepare(&here, &others, false).await.unwrap();
        assert_eq!(here.look(false).await.unwrap(), Found::Joining);
        // Nobody has answered, and now it is alone.
        prepare(&here, &[], false).await.unwrap();
        assert_eq!(rows(&here, dir.path()).await, EMPTY);
    }
}
