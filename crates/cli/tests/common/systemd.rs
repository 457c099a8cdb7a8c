//! A machine that systemd starts: in namespaces and a control group of its own, with the programs of this one.
#![allow(clippy::print_stdout, reason = "a test that is skipped says why")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::{fail, is_root, succeed, text, wait_until};

/// What a machine keeps when it is started anew: its /etc, and the home of a user.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

/// A running machine. Ends with the value, and with all that runs in it.
pub(crate) struct Machine {
    starter: Child,
    group: PathBuf,
}

/// Where the machine has the program.
pub(crate) const HOP: &str = "/opt/hopyard/hop";
/// The ordinary user of the machine.
pub(crate) const USER: &str = "someone";
/// The user's number.
const UID: u32 = 1234;

/// Builds a root from this machine's /usr, and has systemd start in it. Units that would touch what the kernel
/// has once for all are masked.
const START: &str = r#"
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /mnt && cd /mnt
mkdir usr etc home proc sys dev run tmp var opt root mnt
for dir in bin sbin lib lib32 lib64 libx32; do [ ! -L /$dir ] || ln -s usr/$dir $dir; done
mount --rbind /usr usr && mount -o remount,bind,ro usr
mount --bind "$DISK/etc" etc && mount --bind "$DISK/home" home
mount -t proc proc proc && mount -t sysfs sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
# So systemd knows that nobody here tells it of devices (udev), and waits for none.
mount -o remount,bind,ro sys
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do : >dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm && mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run && mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p var/log var/lib var/tmp opt/hopyard && : >opt/hopyard/hop && mount --bind "$HOP" opt/hopyard/hop
mkdir old && pivot_root . old && umount -l old && rmdir old
ip link set lo up
[ -z "$HARDWARE" ] || eval "$HARDWARE"
exec env -i container=hopyard-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$INIT" --system --log-target=null --show-status=0 systemd.unit=multi-user.target
"#;

/// Makes `podman-test NAME ARGUMENT...`, which starts a container without an image: its programs are the machine's.
/// The usual ways to store, to log and to limit need more than this machine has.
pub(crate) const PODMAN: &str = r#"
mkdir -p /etc/containers /srv/root && cd /srv/root && mkdir -p proc sys dev etc tmp run usr
for dir in bin sbin lib lib64; do [ -e $dir ] || ln -s usr/$dir $dir; done
printf '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/containers"\nrunroot = "/run/containers"\n' >/etc/containers/storage.conf
printf '[engine]\nevents_logger = "file"\ncgroup_manager = "cgroupfs"\nruntime = "crun"\n[containers]\nlog_driver = "none"\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n' >/etc/containers/containers.conf
printf '%s\n' '#!/bin/sh' 'name=$1 network="$2 $3"; shift 3' \
    'exec podman run --detach --name $name --network=${network#* } --cap-add net_raw --volume /usr:/usr:ro --rootfs /srv/root "$@"' >/opt/hopyard/podman-test
chmod +x /opt/hopyard/podman-test
"#;

/// Not for a machine without hardware, or of no use to the tests.
const MASKED: &[&str] = &[
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-logind.service",
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "console-getty.service",
    "getty.target",
    "dbus.service",
    "dbus.socket",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
];

/// The systemd of the user, started as any service: for want of a log-in.
const USERS_SYSTEMD: &str = "[Service]\nType=notify\nUser=someone\nDelegate=yes\n\
    Environment=HOME=/home/someone XDG_RUNTIME_DIR=/run/user/1234\n\
    ExecStartPre=+/bin/sh -c 'mkdir -p /run/user && install -d -m 700 -o someone -g someone /run/user/1234'\n\
    ExecStart=INIT --user\n";

impl Disk {
    /// An empty one; `None`: no such machine is to be had here, for a reason that is printed.
    pub(crate) fn new() -> Option<Disk> {
        if let Err(why) = Self::possible() {
            assert!(!(is_root() && std::env::var_os("REQUIRE_LABS").is_some()), "REQUIRE_LABS is set, but {why}");
            println!("skipped: {}: {why}", std::thread::current().name().unwrap_or_default());
            return None;
        }
        let disk = Disk { dir: tempfile::tempdir().unwrap() };
        let (etc, home) = (disk.path("etc"), disk.path("home").join(USER));
        std::fs::create_dir_all(etc.join("systemd/system")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        let write = |name: &str, content: &str| std::fs::write(etc.join(name), content).unwrap();
        write(
            "passwd",
            "root:x:0:0::/root:/bin/sh\nsomeone:x:1234:1234::/home/someone:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        );
        write("group", "root:x:0:\nsomeone:x:1234:\nnogroup:x:65534:\n");
        write("machine-id", "0123456789abcdef0123456789abcdef\n");
        write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        write("resolv.conf", "nameserver 192.0.2.53\n");
        write("hosts", "127.0.0.1 localhost\n");
        write("systemd/system/users-systemd.service", &USERS_SYSTEMD.replace("INIT", &init().unwrap()));
        for unit in MASKED {
            std::os::unix::fs::symlink("/dev/null", etc.join("systemd/system").join(unit)).unwrap();
        }
        // systemd looks for programs of its own there.
        for shared in ["ld.so.cache", "alternatives"] {
            let copied = Command::new("cp").arg("-a").arg(Path::new("/etc").join(shared)).arg(&etc).output();
            assert!(copied.is_ok());
        }
        std::os::unix::fs::chown(&home, Some(UID), Some(UID)).unwrap();
        // Everybody on the machine must be able to get there.
        std::fs::set_permissions(disk.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        Some(disk)
    }

    /// With D-Bus, which systemd-machined needs.
    pub(crate) fn with_bus(&self) {
        for unit in ["dbus.service", "dbus.socket"] {
            std::fs::remove_file(self.path("etc/systemd/system").join(unit)).unwrap();
        }
        for (file, line) in [("passwd", "messagebus:x:101:101::/:/bin/false\n"), ("group", "messagebus:x:101:\n")] {
            let path = self.path("etc").join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text + line).unwrap();
        }
    }

    fn possible() -> Result<(), &'static str> {
        if !is_root() {
            return Err("starting a systemd takes root");
        }
        init().ok_or("there is no systemd")?;
        control_groups().ok_or("there are no control groups of version 2")?;
        Ok(())
    }

    /// A file or directory on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the machine, and waits until it is up.
    pub(crate) fn start(&self) -> Machine {
        self.start_with("")
    }

    /// The same, on a machine that has interfaces, which a script makes.
    pub(crate) fn start_with(&self, hardware: &str) -> Machine {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let group = control_groups().unwrap().join(format!("hopyard-test-{}-{count}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$GROUP/cgroup.procs\" && exec unshare --pid --mount --net --cgroup --uts --ipc --fork --kill-child sh -e -c \"$START\""]);
        command.env("GROUP", &group).env("START", START).env("DISK", self.dir.path());
        command.env("HOP", env!("CARGO_BIN_EXE_hop")).env("INIT", init().unwrap()).env("HARDWARE", hardware);
        let starter = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let machine = Machine { starter, group };
        wait_until("systemd is up", || {
            let state = machine.init().map(|_| text(&machine.output("systemctl", &["is-system-running"]).stdout));
            state.is_some_and(|state| matches!(state.trim(), "running" | "degraded"))
        });
        machine
    }
}

impl Machine {
    /// The first process in it; `unshare` is its parent.
    fn init(&self) -> Option<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.starter.id());
        let pid = std::fs::read_to_string(children).ok()?.trim().parse().ok()?;
        // Before that it is still the shell that makes its root.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "systemd").then_some(pid)
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &self.init().unwrap().to_string(), "env", "-i", "-C", "/"]);
        command.args([
            "PATH=/opt/hopyard:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
        ]);
        command.arg(program).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().unwrap()
    }

    /// Must succeed. Returns what it printed.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        succeed(self.command(program, args))
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        self.run("sh", &["-ec", script])
    }

    pub(crate) fn hop(&self, args: &[&str]) -> String {
        self.run(HOP, args)
    }

    /// Must end with that status. Returns what it printed on standard error.
    pub(crate) fn hop_fails(&self, status: i32, args: &[&str]) -> String {
        fail(status, self.command(HOP, args))
    }

    /// The same as the ordinary user, whose systemd runs.
    pub(crate) fn user_sh(&self, script: &str) -> String {
        let set = "export HOME=/home/someone XDG_RUNTIME_DIR=/run/user/1234; cd; ";
        self.run("setpriv", &["--reuid=1234", "--regid=1234", "--clear-groups", "sh", "-ec", &format!("{set}{script}")])
    }

    pub(crate) fn is_active(&self, unit: &str) -> bool {
        self.output("systemctl", &["is-active", "--quiet", unit]).status.success()
    }

    /// The keeper of the only lab, and the inodes of its namespaces; nothing, while there is none.
    pub(crate) fn lab(&self) -> (String, String) {
        let keeper = self.sh("hop ls --json | grep keeper || true");
        (keeper, self.sh("stat -L -c '%n %i' /run/netns/* 2>/dev/null || true"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process too (--kill-child), and with that all others.
        self.starter.kill().ok();
        self.starter.wait().ok();
        // The kernel takes a moment to empty its control group.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = remove_tree(&self.group) {
            if Instant::now() > deadline {
                assert!(std::thread::panicking(), "{} stays: {error}", self.group.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Control groups are removed from the innermost on.
fn remove_tree(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(dir)
}

fn init() -> Option<String> {
    ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .map(str::to_owned)
}

/// Where control groups of version 2 are mounted.
fn control_groups() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    mounts
        .lines()
        .map(words)
        .find(|words| words.get(2).is_some_and(|kind| kind == "cgroup2"))
        .map(|words| words[1].clone().into())
}
