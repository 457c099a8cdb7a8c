//! Nodes that are containers: by the number of a process, by the name of a container of a real podman, and away again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::{Child, Command, Stdio};

use common::machine::{HOP, Machine};
use common::systemd::{Disk, HOP as HOP_THERE};
use common::{Place, is_root, text, unique, wait_until};

const LAB: &str =
    "nodes: { home: , gate: , far: { loopback: 10.9.0.1/24 } }\nlinks: [home -- gate, gate -- far:lab0]\n";

/// A process with a network of its own, as a container is.
struct Container<'m> {
    machine: &'m Machine,
    child: Child,
    pid: String,
}

impl<'m> Container<'m> {
    /// What it has of its own, a script says.
    fn new(machine: &'m Machine, setup: &str) -> Self {
        let ready = format!("/run/{}", unique("ready"));
        let script = format!("{setup}; echo $$ >{ready}; exec sleep 1000");
        let child = machine.command("unshare", &["--net", "sh", "-ec", &script]).stdout(Stdio::null()).spawn().unwrap();
        let mut pid = String::new();
        wait_until("the container is there", || {
            pid = text(&machine.output("cat", &[&ready]).stdout);
            !pid.is_empty()
        });
        Container { machine, child, pid: pid.trim().to_owned() }
    }

    fn sh(&self, script: &str) -> String {
        self.machine.run("nsenter", &["--net", "--target", &self.pid, "sh", "-ec", script])
    }

    fn end(&mut self) {
        self.machine.run("kill", &["-9", &self.pid]);
        self.child.wait().unwrap();
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn machine() -> Option<Machine> {
    let machine = Machine::new()?;
    std::fs::write(format!("/proc/{}/root/run/att.hop.yaml", machine.pid()), LAB).unwrap();
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    Some(machine)
}

fn all_answer(machine: &Machine) {
    let said = machine.run(HOP, &["ping", "--all"]);
    assert!(said.contains("12 of 12 requests answered"), "{said}");
}

#[test]
fn a_container_is_a_node_until_it_is_detached() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "true");
    let before =
        container.sh("ip link set lo up; ip -br address; ip route; ip -6 route show table all | grep -v multicast");
    assert_eq!(
        machine.run(HOP, &["attach", "far", "--pid", &container.pid]),
        format!("process {} is att/far\n", container.pid)
    );
    all_answer(&machine);
    // From within, and to the address that the file gives it.
    container.sh("ping -c1 -W5 10.9.0.1 >/dev/null");
    machine.run(HOP, &["exec", "home", "--", "ping", "-c1", "-W5", "10.9.0.1"]);
    assert!(machine.run(HOP, &["up", "/run/att.hop.yaml"]).contains("nothing to change"));
    assert_eq!(machine.run(HOP, &["diff"]), "");
    assert!(machine.run(HOP, &["ls"]).contains(&format!("att/far is process {}", container.pid)));
    assert!(machine.run(HOP, &["ls", "--json"]).contains("\"running\": true"));
    // What is broken there is mended.
    container.sh("ip link set lab0 down; ip address delete 10.9.0.1/24 dev lo");
    assert!(machine.run(HOP, &["up", "/run/att.hop.yaml"]).contains("ip -n far link set dev lab0 up"));
    all_answer(&machine);

    machine.run(HOP, &["detach", "att/far"]);
    all_answer(&machine);
    let after = container.sh("ip -br address; ip route; ip -6 route show table all | grep -v multicast");
    assert_eq!(after, before, "something is left in the container");
    assert!(!machine.run(HOP, &["ls"]).contains("process"));
}

#[test]
fn a_record_of_containers_that_cannot_be_read_hides_no_lab_and_has_a_way_out() {
    let Some(machine) = machine() else { return };
    machine.run(HOP, &["up", "a -- b", "--name", "other"]);
    machine.sh("echo '[' >/run/hopyard/att/attached.json");
    let output = machine.output(HOP, &["ls"]);
    let (labs, said) = (text(&output.stdout), text(&output.stderr));
    assert!(labs.contains("att ") && labs.contains("other "), "{labs}{said}");
    assert!(said.contains("attached.json cannot be read"), "{said}");
    let said = text(&machine.output(HOP, &["down", "att"]).stderr);
    assert!(said.contains("remove /run/hopyard/att/attached.json, and `hop down att`"), "{said}");
    machine.sh("rm /run/hopyard/att/attached.json");
    assert_eq!(machine.run(HOP, &["down", "att"]), "att is down\n");
}

#[test]
fn an_attach_that_cannot_be_written_down_holds_nothing_of_the_container() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "true");
    let keeper = machine.sh("sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' /run/hopyard/att/record.json");
    let held = || machine.sh(&format!("ls /proc/{}/fd | wc -l", keeper.trim()));
    let before = held();
    // Where the record is written first.
    machine.sh("mkdir /run/hopyard/att/attached.json.new");
    let output = machine.output(HOP, &["attach", "far", "--pid", &container.pid]);
    assert!(!output.status.success());
    machine.sh("rmdir /run/hopyard/att/attached.json.new");
    wait_until("the keeper holds what it held", || held() == before);
    all_answer(&machine);
}

#[test]
fn a_container_without_ipv6_has_it_as_long_as_it_is_a_node() {
    let Some(machine) = machine() else { return };
    // As Docker sets up one whose network has none; and it forwards, of its own accord, IPv4 alone.
    let container = Container::new(
        &machine,
        "ip link set lo up; sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 net.ipv4.ip_forward=1",
    );
    let show = "ip -br address; sysctl net.ipv6.conf.all.disable_ipv6 net.ipv6.conf.default.disable_ipv6 \
        net.ipv6.conf.lo.disable_ipv6 net.ipv4.ip_forward net.ipv6.conf.all.forwarding";
    let before = container.sh(show);
    // With an address of IPv6 on `lo` as well, and as a router.
    machine.sh("sed -i 's/home: , /home: { loopback: fd00:9::1, forward: true }, /; s/home --/home:lab0 --/' /run/att.hop.yaml");
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    machine.run(HOP, &["attach", "home", "--pid", &container.pid]);
    all_answer(&machine);
    machine.run(HOP, &["exec", "far", "--", "ping", "-6", "-c1", "-W5", "fd00:9::1"]);
    assert!(container.sh("ip -6 address show dev lab0").contains("inet6 fd"));
    assert_eq!(container.sh("sysctl -n net.ipv6.conf.all.forwarding"), "1\n");
    assert!(machine.run(HOP, &["up", "/run/att.hop.yaml"]).contains("nothing to change"));
    assert_eq!(machine.run(HOP, &["diff"]), "");
    // It is turned off by another one, and on again.
    container.sh("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1");
    let differs = text(&machine.output(HOP, &["diff"]).stdout);
    assert!(differs.contains("net.ipv6.conf.lab0.disable_ipv6=0"), "{differs}");
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    all_answer(&machine);
    machine.run(HOP, &["detach", "att/home"]);
    assert_eq!(container.sh(show), before, "something is left in the container");
    all_answer(&machine);
}

#[test]
fn what_the_container_has_of_its_own_stays() {
    let Some(machine) = machine() else { return };
    let own = "ip link add eth0 type veth peer name peer; ip link set lo up; ip link set eth0 up; ip link set peer up
        ip address add 172.16.0.2/24 dev eth0; ip address add 10.77.0.1/32 dev lo
        ip route add default via 172.16.0.1; ip route add blackhole 10.66.0.0/16";
    let show = "ip -br -4 address show dev eth0; ip -br -4 address show dev lo; ip route show dev eth0; ip route show type blackhole";
    let container = Container::new(&machine, own);
    let before = container.sh(show);
    machine.run(HOP, &["attach", "far", "--pid", &container.pid]);
    // Its default route stands, so it reaches its neighbour, and no further.
    assert!(container.sh("ip route").contains("default via 172.16.0.1 dev eth0"));
    assert!(machine.run(HOP, &["ping", "gate", "far"]).contains("gate reaches far"));
    assert!(machine.run(HOP, &["up", "/run/att.hop.yaml"]).contains("nothing to change"));
    assert_eq!(machine.run(HOP, &["diff"]), "");
    // Also when its node is not in the lab any more, and it is not killed for that.
    machine.sh("echo 'links: [home -- gate]' >/run/att.hop.yaml");
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    assert_eq!(container.sh(show), before);
    assert!(!container.sh("ip link").contains("lab0"));

    // An interface of the same name is refused before anything is changed.
    let said = text(&machine.output(HOP, &["attach", "gate", "--pid", &container.pid]).stderr);
    assert!(said.contains("has an interface `eth0` of its own, and `gate` needs one of that name"), "{said}");
    assert_eq!(container.sh(show), before);
    assert_eq!(machine.run(HOP, &["diff"]), "");
}

#[test]
fn a_container_that_has_ended_is_told_and_its_node_made_again() {
    let Some(machine) = machine() else { return };
    let mut container = Container::new(&machine, "true");
    machine.run(HOP, &["attach", "gate", "--pid", &container.pid]);
    all_answer(&machine);
    container.end();
    let ended = format!("att/gate was process {}, which has ended", container.pid);
    assert!(machine.run(HOP, &["ls"]).contains(&ended));
    assert!(machine.run(HOP, &["show"]).contains(&ended));
    assert_eq!(machine.output(HOP, &["diff"]).status.code(), Some(1));
    let up = machine.output(HOP, &["up", "/run/att.hop.yaml"]);
    assert!(text(&up.stderr).contains("`gate` is a node as any other again"), "{up:?}");
    all_answer(&machine);
    assert_eq!(machine.run(HOP, &["diff"]), "");
    assert!(!machine.run(HOP, &["ls"]).contains("process"));
}

#[test]
fn a_container_that_was_started_anew_takes_its_node_again() {
    let Some(machine) = machine() else { return };
    let mut before = Container::new(&machine, "true");
    machine.run(HOP, &["attach", "far", "--pid", &before.pid]);
    let container = Container::new(&machine, "true");
    let said = text(&machine.output(HOP, &["attach", "far", "--pid", &container.pid]).stderr);
    assert!(said.contains(&format!("node `far` is process {} already", before.pid)), "{said}");
    before.end();
    machine.run(HOP, &["attach", "far", "--pid", &container.pid]);
    all_answer(&machine);
    container.sh("ping -c1 -W5 10.9.0.1 >/dev/null");
    assert_eq!(machine.run(HOP, &["diff"]), "");
    assert!(machine.run(HOP, &["ls"]).contains(&format!("att/far is process {}", container.pid)));
}

#[test]
fn the_lab_goes_and_leaves_nothing_in_its_containers() {
    let Some(machine) = machine() else { return };
    let (one, two) = (Container::new(&machine, "ip link set lo up"), Container::new(&machine, "ip link set lo up"));
    let show = "ip -br address; ip route";
    let before = one.sh(show);
    machine.run(HOP, &["attach", "gate", "--pid", &one.pid]);
    machine.run(HOP, &["attach", "far", "--pid", &two.pid]);
    all_answer(&machine);
    machine.run(HOP, &["down"]);
    // The cable between the two was the lab's as well.
    assert_eq!((one.sh(show), two.sh(show)), (before.clone(), before.clone()));
    // The same after the keeper was killed; the lab comes up anew, with nodes of its own.
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    machine.run(HOP, &["attach", "gate", "--pid", &one.pid]);
    machine.run(HOP, &["attach", "far", "--pid", &two.pid]);
    machine.sh(&format!("kill -9 $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"));
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    all_answer(&machine);
    assert_eq!((one.sh(show), two.sh(show)), (before.clone(), before));
}

/// A process whose network is attached may leave it for any other, setns(2).
#[test]
fn a_process_that_goes_elsewhere_keeps_what_is_there() {
    let Some(machine) = machine() else { return };
    // Where it goes there is by chance what bears the names that the lab has given.
    machine.sh("ip netns add other; ip -n other link add eth0 type veth peer name lab0
        ip -n other link set lo up; ip -n other address add 10.9.0.1/24 dev lo; ip -n other link set lab0 up");
    let others = || machine.sh("ip -n other -br link; ip -n other -br -4 address; ip -n other route");
    let before = others();
    for keeper_is_killed in [false, true] {
        for node in ["far", "gate"] {
            let (go, moved) = (format!("/run/{}", unique("go")), format!("/run/{}", unique("moved")));
            // It stays, and shows what there is.
            let container = Container::new(&machine, &format!("mkfifo {go}; ip link set lo up"));
            let empty = container.sh("ip -br address");
            let script = "import ctypes, os, sys
open('/run/pid','w').write(str(os.getpid()))
open(sys.argv[1]).read()
fd = os.open('/run/netns/other', os.O_RDONLY)
assert ctypes.CDLL(None).setns(fd, 0x40000000) == 0
open(sys.argv[2], 'w').write('x')
open(sys.argv[1]).read()";
            machine.sh("rm -f /run/pid");
            let args = ["--net", "--target", &container.pid, "python3", "-c", script, &go, &moved];
            let mut moving = machine.command("nsenter", &args).spawn().unwrap();
            let mut pid = String::new();
            wait_until("it runs", || {
                pid = text(&machine.output("cat", &["/run/pid"]).stdout);
                !pid.is_empty()
            });
            machine.run(HOP, &["attach", node, "--pid", &pid]);
            all_answer(&machine);
            machine.sh(&format!(": >{go}"));
            wait_until("it has moved", || machine.output("test", &["-s", &moved]).status.success());
            if keeper_is_killed {
                machine.sh(&format!("kill -9 $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"));
                machine.run(HOP, &["down", "att"]);
                machine.run(HOP, &["up", "/run/att.hop.yaml"]);
            } else {
                machine.run(HOP, &["detach", node]);
                assert_eq!(container.sh("ip -br address"), empty, "something is left in the network that was attached");
            }
            assert_eq!(others(), before, "{node}, {keeper_is_killed}");
            all_answer(&machine);
            machine.sh(&format!(": >{go}"));
            moving.wait().unwrap();
        }
    }
}

#[test]
fn an_attach_that_is_killed_is_finished_or_undone_by_the_next_up() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "ip link set lo up");
    let before = container.sh("ip -br address; ip route");
    for moment in 0..30 {
        let mut attaching = machine.command(HOP, &["attach", "far", "--pid", &container.pid]);
        let mut attaching = attaching.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment is what is tried here, no event.
        std::thread::sleep(std::time::Duration::from_millis(moment * 2));
        let inside = format!("/proc/{0}/task/{0}/children", attaching.id());
        // `nsenter` has gone over into hop, or forked it.
        for pid in std::fs::read_to_string(inside).unwrap_or_default().split_whitespace() {
            Command::new("kill").args(["-9", pid]).output().unwrap();
        }
        attaching.kill().ok();
        attaching.wait().unwrap();
        machine.run(HOP, &["up", "/run/att.hop.yaml"]);
        all_answer(&machine);
        assert_eq!(machine.run(HOP, &["diff"]), "");
        if machine.run(HOP, &["ls"]).contains("process") {
            machine.run(HOP, &["detach", "far"]);
        }
        assert_eq!(container.sh("ip -br address; ip route"), before, "killed after {} ms", moment * 2);
    }
}

#[test]
fn what_an_attach_lets_go_of_is_nothing_that_it_has_made() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "true");
    // Somebody was killed who had written down what he wanted, and no more.
    let more = LAB.replace("home: ,", "home: , new: ,").replace("[home", "[new -- home, home");
    std::fs::write(format!("/proc/{}/root/run/att.hop.yaml", machine.pid()), more).unwrap();
    machine.sh("cp /run/hopyard/att/lab.json /run/before.json");
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    machine.sh("cp /run/hopyard/att/lab.json /run/after.json");
    std::fs::write(format!("/proc/{}/root/run/att.hop.yaml", machine.pid()), LAB).unwrap();
    machine.run(HOP, &["up", "/run/att.hop.yaml"]);
    machine.sh("cmp /run/before.json /run/hopyard/att/lab.json && cp /run/after.json /run/hopyard/att/lab.json");
    machine.run(HOP, &["attach", "far", "--pid", &container.pid]);
    let said = machine.run(HOP, &["ping", "--all"]);
    assert!(said.contains("24 of 24 requests answered"), "{said}");
    assert_eq!(machine.run(HOP, &["diff"]), "");
}

#[test]
fn what_cannot_be_attached_is_told() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "true");
    let fails = |status: i32, args: &[&str], words: &str| {
        let output = machine.output(HOP, &[&["attach"], args].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(status) && said.contains(words), "{args:?}: {output:?}");
    };
    let pid = container.pid.as_str();
    fails(2, &["fra", "--pid", pid], "did you mean `far`?");
    fails(2, &["far", "--pid", "0"], "there is no process 0");
    fails(2, &["far", "--pid", "4000000"], "there is no process 4000000");
    fails(1, &["far", "--pid", "1"], "has no network of its own");
    fails(2, &["far"], "--container");
    for bad in ["", "-x", "../x", "a b", "a\nb", "$(id)"] {
        fails(2, &["far", &format!("--container={bad}")], "is no name of a container");
    }
    let mut running = machine.command(HOP, &["exec", "far", "sleep", "1000"]).spawn().unwrap();
    let inside = || machine.run(HOP, &["ns", "pids", "att.far"]).replace('\n', " ");
    wait_until("a process runs in far", || !inside().is_empty());
    fails(1, &["far", "--pid", pid], "processes run in node `far`");
    machine.sh(&format!("kill -9 {}", inside()));
    running.wait().unwrap();
    wait_until("nothing runs in far", || machine.output(HOP, &["attach", "far", "--pid", pid]).status.success());
    fails(1, &["far", "--pid", pid], "already");
    fails(1, &["home", "--pid", pid], "is in node `far` of this lab already");
    assert_eq!(machine.output(HOP, &["detach", "home"]).status.code(), Some(2));
}

#[test]
fn a_process_that_may_not_be_looked_into_is_told_as_such() {
    if std::fs::File::open("/proc/1/ns/net").is_ok() {
        println!("skipped: this user may look into every process");
        return;
    }
    let place = Place::new();
    place.hop(&["up", "a -- b", "--name", &unique("closed")]);
    // Of `hop why` 1 would be the answer "no".
    for (status, args) in [(1, &["attach", "a", "--pid", "1"][..]), (3, &["why", "--ns", "pid:1", "host"])] {
        let said = place.fails(status, args);
        assert!(said.contains("may not open the network namespace of process 1"), "{args:?}: {said}");
        assert!(!said.contains("doctor") && said.contains("root can open it"), "{args:?}: {said}");
    }
    assert!(place.hop(&["ping", "a", "b"]).contains("a reaches b"));
}

#[test]
fn an_ordinary_user_is_told_what_takes_root() {
    if is_root() {
        println!("skipped: it is an ordinary user that is told");
        return;
    }
    let place = Place::new();
    let name = unique("att");
    place.hop(&["up", &place.file("att.hop.yaml", &format!("name: {name}\nlinks: [a -- b]\n"))]);
    let mut other = Command::new("unshare").args(["-Urn", "sleep", "1000"]).spawn().unwrap();
    let pid = other.id().to_string();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("it has a network of its own", || {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net != own)
    });
    let said = place.fails(1, &["attach", "a", "--pid", &pid]);
    assert!(said.contains("belongs to another user namespace than the lab; to join the two takes root"), "{said}");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(place.hop(&["ping", "a", "b"]).contains("a reaches b"));
    // One whose network was made in a node is in the lab's user namespace.
    let mut inside = place.command(&["exec", "a", "unshare", "-n", "sleep", "1000"]).spawn().unwrap();
    let mut pid = String::new();
    wait_until("it runs", || {
        pid = innermost(inside.id());
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    });
    place.hop(&["attach", "b", "--pid", &pid]);
    assert!(place.hop(&["ping", "a", "b"]).contains("a reaches b"));
    place.hop(&["detach", "b"]);
    assert!(place.hop(&["ping", "a", "b"]).contains("a reaches b"));
    place.hop(&["down", &name]);
    inside.wait().unwrap();
}

/// The child of the child, and so on.
fn innermost(pid: u32) -> String {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().next().map_or_else(|| pid.to_string(), |child| innermost(child.parse().unwrap()))
}

/// Whom hop asks for a container, and how. Their answers are played here; a real podman is in the next test.
#[test]
fn engines_are_asked_for_the_process() {
    let Some(machine) = machine() else { return };
    let container = Container::new(&machine, "true");
    let dir = "/run/engines";
    let play = |program: &str, script: &str| {
        machine.sh(&format!("mkdir -p {dir}; printf '%s\\n' '#!/bin/sh' 'echo \"$*\" >>/run/asked' '{script}' >{dir}/{program}; chmod +x {dir}/{program}"));
    };
    let attach = |name: &str, more: &[&str]| {
        let path = format!("PATH={dir}:/usr/bin:/bin");
        let args = [&["-i", &path, HOP, "attach", "far", "--container", name], more].concat();
        machine.output("env", &args)
    };
    play("podman", "echo no such container >&2; exit 125");
    play("docker", &format!("echo {}", container.pid));
    play("machinectl", "echo no machine >&2; exit 1");
    let output = attach("web", &[]);
    assert!(text(&output.stdout).contains("container `web` is att/far"), "{output:?}");
    let asked = machine.sh("sort -u /run/asked");
    assert_eq!(asked, "container inspect --format {{.State.Pid}} -- web\nshow --property=Leader --value -- web\n");
    machine.run(HOP, &["detach", "far"]);
    // Two of one name.
    let other = Container::new(&machine, "true");
    play("machinectl", &format!("echo {}", other.pid));
    let output = attach("web", &[]);
    assert!(text(&output.stderr).contains("`web` is a container of docker and of machinectl"), "{output:?}");
    assert!(attach("web", &["--engine", "machinectl"]).status.success());
    machine.run(HOP, &["detach", "far"]);
    // One that ends and whose number another process gets: the engine says something else when asked again.
    play("machinectl", "exit 1");
    play("docker", &format!("test -e /run/second && echo 0 || echo {}; : >/run/second", container.pid));
    let output = attach("web", &[]);
    assert!(text(&output.stderr).contains("it has just ended"), "{output:?}");
    // One that does not run.
    play("docker", "echo 0");
    let output = attach("web", &[]);
    assert!(
        text(&output.stderr).contains("podman says: no such container; docker says: it does not run"),
        "{output:?}"
    );
}

#[test]
fn a_container_of_podman_joins_a_lab_both_ways() {
    if is_root() && Command::new("podman").arg("--version").output().is_err() {
        assert!(std::env::var_os("REQUIRE_LABS").is_none(), "REQUIRE_LABS is set, but there is no podman");
        println!("skipped: a container of podman: there is no podman here");
        return;
    }
    let Some(disk) = Disk::new() else { return };
    std::fs::write(disk.path("etc/att.hop.yaml"), LAB).unwrap();
    let machine = disk.start();
    machine.hop(&["up", "/etc/att.hop.yaml"]);
    machine.sh(common::systemd::PODMAN);
    machine.sh("podman-test web --network none sleep 1000");
    assert_eq!(machine.hop(&["attach", "far", "--container", "web"]), "container `web` is att/far\n");
    assert!(machine.hop(&["ping", "--all"]).contains("12 of 12"));
    machine.sh("podman exec web ping -c1 -W5 10.9.0.1");
    assert!(machine.sh("podman exec web ip -br address show dev lab0").contains("lab0"));
    machine.sh("podman kill web >/dev/null; podman rm -f web >/dev/null");
    assert!(machine.hop(&["ls"]).contains("att/far was container `web`, which has ended"));
    machine.hop(&["up", "/etc/att.hop.yaml"]);
    assert!(machine.hop(&["ping", "--all"]).contains("12 of 12"));

    // The other way round: a container that starts in a node.
    machine.sh("podman-test other --network ns:/run/netns/att.home sleep 1000");
    machine.sh("podman exec other ping -c1 -W5 10.9.0.1");
    assert!(machine.sh("podman exec other ip -br link show dev eth0").contains("eth0"));
    machine.sh("podman rm -f other >/dev/null");
    machine.hop(&["down", "--wait"]);
}

#[test]
fn a_machine_of_systemd_nspawn_joins_a_lab() {
    if is_root() && !std::path::Path::new("/usr/bin/systemd-nspawn").exists() {
        assert!(std::env::var_os("REQUIRE_LABS").is_none(), "REQUIRE_LABS is set, but there is no systemd-nspawn");
        println!("skipped: a machine of systemd-nspawn: there is none here");
        return;
    }
    let Some(disk) = Disk::new() else { return };
    disk.with_bus();
    std::fs::write(disk.path("etc/att.hop.yaml"), LAB).unwrap();
    let machine = disk.start();
    machine.hop(&["up", "/etc/att.hop.yaml"]);
    machine.sh("mkdir -p /srv/box && cd /srv/box && mkdir -p usr etc && : >etc/os-release
         for dir in bin sbin lib lib64; do ln -s usr/$dir $dir; done
         systemd-run --quiet --unit=box systemd-nspawn --quiet --directory=/srv/box --bind-ro=/usr \
             --private-network --machine=box --as-pid2 sleep 1000");
    wait_until("the machine runs", || machine.output("machinectl", &["show", "box"]).status.success());
    let said = machine.output(HOP_THERE, &["attach", "far", "--container", "box"]);
    assert!(
        said.status.success(),
        "{said:?} {}",
        machine.sh("systemctl status box --no-pager; journalctl -u box --no-pager || true")
    );
    assert!(machine.hop(&["ping", "--all"]).contains("12 of 12"));
    machine.hop(&["down"]);
    machine.run("machinectl", &["terminate", "box"]);
}
