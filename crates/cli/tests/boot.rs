//! Labs that come up with the machine, services that run in their nodes: under a real systemd, which is started
//! here in namespaces of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::Stdio;

use common::systemd::{Disk, HOP, Machine};
use common::{Place, text, unique, wait_until};

const THREE: &str =
    "# Three in a row.\nnodes:\n  home:\n  near:\n  far: { loopback: 10.9.0.1/24 }\nlinks:\n  - home -- near -- far\n";

/// A service that says to whoever connects which names it knows, and by which resolver.
const WHO: &str = "[Service]\nExecStart=/usr/bin/python3 -c \"import socket\\n\
    s=socket.create_server(('0.0.0.0',7000))\\n\
    while True:\\n c,_=s.accept()\\n c.sendall((open('/etc/resolv.conf').read()+socket.gethostbyname('home')).encode())\\n c.close()\"\n\
    [Install]\nWantedBy=multi-user.target\n";

const ASK: &str =
    "import socket\ns=socket.create_connection(('far',7000),5)\nt=b''\nwhile d:=s.recv(999): t+=d\nprint(t.decode())";

/// A machine with a lab in its files, and a service.
fn disk() -> Option<Disk> {
    let disk = Disk::new()?;
    std::fs::write(disk.path("etc/three.hop.yaml"), THREE).unwrap();
    std::fs::write(disk.path("etc/systemd/system/who.service"), WHO).unwrap();
    Some(disk)
}

fn ask(machine: &Machine) -> String {
    let mut said = String::new();
    wait_until("the service answers", || {
        let output = machine.output(HOP, &["exec", "home", "python3", "-c", ASK]);
        said = text(&output.stdout);
        output.status.success()
    });
    said
}

#[test]
fn a_lab_is_up_when_the_machine_is_and_a_service_runs_in_its_node() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    let enabled = machine.hop(&["enable", "/etc/three.hop.yaml"]);
    assert!(enabled.starts_with("three comes up when the machine starts: "), "{enabled}");
    assert_eq!(machine.hop(&["enable", "/etc/three.hop.yaml"]), "three is enabled already; nothing to change\n");
    assert_eq!(std::fs::read_to_string(disk.path("etc/hopyard/three.hop.yaml")).unwrap(), THREE);
    // Of a lab that does not run yet.
    let said = machine.hop_fails(2, &["unit", "--node", "three/fra", "who"]);
    assert!(said.contains("has no node `fra`") && said.contains("did you mean `far`?"), "{said}");
    machine.hop(&["unit", "--node", "three/far", "--install", "who"]);
    machine.run("systemctl", &["enable", "--quiet", "who"]);
    let found =
        machine.sh("cd /etc/systemd/system && systemd-analyze verify ./hopyard-three.service ./who.service 2>&1");
    assert_eq!(found, "", "systemd-analyze verify");
    drop(machine);

    let machine = disk.start();
    let said = ask(&machine);
    assert!(said.contains("The lab three has no resolver") && !said.contains("192.0.2.53"), "{said}");
    let home = machine.hop(&["exec", "home", "--", "ip", "-4", "-br", "address", "show", "dev", "eth0"]);
    assert!(home.contains(said.lines().last().unwrap()), "{said} is not home's address: {home}");
    assert!(machine.hop(&["ls"]).contains("/etc/hopyard/three.hop.yaml (enabled)"));
    // From outside of the lab nobody gets there.
    assert!(!machine.output("python3", &["-c", &ASK.replace("far", "10.9.0.1")]).status.success());

    // The service goes with the lab, and comes with it.
    machine.run("systemctl", &["stop", "hopyard-three"]);
    assert!(!machine.is_active("who"));
    assert_eq!(machine.hop(&["ls"]), "");
    assert_eq!(machine.sh("ls -A /run/netns /run/hopyard 2>/dev/null || true"), "");
    machine.run("systemctl", &["start", "who"]);
    assert!(machine.is_active("hopyard-three"));
    ask(&machine);

    // Nothing is left of any of it.
    machine.hop(&["unit", "--remove", "who"]);
    let disabled = machine.hop(&["disable", "--now", "three"]);
    assert_eq!(disabled, "three is down, and does not come up by itself any more\n");
    assert_eq!(machine.hop(&["disable", "--now", "three"]), "three was not enabled\n");

    // Nor of a lab that was brought up by hand, and has never been the unit's.
    machine.hop(&["up", "/etc/three.hop.yaml"]);
    machine.hop(&["enable", "three"]);
    machine.hop(&["disable", "--now", "three"]);
    assert_eq!(machine.hop(&["ls"]), "", "it was said to be down");
    machine.hop(&["up", "/etc/three.hop.yaml"]);
    machine.hop(&["enable", "three"]);
    let output = machine.output(HOP, &["disable", "three"]);
    assert!(text(&output.stderr).contains("it runs on; `hop down three`"), "{}", text(&output.stderr));
    machine.hop(&["down", "three"]);
    let left = "find /etc/hopyard /etc/systemd /run/hopyard -name '*hopyard*' -o -name 'three*' 2>/dev/null || true";
    assert_eq!(machine.sh(left), "");
}

#[test]
fn a_restart_adopts_the_lab_and_a_reload_changes_what_differs() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    machine.hop(&["enable", "--now", "/etc/three.hop.yaml"]);
    let lab = machine.lab();
    for how in ["restart", "try-restart", "reload-or-restart", "start"] {
        machine.run("systemctl", &[how, "hopyard-three"]);
        assert_eq!(machine.lab(), lab, "after systemctl {how}");
        assert!(machine.is_active("hopyard-three"));
    }
    machine.run("systemctl", &["daemon-reload"]);
    machine.run("systemctl", &["daemon-reexec"]);
    assert_eq!(machine.lab(), lab);

    // What was broken by hand is mended, and what is new in the file is made.
    machine.hop(&["exec", "near", "--", "ip", "link", "set", "eth0", "down"]);
    machine.sh("sed -i 's/near -- far/near -- far -- new/; s/  home:/  home:\\n  new:/' /etc/three.hop.yaml");
    machine.hop(&["enable", "--now", "/etc/three.hop.yaml"]);
    assert!(machine.hop(&["ping", "home", "new"]).contains("home reaches new"));
    let (keeper, inodes) = machine.lab();
    assert_eq!(keeper, lab.0);
    assert!(lab.1.lines().all(|line| inodes.contains(line)), "{inodes} lacks some of {}", lab.1);

    // systemd knows whether the lab lives.
    machine.hop(&["down", "three"]);
    wait_until("systemd knows that the lab is down", || !machine.is_active("hopyard-three"));
    // One that is up by hand is adopted.
    machine.hop(&["up", "/etc/hopyard/three.hop.yaml"]);
    let lab = machine.lab();
    machine.run("systemctl", &["start", "hopyard-three"]);
    assert_eq!(machine.lab(), lab);
    // After an accident it comes up again.
    machine.sh("kill -9 $(hop ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')");
    wait_until("the lab is up again", || {
        let now = machine.lab();
        machine.is_active("hopyard-three") && !now.0.is_empty() && now != lab
    });
    assert!(machine.hop(&["ping", "home", "new"]).contains("home reaches new"));
    // What waits for the lab may die; the lab does not.
    let lab = machine.lab();
    let show = "systemctl show -p ActiveState,NRestarts hopyard-three";
    machine.run("systemctl", &["kill", "--signal=KILL", "--kill-who=main", "hopyard-three"]);
    wait_until("the unit is up again", || machine.sh(show) == "NRestarts=2\nActiveState=active\n");
    assert_eq!(machine.lab(), lab);
    machine.run("systemctl", &["stop", "hopyard-three"]);
    assert_eq!(machine.hop(&["ls"]), "");
}

#[test]
fn what_somebody_else_wrote_is_left_alone() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    let unit = disk.path("etc/systemd/system/hopyard-three.service");
    let copy = disk.path("etc/hopyard/three.hop.yaml");
    machine.hop(&["enable", "/etc/three.hop.yaml"]);
    let ours = std::fs::read_to_string(&unit).unwrap();

    std::fs::write(&unit, ours.replace("RestartSec=1", "RestartSec=9")).unwrap();
    for args in [&["enable", "/etc/three.hop.yaml"][..], &["disable", "three"]] {
        let said = machine.hop_fails(1, args);
        assert!(said.contains("hopyard-three.service was not written by hop, or was edited since"), "{said}");
        assert!(said.contains("--force"), "{said}");
    }
    assert!(std::fs::read_to_string(&unit).unwrap().contains("RestartSec=9"));
    machine.hop(&["enable", "--force", "/etc/three.hop.yaml"]);
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), ours);

    // The copy is there to be edited, too.
    let edited = THREE.replace("10.9.0.1", "10.9.0.9");
    std::fs::write(&copy, &edited).unwrap();
    let said = machine.hop_fails(1, &["enable", "/etc/three.hop.yaml"]);
    assert!(said.contains("three.hop.yaml was not written by hop"), "{said}");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), edited);
    machine.hop(&["enable", "/etc/hopyard/three.hop.yaml"]);
    std::fs::write(&copy, THREE).unwrap();
    let output = machine.output(HOP, &["disable", "three"]);
    assert!(output.status.success() && text(&output.stderr).contains("was edited, and stays"), "{output:?}");
    assert!(copy.exists() && !unit.exists());

    // A masked unit is somebody's decision.
    std::os::unix::fs::symlink("/dev/null", &unit).unwrap();
    machine.hop_fails(1, &["enable", "--force", "/etc/hopyard/three.hop.yaml"]);
    assert!(unit.is_symlink());

    // Where nothing can be written, nothing is.
    std::fs::remove_file(&unit).unwrap();
    machine.sh("mount -o remount,bind,ro /etc");
    let said = machine.hop_fails(1, &["enable", "/etc/three.hop.yaml", "--name", "other"]);
    assert!(said.contains("Read-only file system"), "{said}");
    machine.sh("mount -o remount,bind,rw /etc");
    for bad in ["../x", "a b", "a\nb", "-x"] {
        let output = machine.output(HOP, &["unit", "--node", "three/far", "--", bad]);
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {output:?}");
        assert_eq!(machine.output(HOP, &["disable", "--", bad]).status.code(), Some(2), "{bad:?}");
    }
    machine.hop_fails(2, &["unit", "--node", "three/far", "--install", "who"]);
    machine.hop(&["enable", "/etc/three.hop.yaml", "--force"]);
    let said = machine.hop_fails(2, &["unit", "--node", "three/far", "--install", "ohw"]);
    assert!(said.contains("systemd knows no service `ohw.service`"), "{said}");
}

#[test]
fn a_user_has_labs_of_his_own() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    machine.run("systemctl", &["start", "users-systemd"]);
    let enabled = machine.user_sh("hop enable --now 'a -- b -- c' 2>&1");
    assert!(
        enabled.contains("a-b-c comes up when you log in: /home/someone/.config/systemd/user/hopyard-a-b-c.service"),
        "{enabled}"
    );
    assert!(enabled.contains("loginctl enable-linger"), "{enabled}");
    let keeper = "hop ls --json | grep keeper";
    let before = machine.user_sh(keeper);
    machine.user_sh("systemctl --user restart hopyard-a-b-c");
    assert_eq!(machine.user_sh(keeper), before);
    assert!(machine.user_sh("hop ping a c").contains("a reaches c"));
    assert_eq!(machine.hop(&["ls"]), "", "root sees a user's lab");
    machine.run("systemctl", &["restart", "users-systemd"]);
    wait_until("the lab is up again", || machine.user_sh("hop ls --json") != "[]\n");
    assert_ne!(machine.user_sh(keeper), before);
    // A running lab can be enabled by its name; and nothing is changed by that.
    assert!(machine.user_sh("hop enable a-b-c 2>/dev/null").contains("nothing to change"));
    let said = machine.user_sh("hop unit --node a x 2>&1 || true");
    assert!(said.contains("an ordinary user cannot run a service in another network namespace"), "{said}");
    machine.user_sh("hop disable --now a-b-c");
    assert_eq!(machine.user_sh("hop ls 2>/dev/null; find .config -type f"), "");
}

#[test]
fn without_systemd_the_unit_can_be_printed() {
    let place = Place::new();
    let name = unique("printed");
    let file = place.file("p.hop.yaml", &format!("name: {name}\nlinks: [a -- b]\n"));
    let unit = place.hop(&["enable", "--print", &file]);
    assert!(unit.contains(&format!(" boot run {name}\n")), "{unit}");
    let file =
        place.file("u.hop.yaml", &format!("name: {name}\nnodes: {{ a: {{ uplink: true }}, b: }}\nlinks: [a -- b]\n"));
    let unit = place.hop(&["enable", "--print", &file]);
    assert_eq!(unit.contains("After=network-online.target\n"), common::is_root(), "{unit}");
    if std::path::Path::new("/run/systemd/system").exists() {
        println!("skipped: enabling without systemd: it runs here");
        return;
    }
    let said = place.fails(1, &["enable", &file]);
    assert!(said.contains("systemd does not run on this machine") && said.contains("--print"), "{said}");
    // What these do not have they do not offer.
    place.hop(&["up", "a -- b", "--name", &name]);
    let node = format!("{name}/a");
    for args in [&["disable", &name][..], &["unit", "--remove", "who"], &["unit", "--install", "--node", &node, "who"]]
    {
        if args[0] == "unit" && !common::is_root() {
            continue;
        }
        let said = place.fails(1, args);
        assert!(said.contains("systemd does not run") && !said.contains("--print"), "{args:?}: {said}");
    }
}

#[test]
fn enabling_that_fails_half_way_leaves_what_was_there() {
    let Some(machine) = common::machine::Machine::new() else { return };
    machine.sh("mkdir -p /run/systemd/system /run/bin /etc/systemd /etc/hopyard
        mount -t tmpfs none /etc/systemd && mount -t tmpfs none /etc/hopyard && mkdir /etc/systemd/system
        printf '#!/bin/sh\\n' >/run/bin/systemctl && chmod +x /run/bin/systemctl");
    let enable = |topology: &str| {
        let script = format!("PATH=/run/bin:$PATH exec {} enable --name half '{topology}' 2>&1", common::machine::HOP);
        let output = machine.output("sh", &["-c", &script]);
        (output.status.success(), common::text(&output.stdout))
    };
    let files =
        || machine.sh("find /etc/hopyard /etc/systemd/system/hopyard* -type f -exec cat {} + 2>/dev/null; true");
    // The topology can be written, its unit cannot.
    let (close, open) = ("mount -t tmpfs -o ro none /etc/systemd/system", "umount /etc/systemd/system");
    machine.sh(close);
    let (succeeds, said) = enable("a -- b");
    assert!(!succeeds && said.contains("write /etc/systemd/system/"), "{said}");
    assert_eq!(files(), "");
    machine.sh(open);
    let (succeeds, said) = enable("a -- b -- c");
    assert!(succeeds, "{said}");
    let before = files();
    assert!(before.contains("ExecStart="), "{before}");
    machine.sh("mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,ro,bind /etc/systemd/system");
    assert!(!enable("a -- b -- c -- d").0);
    assert_eq!(files(), before);
    machine.sh(open);
    let (succeeds, said) = enable("a -- b -- c -- d -- e");
    assert!(succeeds, "nobody has edited a file, {said}");
}

#[test]
fn a_service_is_said_to_run_where_systemd_has_read_that_it_does() {
    let Some(machine) = common::machine::Machine::new() else { return };
    let wants = "/etc/systemd/system/multi-user.target.wants";
    machine.sh(&format!(
        "mkdir -p /run/systemd/system /run/bin /etc/systemd && mount -t tmpfs none /etc/systemd
        mkdir -p {wants} && ln -s ../hopyard-lab.service {wants} && printf 'case \"$*\" in *daemon-reload*) test ! -e /run/busy;; *LoadState*) echo loaded;; *Namespace*) echo /run/netns/lab.a;; esac\\n' >/run/bin/systemctl
        sed -i '1i #!/bin/sh' /run/bin/systemctl && chmod +x /run/bin/systemctl"
    ));
    machine.run(common::machine::HOP, &["up", "a -- b", "--name", "lab"]);
    let unit = |args: &str| {
        let script = format!("PATH=/run/bin:$PATH exec {} unit {args} 2>&1", common::machine::HOP);
        let output = machine.output("sh", &["-c", &script]);
        (output.status.success(), common::text(&output.stdout))
    };
    let is_there = || machine.output("test", &["-e", "/etc/systemd/system/who.service.d"]).status.success();
    for args in ["--install --node lab/a who", "--remove who"] {
        let before = is_there();
        machine.sh("touch /run/busy");
        let (succeeds, said) = unit(args);
        assert!(!succeeds && said.contains("daemon-reload"), "{said}");
        assert_eq!(is_there(), before, "{args}");
        machine.sh("rm /run/busy");
        let (succeeds, said) = unit(args);
        assert!(succeeds && said.contains("who.service runs"), "{said}");
        assert_ne!(is_there(), before, "{args}");
    }
}

#[test]
fn a_socket_listens_in_a_node_for_its_service() {
    let Some(disk) = disk() else { return };
    let unit = |name: &str, text: &str| std::fs::write(disk.path("etc/systemd/system").join(name), text).unwrap();
    for name in ["echo", "once@"] {
        unit(&format!("{name}.service"), "[Service]\nExecStart=/bin/cat\nStandardInput=socket\n");
    }
    unit("echo.socket", "[Socket]\nListenDatagram=9\n[Install]\nWantedBy=sockets.target\n");
    unit("once.socket", "[Socket]\nListenStream=7\nAccept=yes\n[Install]\nWantedBy=sockets.target\n");
    let machine = disk.start();
    machine.hop(&["enable", "--now", "/etc/three.hop.yaml"]);
    machine.run("systemctl", &["enable", "--now", "--quiet", "echo.socket"]);
    for (service, socket) in [("echo.service", "echo.socket"), ("once@.service", "once.socket")] {
        let install = |what: &str| {
            let output = machine.output(HOP, &["unit", "--node", "three/far", "--install", what]);
            assert!(output.status.success(), "{output:?}");
            text(&output.stdout) + &text(&output.stderr)
        };
        let said = install(service);
        let warned = format!("systemd listens for it by {socket}, and that is not in three/far");
        assert!(said.contains(&warned) && said.contains(&format!("--install {socket}`")), "{said}");
        assert!(install(socket).starts_with(&format!("{socket} listens in three/far: ")));
        assert!(!install(service).contains("systemd listens"), "it is there");
    }
    let found = machine.sh("cd /etc/systemd/system && systemd-analyze verify ./once.socket 2>&1");
    assert_eq!(found, "", "systemd-analyze verify");
    machine.run("systemctl", &["enable", "--quiet", "once.socket"]);
    drop(machine);

    // Also when the machine starts, where sockets come first.
    let machine = disk.start();
    assert!(machine.is_active("once.socket") && machine.is_active("hopyard-three"));
    let ask = |address: &str| {
        format!("import socket\ns=socket.create_connection(('{address}',7),5)\ns.sendall(b'hi')\nprint(s.recv(9))")
    };
    assert_eq!(machine.hop(&["exec", "home", "python3", "-c", &ask("10.9.0.1")]), "b'hi'\n");
    assert!(!machine.output("python3", &["-c", &ask("127.0.0.1")]).status.success(), "it listens on the host as well");
    machine.run("systemctl", &["stop", "hopyard-three"]);
    assert!(!machine.is_active("once.socket"));
    assert_eq!(machine.hop(&["unit", "--remove", "once.socket"]), "once.socket listens where it did before\n");
}

#[test]
fn a_service_that_somebody_else_puts_elsewhere_is_not_said_to_run_in_a_node() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    machine.hop(&["enable", "--now", "/etc/three.hop.yaml"]);
    let dir = disk.path("etc/systemd/system/who.service.d");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("60-mine.conf"), "[Service]\nNetworkNamespacePath=/proc/1/ns/net\n").unwrap();
    let install = ["unit", "--node", "three/far", "--install", "who"];
    for force in [&[][..], &["--force"]] {
        let said = machine.hop_fails(1, &[&install[..], force].concat());
        assert!(
            said.contains("systemd would run `who.service` in /proc/1/ns/net, whatever our drop-in says"),
            "{said}"
        );
        assert!(said.contains("`systemctl cat who.service`"), "{said}");
        assert!(!dir.join("50-hopyard.conf").exists(), "it is not what it says");
    }
    std::fs::remove_file(dir.join("60-mine.conf")).unwrap();
    machine.hop(&install);
    // Nor is one that was put there by then.
    std::fs::write(dir.join("60-mine.conf"), "[Service]\nNetworkNamespacePath=\n").unwrap();
    machine.run("systemctl", &["daemon-reload"]);
    let said = machine.hop_fails(1, &install);
    assert!(said.contains("in the host's network"), "{said}");
    // One that is masked does not run at all.
    std::os::unix::fs::symlink("/dev/null", disk.path("etc/systemd/system/other.service")).unwrap();
    machine.run("systemctl", &["daemon-reload"]);
    let said = machine.hop_fails(1, &["unit", "--node", "three/far", "--install", "other"]);
    assert!(said.contains("the service `other.service` is masked") && said.contains("systemctl unmask"), "{said}");
}

#[test]
fn whoever_enables_and_disables_at_the_same_time_waits_for_the_other() {
    let Some(disk) = disk() else { return };
    let machine = disk.start();
    for dir in ["a", "b"] {
        std::fs::create_dir(disk.path("etc").join(dir)).unwrap();
    }
    std::fs::write(disk.path("etc/a/three.hop.yaml"), THREE).unwrap();
    std::fs::write(disk.path("etc/b/three.hop.yaml"), THREE.replace("10.9.0.1", "10.9.0.2")).unwrap();
    let at_once = |all: &[[&str; 2]]| {
        let all: Vec<_> = all
            .iter()
            .map(|args| machine.command(HOP, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        all.into_iter().all(|mut one| one.wait().unwrap().success())
    };
    for turn in 0..8 {
        assert!(at_once(&[["enable", "/etc/a/three.hop.yaml"], ["enable", "/etc/b/three.hop.yaml"]]), "turn {turn}");
        // Whose topology it is, its unit knows: nobody has edited it.
        machine.hop(&["enable", "/etc/a/three.hop.yaml"]);
    }
    // What one leaves that is killed, the next one removes.
    for turn in 0..12 {
        let file = if turn % 2 == 0 { "/etc/b/three.hop.yaml" } else { "/etc/a/three.hop.yaml" };
        machine.sh(&format!(
            "{HOP} enable {file} >/dev/null 2>&1 & sleep 0.0{:02}; kill -9 $! || true; wait $! || true",
            3 * turn
        ));
    }
    machine.hop(&["enable", "/etc/a/three.hop.yaml"]);
    assert!(at_once(&[["disable", "three"]; 4]), "the first one does it");
    let nothing_is_left = || {
        assert!(!disk.path("etc/hopyard").exists());
        assert_eq!(machine.sh("find /etc/systemd -name '*hop*'"), "");
    };
    nothing_is_left();
    // So does who disables what has no unit yet.
    for edit in ["", "echo '# Mine.' >>/etc/hopyard/three.hop.yaml"] {
        machine.hop(&["enable", "/etc/a/three.hop.yaml"]);
        machine.sh(&format!(
            "sed -n 2p /etc/systemd/system/hopyard-three.service >/etc/hopyard/.hop-plan-three
            rm $(find /etc/systemd -name hopyard-three.service); {edit}"
        ));
        let output = machine.output(HOP, &["disable", "three"]);
        assert_eq!(text(&output.stdout), "three was not enabled\n");
        let kept = text(&output.stderr);
        if edit.is_empty() {
            nothing_is_left();
        } else {
            assert_eq!(kept, "warning: /etc/hopyard/three.hop.yaml was edited, and stays\n");
            assert_eq!(machine.sh("ls -A /etc/hopyard"), "three.hop.yaml\n");
        }
    }
}

/// A machine between two networks, as it is when it starts: `wan` leads to the Internet, `lan` to the inside.
const HARDWARE: &str = "ip link add wan type veth peer name wan-peer; ip link add lan type veth peer name lan-peer
    ip address add 10.20.0.1/24 dev lan; ip link set lan up";

const EDGE: &str =
    "nodes:\n  web:\n    interfaces: [wan]\n    addresses: { wan: 192.0.2.10/24 }\n    routes: default via 192.0.2.1\n";

/// Does whatever somebody from outside tells it: a web server that has been taken over. It is root, as far as the
/// network goes.
const WEB: &str = "[Service]\nExecStart=/usr/bin/python3 /etc/web.py\nNoNewPrivileges=yes\n\
    CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE\nType=notify\nNotifyAccess=all\n\
    [Install]\nWantedBy=multi-user.target\n";
const WEB_PY: &str = "import os, socket, subprocess
server = socket.create_server(('0.0.0.0', 80))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1))
while True:
    client, _ = server.accept()
    asked = client.makefile().readline()
    done = subprocess.run(asked, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    client.sendall(done.stdout + b'status %d' % done.returncode)
    client.close()
";

/// Listens, answers whoever connects, and counts all IP packets of the machine's network that are not its own.
const INSIDE_PY: &str = "import socket, threading
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
server = socket.create_server(('0.0.0.0', 22))
def serve():
    while True:
        client, _ = server.accept()
        client.sendall(b'SSH-2.0-test'); client.close()
threading.Thread(target=serve, daemon=True).start()
seen = open('/run/seen', 'w', buffering=1)
while True:
    frame = raw.recv(2000)
    if bytes([192, 0, 2]) in frame: seen.write(frame.hex() + chr(10))
";

#[test]
fn whoever_takes_over_the_web_server_does_not_reach_the_inside() {
    let Some(disk) = Disk::new() else { return };
    let write = |name: &str, content: &str| std::fs::write(disk.path("etc").join(name), content).unwrap();
    write("edge.hop.yaml", EDGE);
    write("systemd/system/web.service", WEB);
    write("web.py", WEB_PY);
    write("inside.py", INSIDE_PY);
    let machine = disk.start_with(HARDWARE);
    machine.hop(&["enable", "/etc/edge.hop.yaml"]);
    machine.hop(&["unit", "--node", "edge/web", "--install", "web"]);
    machine.run("systemctl", &["enable", "--quiet", "web"]);
    let found =
        machine.sh("cd /etc/systemd/system && systemd-analyze verify ./hopyard-edge.service ./web.service 2>&1");
    assert_eq!(found, "", "systemd-analyze verify");
    drop(machine);

    // The hardware is found while the machine starts already.
    let machine =
        disk.start_with(&format!("(until [ -e /run/systemd/system ]; do sleep 0.01; done; sleep 0.3; {HARDWARE}) &"));
    wait_until("the web server runs", || machine.is_active("web"));
    // A restart does not wait for what the lab has already.
    let lab = machine.lab();
    machine.run("systemctl", &["restart", "hopyard-edge"]);
    assert_eq!(machine.lab(), lab);
    wait_until("the web server runs", || machine.is_active("web"));
    machine.sh("ip netns add internet; ip link set wan-peer netns internet; ip -n internet link set wan-peer up
         ip -n internet address add 192.0.2.1/24 dev wan-peer; ip -n internet link set lo up
         ip netns add inside; ip link set lan-peer netns inside; ip -n inside link set lan-peer up
         ip -n inside address add 10.20.0.5/24 dev lan-peer
         systemd-run --quiet --unit=inside -p NetworkNamespacePath=/run/netns/inside python3 /etc/inside.py
         systemd-run --quiet --unit=ssh python3 -c 'import socket
s=socket.create_server((\"0.0.0.0\",22))
while True: s.accept()[0].sendall(b\"SSH-2.0-host\")'");
    let connect = "import socket, sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),2)\nif len(sys.argv)>3: s.sendall((sys.argv[3]+chr(10)).encode())\nt=b''\nwhile d:=s.recv(999): t+=d\nprint(t.decode())";
    write("connect.py", connect);
    let from = |ns: &str, to: &[&str]| {
        let args = ["netns", "exec", ns, "python3", "/etc/connect.py"];
        machine.output("ip", &[&args[..], to].concat())
    };
    // From inside, both servers of the inside are there; from the Internet, the web server is.
    wait_until("the server inside answers", || {
        text(&machine.output("python3", &["/etc/connect.py", "10.20.0.5", "22"]).stdout).contains("SSH-2.0-test")
    });
    wait_until("the host's server answers", || {
        text(&from("inside", &["10.20.0.1", "22"]).stdout).contains("SSH-2.0-host")
    });
    let attack = |command: &str| {
        let output = from("internet", &["192.0.2.10", "80", command]);
        assert!(output.status.success(), "the web server does not answer: {output:?}");
        text(&output.stdout)
    };
    assert!(attack("id").contains("uid=0(root)"));
    assert!(attack("ip -br link").lines().count() <= 3, "{}", attack("ip -br link"));

    // By the routes that there are, by routes of his own, by another address; to the host and to the inside.
    for prepare in [
        "true",
        "ip route add 10.20.0.0/24 dev wan",
        "ip route replace 10.20.0.0/24 via 192.0.2.1",
        "ip address add 10.20.0.9/24 dev wan; ip route delete 10.20.0.0/24 via 192.0.2.1",
        "ip link add sub link wan type macvlan; ip link set sub up; ip route add 10.20.0.0/24 dev sub metric 1",
    ] {
        attack(prepare);
        for target in ["10.20.0.5", "10.20.0.1"] {
            let said = attack(&format!("timeout 0.5 python3 /etc/connect.py {target} 22"));
            assert!(!said.contains("SSH-2.0") && !said.contains("status 0"), "after `{prepare}`, {target}: {said}");
        }
    }
    // Nor by leaving the namespace.
    for escape in [
        "nsenter --net=/proc/1/ns/net true",
        "nsenter --target 1 --net true",
        "unshare --net true",
        "ip netns exec inside true",
    ] {
        let said = attack(escape);
        assert!(!said.contains("status 0"), "{escape}: {said}");
    }
    // Not a single packet arrived, of any kind; and the observer does see packets.
    assert_eq!(machine.sh("cat /run/seen"), "");
    machine.sh("ip address add 192.0.2.77/32 dev lan; ping -c1 -W1 -I 192.0.2.77 10.20.0.5 >/dev/null || true");
    wait_until("the observer sees", || !machine.sh("cat /run/seen").is_empty());
    // When the lab goes, the machine has its interface again.
    machine.hop(&["unit", "--remove", "web"]);
    machine.run("systemctl", &["stop", "web"]);
    machine.hop(&["disable", "--now", "edge"]);
    assert!(machine.sh("ip -br link show dev wan").contains("wan"));
}
