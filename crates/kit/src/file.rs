//! Files that survive a power cut.
//!
//! A file is never written in place: the new content gets a name of its own, is synced to the disk, and then replaces the
//! file. So whoever reads the file, now or after a power cut, finds the old content or the new one, and never a part of it.
//! When a function returns, the new content is on the disk. If it fails, the file is as it was.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Replaces the content of a file, or creates it, with these permissions.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace(path, Permissions::from_mode(mode), |file| file.write_all(content))
}

/// Replaces a file by a copy of another one, with its permissions.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let permissions = source.metadata()?.permissions();
    replace(to, permissions, |file| io::copy(&mut source, file).map(drop))
}

/// Replaces a file by another one of the same file system, which another program wrote.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// The temporary file is in the folder of the file, because a rename does not cross file systems. Its name begins with a
/// dot and has an ending of its own, so that those who read the folder skip it. It is removed on failure.
fn replace(path: &Path, permissions: Permissions, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    // Errors of `tempfile_in` contain the random name, so that no two of them are the same.
    let open = |path: &Path| File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut new = tempfile::Builder::new().prefix(&prefix).suffix(".new").make_in(folder(path), open)?;
    fill(new.as_file_mut())?;
    new.as_file().set_permissions(permissions)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// Syncs the folder of a file, and so the file's name.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder(path))?.sync_all() {
        // Some file systems cannot sync a folder.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_with_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        write(&one, b"first", 0o600).unwrap();
        let reader = File::open(&one).unwrap();
        write(&one, b"2nd", 0o755).unwrap();
        // Who has the old file open goes on reading it.
        assert_eq!(io::read_to_string(reader).unwrap(), "first");
        assert_eq!(
            (fs::read(&one).unwrap().as_slice(), fs::metadata(&one).unwrap().mode() & 0o777),
            (&b"2nd"[..], 0o755)
        );
        fs::write(&other, "another").unwrap();
        copy(&one, &other).unwrap();
        assert_eq!(
            (fs::read(&other).unwrap().as_slice(), fs::metadata(&other).unwrap().mode() & 0o777),
            (&b"2nd"[..], 0o755)
        );
        rename(&other, &one).unwrap();
        assert_eq!(names(dir.path()), ["one"]);
    }

    #[test]
    fn what_fails_changes_nothing_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one");
        fs::write(&file, "first").unwrap();
        let half = replace(&file, Permissions::from_mode(0o600), |file| {
            file.write_all(b"hal")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(half.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(copy(&dir.path().join("none"), &file).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(rename(&dir.path().join("none"), &file).unwrap_err().kind(), io::ErrorKind::NotFound);
        // No file can take the place of a folder.
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(write(&folder, b"text", 0o600).is_err());
        let nowhere = write(&dir.path().join("none/one"), b"text", 0o600).unwrap_err();
        assert_eq!(nowhere.to_string(), "No such file or directory (os error 2)");
        assert_eq!(
            (fs::read(&file).unwrap().as_slice(), names(dir.path())),
            (&b"first"[..], vec!["folder".to_owned(), "one".to_owned()])
        );
    }

    #[test]
    fn a_name_alone_is_in_the_folder_where_the_program_runs() {
        assert_eq!((folder(Path::new("one")), folder(Path::new("/one"))), (Path::new("."), Path::new("/")));
    }
}
