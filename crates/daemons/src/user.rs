//! The unprivileged user that a container's process 1 becomes before it reads anything.
//!
//! The directories on a node belong to root when the kubelet has made them, or to the user of another installation. Only the
//! start of a container can change that each time, also after somebody has removed a directory: so the process starts as root,
//! with the capabilities `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `SETGID` and `SETUID`, and gives them all up.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchownat, geteuid, setgroups, setresgid, setresuid};

/// Why a process cannot become the user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A directory, or something in it, cannot be given to the user.
    #[error("give {} to user {user}: {source}", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
        /// The user.
        user: u32,
        /// The error.
        source: io::Error,
    },
    /// The process is not root, or lacks a capability.
    #[error("become user {user}: {source}; only root can, with the capabilities SETGID and SETUID")]
    Become {
        /// The user.
        user: u32,
        /// The error.
        source: nix::Error,
    },
}

/// Gives these directories to a user and the group with the same number, and becomes this user for good. What is in a directory is
/// given as well if its name begins with one of these. A directory that does not exist is made. Does nothing in a process that is this
/// user already. Must be called while the process has one thread.
pub fn become_user(user: u32, directories: &[&Path], names: &[&str]) -> Result<(), UserError> {
    let failed = |source| UserError::Become { user, source };
    if geteuid().as_raw() == user {
        return Ok(());
    }
    if geteuid().is_root() {
        for directory in directories {
            let failed = |source| UserError::Directory { path: directory.to_path_buf(), user, source };
            let make = fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o750)))
                .and_then(|()| lchown(directory, Some(user), Some(user)));
            make.map_err(failed)?;
            let opened = File::open(directory).map_err(failed)?;
            for entry in fs::read_dir(directory).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                if names.iter().any(|start| name.to_string_lossy().starts_with(start)) {
                    give(&opened, &name, &directory.join(&name), user)?;
                }
            }
        }
    }
    setgroups(&[]).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid).and_then(|()| setresuid(uid, uid, uid)).map_err(failed)
}

/// Gives a file in this directory, or a directory with all that is in it, to a user. Links are left alone, because the user that had
/// the directory before could have made them. A file that has another name is refused, so that nobody wonders why it cannot be opened.
/// Each one is opened before it is looked at, so that nobody puts a link in its place. `path` is for messages.
fn give(directory: impl AsFd, name: &OsStr, path: &Path, user: u32) -> Result<(), UserError> {
    let failed = |source| UserError::Directory { path: path.to_owned(), user, source };
    let os = |error: Errno| failed(error.into());
    let itself = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = match openat(directory, name, itself, Mode::empty()) {
        // A socket or a temporary file of a process that ends.
        Err(Errno::ENOENT) => return Ok(()),
        file => File::from(file.map_err(os)?),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    if !metadata.is_dir() && metadata.nlink() > 1 {
        return Err(failed(io::Error::other("it has another name, a hard link")));
    }
    if metadata.uid() != user || metadata.gid() != user {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        fchownat(&file, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(os)?;
    }
    if metadata.is_dir() {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for entry in Dir::openat(&file, ".", flags, Mode::empty()).map_err(os)? {
            let entry = entry.map_err(os)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                give(&file, name, &path.join(name), user)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root, as in a container.
    #[test]
    fn a_directory_is_given_with_all_but_links() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
        let give =
            |path: &Path| give(File::open(path.parent().unwrap()).unwrap(), path.file_name().unwrap(), path, 65532);
        let secret = other.path().join("secret");
        fs::write(&secret, "").unwrap();
        let [keys, file, soft, hard] = ["keys", "keys/tls.pem", "soft", "hard"].map(|name| own.path().join(name));
        fs::create_dir(&keys).unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&secret, &soft).unwrap();
        give(own.path()).unwrap();
        assert_eq!([own.path(), &keys, &file].map(of), [65532; 3]);
        fs::hard_link(&secret, &hard).unwrap();
        let why = give(own.path()).unwrap_err().to_string();
        assert!(why.ends_with("it has another name, a hard link"), "{why}");
        assert_eq!([&soft, &hard, &secret].map(|path| of(path)), [0; 3]);
        give(&own.path().join("absent")).unwrap();
    }

    #[test]
    fn a_process_that_is_the_user_stays_so() {
        let elsewhere = Path::new("/proc/none");
        become_user(geteuid().as_raw(), &[elsewhere], &[]).unwrap();
        let why = become_user(65532, &[elsewhere], &[]).unwrap_err().to_string();
        assert!(why.starts_with("give /proc/none to user 65532: "), "{why}");
    }
}
