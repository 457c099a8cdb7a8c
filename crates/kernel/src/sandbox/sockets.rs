//! Sockets that have a path, which is how one network reaches another's.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::view::RUN;
use crate::mounts::unescape;

/// The paths of the sockets that are reached just now; but for those below /run.
///
/// These are the sockets that are bound in the networks of all processes that can be seen, and all sockets that are
/// beside those: one that was renamed or linked after bind(2), as ssh does it for its masters, has another name than
/// the kernel's table says. To them come the sockets in the directories `known`, and one below; and of all, also of
/// those below /run, what they are called where their file system is mounted once more.
///
/// # Errors
/// The tables of the caller's own network and mounts cannot be read.
pub fn reached_sockets(known: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let is_in_run = in_run();
    let bound = bound_sockets()?;
    let outside_run = bound.iter().filter(|path| !is_in_run(path));
    let mut dirs: Vec<PathBuf> = outside_run.filter_map(|path| path.parent()).map(Path::to_owned).collect();
    for dir in known {
        dirs.extend(entries_of(dir, fs::FileType::is_dir));
        dirs.push(dir.clone());
    }
    dirs.sort();
    dirs.dedup();
    let mut paths = bound;
    paths.extend(dirs.iter().flat_map(|dir| entries_of(dir, fs::FileType::is_socket)));
    let mounts = MountedTwice::read()?;
    let aliases: Vec<PathBuf> = paths.iter().flat_map(|path| mounts.other_names(path)).collect();
    paths.extend(aliases);
    paths.retain(|path| !is_in_run(path));
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// Is a path below /run? /var/run is the same directory on most systems, but not on all.
fn in_run() -> impl Fn(&Path) -> bool {
    let is_same = fs::canonicalize("/var/run").is_ok_and(|target| target == Path::new(RUN));
    move |path: &Path| path.starts_with(RUN) || is_same && path.starts_with("/var/run")
}

/// What of a directory is of a kind; nothing, where it may not be looked into.
fn entries_of(dir: &Path, is_wanted: impl Fn(&fs::FileType) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| is_wanted(&kind))).map(|entry| entry.path()).collect()
}

/// The paths by which sockets were bound, in the caller's network and in those of all processes that can be seen.
fn bound_sockets() -> io::Result<Vec<PathBuf>> {
    let own = fs::File::open("/proc/self/net/unix")?;
    // A file of its own for each network, which tells them apart also where /proc/PID/ns is another user's.
    let mut seen = HashSet::from([own.metadata()?.ino()]);
    let mut paths = Vec::new();
    read_table(own, &mut paths)?;
    for process in fs::read_dir("/proc")?.flatten() {
        if !process.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let table = process.path().join("net/unix");
        // It may have ended since.
        if fs::metadata(&table).is_ok_and(|meta| seen.insert(meta.ino()))
            && let Ok(table) = fs::File::open(&table)
        {
            read_table(table, &mut paths).ok();
        }
    }
    Ok(paths)
}

fn read_table(mut file: fs::File, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    // unix(7): the eighth field is the path, and it may contain blanks.
    const FIELDS_BEFORE: usize = 7;
    let path_of = |line: &[u8]| -> Option<PathBuf> {
        let mut rest = line;
        for _ in 0..FIELDS_BEFORE {
            rest = rest.trim_ascii_start();
            rest = &rest[rest.iter().position(|&byte| byte == b' ')?..];
        }
        let path = OsString::from_vec(rest.strip_prefix(b" ")?.to_owned());
        // Of others (abstract ones, and relative paths) the first byte is another.
        (path.as_bytes().first() == Some(&b'/')).then(|| PathBuf::from(path))
    };
    let mut table = Vec::new();
    file.read_to_end(&mut table)?;
    paths.extend(table.split(|&byte| byte == b'\n').filter_map(path_of));
    Ok(())
}

/// File systems that are mounted in more than one place.
struct MountedTwice(Vec<Vec<Mount>>);

struct Mount {
    /// What of the file system is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl MountedTwice {
    fn read() -> io::Result<Self> {
        Ok(MountedTwice::parse(&fs::read("/proc/self/mountinfo")?))
    }

    /// proc_pid_mountinfo(5): the third field is the device, the fourth the root, the fifth the mount point.
    fn parse(table: &[u8]) -> Self {
        let mut mounts: Vec<(&[u8], Mount)> = Vec::new();
        for line in table.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b' ').skip(2);
            if let (Some(device), Some(root), Some(point)) = (fields.next(), fields.next(), fields.next()) {
                let mount = Mount { root: unescape(root).into(), point: unescape(point).into() };
                mounts.push((device, mount));
            }
        }
        mounts.sort_by_key(|&(device, _)| device);
        let mut systems: Vec<Vec<Mount>> = Vec::new();
        let mut last = None;
        for (device, mount) in mounts {
            match systems.last_mut() {
                Some(system) if last == Some(device) => system.push(mount),
                _ => systems.push(vec![mount]),
            }
            last = Some(device);
        }
        systems.retain(|system| system.len() > 1);
        MountedTwice(systems)
    }

    /// By which other paths the same file may be reached.
    fn other_names(&self, path: &Path) -> Vec<PathBuf> {
        let mut names = Vec::new();
        for system in &self.0 {
            for mount in system {
                let Ok(below) = path.strip_prefix(&mount.point) else { continue };
                let in_system = mount.root.join(below);
                let others = system.iter().filter(|other| other.point != mount.point);
                names.extend(
                    others.filter_map(|other| Some(other.point.join(in_system.strip_prefix(&other.root).ok()?))),
                );
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_wherever_its_file_system_is_mounted() {
        let table = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            21 20 0:20 / /run rw - tmpfs tmpfs rw\n\
            22 20 8:1 /home /mnt/my\\040home rw - ext4 /dev/sda1 rw\n\
            23 20 0:20 /user /srv/user rw - tmpfs tmpfs rw\n\
            24 20 0:5 / /dev rw - devtmpfs dev rw\n";
        let mounts = MountedTwice::parse(table);
        let names = |path: &str| mounts.other_names(Path::new(path));
        assert_eq!(names("/home/a/agent"), [PathBuf::from("/mnt/my home/a/agent")]);
        assert_eq!(names("/mnt/my home/a/agent")[..], [PathBuf::from("/home/a/agent")]);
        assert_eq!(names("/run/user/1000/bus")[..], [PathBuf::from("/srv/user/1000/bus")]);
        assert!(names("/run/dbus/socket").is_empty() && names("/dev/log").is_empty());
    }
}
