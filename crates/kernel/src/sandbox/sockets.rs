//! What is reached by files: sockets that have a path, which is how one network reaches another's, queues, and the kernel
//! itself.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::view::RUN;
use crate::mounts::unescape;

/// What of the machine is reached by files.
#[derive(Debug)]
pub struct Reached {
    /// The sockets that are reached just now; but for those below /run.
    pub sockets: Vec<PathBuf>,
    /// Where the machine's message queues are mounted (mq_overview(7)): one that is opened there is that of its mount, and not
    /// of the ipc namespace.
    pub queues: Vec<PathBuf>,
    /// Where the kernel is told things besides below /proc and /sys, as in the /proc of a chroot: the machine's settings take the
    /// word of root's user, whatever its capabilities, and control groups that of their owner.
    pub controls: Vec<PathBuf>,
    /// Whoever makes a namespace of control groups may write to what he owns of those outside (cgroup_namespaces(7)).
    pub control_groups: bool,
}

/// Looks for it. The sockets are the sockets that are bound in the networks of all processes that can be seen, and all sockets that are
/// beside those: one that was renamed or linked after bind(2), as ssh does it for its masters, has another name than
/// the kernel's table says. To them come the sockets in the directories `known`, and one below; and of all, also of
/// those below /run, what they are called where their file system is mounted once more.
///
/// # Errors
/// The tables of the caller's own network and mounts cannot be read.
pub fn reached(known: &[PathBuf]) -> io::Result<Reached> {
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
    let table = fs::read("/proc/self/mountinfo")?;
    let mounts = MountedTwice::parse(&table);
    let aliases: Vec<PathBuf> = paths.iter().flat_map(|path| mounts.other_names(path)).collect();
    paths.extend(aliases);
    paths.retain(|path| !is_in_run(path));
    paths.sort();
    paths.dedup();
    let queues = systems(&table).filter(|system| system.kind == b"mqueue").map(|system| system.point).collect();
    let control_groups = !control_groups_are_delegated(&table) || !is_in_a_leaf(&table);
    let controls = controls(&table).filter(System::is_there).map(|system| system.point).collect();
    Ok(Reached { sockets: paths, queues, controls, control_groups })
}

/// File systems by which the kernel is told things.
const CONTROLS: [&[u8]; 13] = [
    b"binfmt_misc",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"configfs",
    b"debugfs",
    b"efivarfs",
    b"proc",
    b"resctrl",
    b"securityfs",
    b"selinuxfs",
    b"sysfs",
    b"tracefs",
];

/// Those that are not where they belong: a sandbox has others there.
fn controls(table: &[u8]) -> impl Iterator<Item = System<'_>> {
    let elsewhere = |point: &Path| !["/proc", "/sys"].iter().any(|usual| point.starts_with(usual));
    systems(table).filter(move |system| CONTROLS.contains(&system.kind) && elsewhere(&system.point))
}

/// Do all control groups keep who is in a namespace of theirs from the one at its root, and from what is above it? Those of
/// version 2 do where it was asked for (`nsdelegate`, as systemd and OpenRC do), those of version 1 never.
fn control_groups_are_delegated(table: &[u8]) -> bool {
    let is_of_groups = |system: &System<'_>| system.kind.starts_with(b"cgroup");
    let is_delegated =
        |system: System<'_>| system.options.split(|&byte| byte == b',').any(|option| option == b"nsdelegate");
    let mut groups = systems(table).filter(is_of_groups).map(is_delegated).peekable();
    // Those that are not seen may be mounted.
    groups.peek().is_some() && groups.all(|is_delegated| is_delegated)
}

/// Has the control group of this process (version 2) none below it? A namespace keeps nobody from these. As the first one of
/// all, or of a container, it has some sooner or later.
fn is_in_a_leaf(table: &[u8]) -> bool {
    let own = fs::read("/proc/self/cgroup").unwrap_or_default();
    let dir = dir_of_own_group(table, &own);
    let has_none = |dir: PathBuf| {
        let mut entries = fs::read_dir(dir).ok()?;
        // None that cannot be read: to say nothing of it is no answer.
        Some(entries.all(|entry| entry.and_then(|entry| entry.file_type()).is_ok_and(|kind| !kind.is_dir())))
    };
    dir.and_then(has_none) == Some(true)
}

/// cgroups(7): one line is that of version 2, `0::PATH`. `None`: it is the first one, or is not seen, as one outside of the
/// namespace of control groups (`/..`).
fn dir_of_own_group(table: &[u8], own: &[u8]) -> Option<PathBuf> {
    let path = own.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::/"))?;
    if path.is_empty() || path.starts_with(b"..") {
        return None;
    }
    let path = Path::new("/").join(OsStr::from_bytes(path));
    let mut seen = systems(table).filter(|system| system.kind == b"cgroup2");
    seen.find_map(|system| Some(system.point.join(path.strip_prefix(&system.root).ok()?)))
}

/// A file system, as it is mounted.
struct System<'t> {
    device: &'t [u8],
    root: PathBuf,
    point: PathBuf,
    kind: &'t [u8],
    options: &'t [u8],
}

impl System<'_> {
    /// Not below something that was mounted over it, or where the caller cannot get to.
    fn is_there(&self) -> bool {
        let device = |dev: u64| format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev)).into_bytes();
        fs::symlink_metadata(&self.point).is_ok_and(|meta| device(meta.dev()) == self.device)
    }
}

/// proc_pid_mountinfo(5): the third field is the device, the fourth the root, the fifth the mount point; behind a hyphen come type, source and options.
fn systems(table: &[u8]) -> impl Iterator<Item = System<'_>> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let device = fields.nth(2)?;
        let root = unescape(fields.next()?).into();
        let point = unescape(fields.next()?).into();
        let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = behind.next()?;
        Some(System { device, root, point, kind, options: behind.nth(1).unwrap_or_default() })
    })
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
    fn parse(table: &[u8]) -> Self {
        let mut mounts: Vec<(&[u8], Mount)> =
            systems(table).map(|System { device, root, point, .. }| (device, Mount { root, point })).collect();
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
    fn queues_and_control_groups_are_told_by_their_file_systems() {
        let line = |point: &str, end: &str| format!("20 1 0:5 / {point} rw,nosuid shared:5 master:1 - {end}\n");
        let queue = line("/dev/my\\040queue", "mqueue mqueue rw");
        let points: Vec<PathBuf> = systems(queue.as_bytes()).map(|system| system.point).collect();
        assert_eq!(points, [PathBuf::from("/dev/my queue")]);
        assert_eq!(systems(queue.as_bytes()).next().unwrap().kind, b"mqueue");
        let second = line("/sys/fs/cgroup", "cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot");
        assert!(control_groups_are_delegated((queue.clone() + &second).as_bytes()));
        let others = ["cgroup2 cgroup2 rw,memory_recursiveprot", "cgroup cgroup rw,xattr,name=systemd"];
        for other in others.map(|other| line("/sys/fs/cgroup/other", other)) {
            assert!(!control_groups_are_delegated((second.clone() + &other).as_bytes()), "{other}");
        }
        assert!(!control_groups_are_delegated(queue.as_bytes()), "nothing is known of them");
    }

    #[test]
    fn what_tells_the_kernel_things_is_found_outside_of_its_places() {
        let table = b"20 1 0:5 / /proc rw - proc proc rw\n\
            21 20 0:6 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n\
            22 1 0:7 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            23 1 0:5 / /srv/root/proc rw - proc proc rw\n\
            24 1 0:5 /sys /process rw - proc proc rw\n\
            25 1 0:7 /a /groups rw - cgroup2 cgroup2 rw\n\
            26 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        let points: Vec<PathBuf> = controls(table).map(|system| system.point).collect();
        assert_eq!(points, ["/srv/root/proc", "/process", "/groups"].map(PathBuf::from));
        let own = fs::read("/proc/self/mountinfo").unwrap();
        let proc = || systems(&own).filter(|system| system.point == Path::new("/proc"));
        assert!(proc().any(|system| system.is_there()));
        assert!(!proc().any(|system| System { device: b"0:0", ..system }.is_there()));
    }

    #[test]
    fn the_own_control_group_is_found_where_it_is_mounted() {
        let line = |root: &str, point: &str| format!("20 1 0:5 {root} {point} rw - cgroup2 cgroup2 rw,nsdelegate\n");
        let dir = |table: &str, own: &str| dir_of_own_group(table.as_bytes(), own.as_bytes());
        let whole = line("/", "/sys/fs/cgroup");
        let own = "1:name=systemd:/x\n0::/user.slice/a.scope\n";
        assert_eq!(dir(&whole, own), Some(PathBuf::from("/sys/fs/cgroup/user.slice/a.scope")));
        let part = line("/user.slice", "/mnt/my\\040groups");
        assert_eq!(dir(&part, own), Some(PathBuf::from("/mnt/my groups/a.scope")));
        assert_eq!(dir(&(line("/system.slice", "/mnt") + &whole), own), dir(&whole, own));
        for own in ["0::/\n", "0::/../other\n", "1:name=systemd:/x\n", ""] {
            assert_eq!(dir(&whole, own), None, "{own}");
        }
        assert_eq!(dir("", own), None);
    }

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
