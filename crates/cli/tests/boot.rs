//! Labs that come up with the machine, services that run in their nodes: under a real systemd, which is started
//! here in namespaces of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

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
        machine.is_active("hopyard-three") && !machine.hop(&["ls"]).is_empty() && machine.lab() != lab
    });
    assert!(machine.hop(&["ping", "home", "new"]).contains("home reaches new"));
    // What waits for the lab may die.
    machine.run("systemctl", &["kill", "--signal=KILL", "--kill-whom=main", "hopyard-three"]);
    wait_until("the unit is up again", || {
        machine.sh("systemctl show -p ActiveState,NRestarts hopyard-three").contains("NRestarts=2")
            && machine.is_active("hopyard-three")
    });
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
    if std::path::Path::new("/run/systemd/system").exists() {
        println!("skipped: enabling without systemd: it runs here");
        return;
    }
    let said = place.fails(1, &["enable", &file]);
    assert!(said.contains("systemd does not run on this machine") && said.contains("--print"), "{said}");
    assert!(place.fails(1, &["disable", &name]).contains("systemd does not run"));
}
