//! What a command in a namespace finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hopyard_kernel::{Identity, NetworkEntry};

use super::{EntryName, Names, require_rights};
use crate::error::{Error, IoContext};

/// Where a namespace has files of its own for those of the same name in /etc (ip-netns(8)).
const ETC_NETNS: &str = "/etc/netns";

/// What a process needs to run in the namespace of that name.
///
/// # Errors
/// There is no such namespace, or its files in /etc/netns cannot be read.
pub fn entry(name: &EntryName, cwd: Option<PathBuf>, identity: Option<Identity>) -> Result<NetworkEntry, Error> {
    require_rights("enter a namespace")?;
    let net = Names::open_existing(name)?.network(name)?;
    Ok(NetworkEntry { net, name: name.as_os_str().to_owned(), covers: covers(name)?, cwd, identity })
}

fn covers(name: &EntryName) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let dir = Path::new(ETC_NETNS).join(name.as_os_str());
    let read = || -> io::Result<Vec<_>> { fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name())).collect() };
    let mut files = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files.context(|| format!("read {}", dir.display()))?,
    };
    files.sort();
    Ok(files.into_iter().map(|file| (dir.join(&file), Path::new("/etc").join(&file))).collect())
}
