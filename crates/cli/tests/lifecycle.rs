//! Labs come up, change, are looked at and go: the whole program on a real kernel.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::os::fd::AsFd;
use std::process::Command;

use common::{Place, fail, is_root, text, unique};
use hopyard::kernel::{Process, keeper};

const THREE: &str = "\
name: NAME
nodes:
  home:
  near:
  far: { loopback: 10.9.0.1/24 }
links:
  - home:one -- near:two
  - endpoints: [near:three, far:four]
    ipv4: [10.0.2.1/24, 10.0.2.2/24]
";

fn three(place: &Place) -> (String, String) {
    let name = unique("three");
    let file = place.file("three.hop.yaml", &THREE.replace("NAME", &name));
    (name, file)
}

#[test]
fn a_lab_comes_up_is_measured_and_goes() {
    let place = Place::new();
    let (name, file) = three(&place);
    let up = place.hop(&["up", &file]);
    assert!(up.starts_with(&format!("{name} is up: 3 nodes, 2 links, in ")), "{up}");
    assert!(place.hop(&["ls"]).contains(&name));
    let ping = place.hop(&["ping", "--all"]);
    assert!(ping.contains("12 of 12 requests answered"), "{ping}");
    assert!(place.hop(&["ping", "home", "10.9.0.1"]).starts_with("home reaches 10.9.0.1 in "));
    let routes = place.hop(&["exec", "home", "--", "ip", "route"]);
    assert!(routes.contains("default via "), "{routes}");
    // A slip of the finger is no error, for nothing tells it from a lab that is down; but it is told.
    let slip = place.output(&["down", &format!("{name}x")]);
    assert!(slip.status.success());
    assert_eq!(text(&slip.stdout), format!("{name}x was not running\n"));
    assert_eq!(text(&slip.stderr), format!("hint: `{name}` is running; did you mean that?\n"));
    assert_eq!(place.hop(&["down"]), format!("{name} is down\n"));
    let again = place.output(&["down", &name]);
    assert_eq!((text(&again.stdout), text(&again.stderr)), (format!("{name} was not running\n"), String::new()));
    assert!(!place.records().exists(), "the directory of records is left");
}

#[test]
fn forwarding_is_on_only_where_a_node_carries_transit() {
    let place = Place::new();
    let (_, file) = three(&place);
    place.hop(&["up", &file]);
    for (node, value) in [("home", "0"), ("near", "1"), ("far", "0")] {
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let found = place.hop(&["exec", node, "cat", &format!("/proc/sys/net/{file}")]);
            assert_eq!(found.trim(), value, "{node} {file}");
        }
    }
}

#[test]
fn up_again_changes_nothing_and_says_so() {
    let place = Place::new();
    let (name, file) = three(&place);
    place.hop(&["up", &file]);
    assert_eq!(place.hop(&["up", &file]), format!("{name} is up already; nothing to change\n"));
    assert_eq!(place.hop(&["plan", &file]), "");
    assert_eq!(place.hop(&["diff"]), "");
}

#[test]
fn drift_is_shown_and_undone() {
    let place = Place::new();
    let (name, file) = three(&place);
    place.hop(&["up", &file]);
    place.hop(&["exec", "near", "--", "ip", "link", "set", "three", "mtu", "1400"]);
    place.hop(&["exec", "near", "--", "ip", "route", "add", "192.0.2.0/24", "via", "10.0.2.2"]);
    place.hop(&["exec", "near", "--", "sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    let output = place.output(&["diff"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "ip -n near route delete 192.0.2.0/24\n\
         ip netns exec near sysctl -w net.ipv4.ip_forward=1\n\
         ip -n near link set dev three mtu 1500\n"
    );
    let up = place.hop(&["up", &file]);
    assert!(up.contains("link set dev three mtu 1500") && up.contains(&format!("{name} is changed: 3 steps")), "{up}");
    assert_eq!(place.hop(&["diff"]), "");
    place.hop(&["ping", "--all"]);
}

#[test]
fn ipv6_that_was_taken_away_is_back_at_once() {
    let place = Place::new();
    let (_, file) = three(&place);
    place.hop(&["up", &file]);
    place.hop(&["exec", "near", "--", "sysctl", "-qw", "net.ipv6.conf.three.disable_ipv6=1"]);
    let up = place.hop(&["up", &file]);
    assert!(up.contains("sysctl -w net.ipv6.conf.three.disable_ipv6=0"), "{up}");
    assert_eq!(place.hop(&["diff"]), "");
    // Below 1280 bytes the kernel takes IPv6 from an interface.
    place.hop(&["exec", "near", "--", "ip", "link", "set", "two", "mtu", "600"]);
    let up = place.hop(&["up", &file]);
    assert!(up.contains("link set dev two mtu 1500"), "{up}");
    // And a link-local address that others have to be asked about would keep neighbours from being found.
    let addresses = place.hop(&["exec", "near", "--", "ip", "-6", "address", "show", "dev", "two"]);
    assert!(addresses.contains("fe80::") && !addresses.contains("tentative"), "{addresses}");
    place.hop(&["ping", "--all"]);
}

#[test]
fn a_change_touches_only_what_differs() {
    let place = Place::new();
    let name = unique("grow");
    let before = format!("name: {name}\nnodes: [a, b, c]\nlinks:\n  - a -- b\n  - b -- c\n");
    let file = place.file("grow.hop.yaml", &before);
    place.hop(&["up", &file]);
    let address = |node: &str| {
        // Of the state of a link that carries packets already, the kernel says UNKNOWN for a moment.
        place.hop(&["exec", node, "--", "ip", "-br", "addr", "show", "dev", "eth0"]).replace(" UNKNOWN ", " UP      ")
    };
    let kept = [address("a"), address("b"), address("c")];
    let after =
        format!("name: {name}\nnodes: [x, a, b, c, d, y]\nlinks:\n  - x -- y\n  - a -- b\n  - b -- c\n  - c -- d\n");
    std::fs::write(&file, after).unwrap();
    let plan = place.hop(&["plan", &file]);
    assert!(!plan.contains("link delete"), "{plan}");
    let up = place.hop(&["up", "--verbose", &file]);
    assert!(up.contains(&plan), "up did\n{up}\nbut the plan was\n{plan}");
    assert_eq!(address("a"), kept[0]);
    assert_eq!(address("b"), kept[1]);
    assert!(place.hop(&["ping", "a", "d"]).contains("a reaches d"));
    assert!(place.hop(&["ping", "x", "y"]).contains("x reaches y"));
    // And back again: the node goes, and with it its link.
    std::fs::write(&file, before).unwrap();
    place.hop(&["up", &file]);
    assert!(place.hop(&["ping", "--all"]).contains("12 of 12"));
    assert!(place.fails(2, &["exec", "d", "true"]).contains("has no node `d`"));
}

#[test]
fn a_connection_over_an_untouched_link_survives_a_change() {
    use std::io::{BufRead, BufReader, Write};
    let place = Place::new();
    let name = unique("live");
    let file = place.file("live.hop.yaml", &format!("name: {name}\nlinks: [a -- b]\n"));
    place.hop(&["up", &file]);
    // A TCP echo by shell tools of every Debian would need a package; bash can only connect. So: python or skip.
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 for a TCP server");
        return;
    }
    let server = "import socket;s=socket.create_server(('0.0.0.0',7000));print('on',flush=True);c,_=s.accept()\nwhile d:=c.recv(99): c.sendall(d)";
    let mut serving =
        place.command(&["exec", "b", "python3", "-c", server]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(serving.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let client = "import socket,sys;c=socket.create_connection(('b',7000))\nfor l in sys.stdin: c.sendall(l.encode());print(c.recv(99).decode().strip(),flush=True)";
    let mut asking = place
        .command(&["exec", "a", "python3", "-c", client])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(asking.stdout.take().unwrap()).lines();
    let mut ask = |word: &str| {
        writeln!(asking.stdin.as_mut().unwrap(), "{word}").unwrap();
        answers.next().unwrap().unwrap()
    };
    assert_eq!(ask("before"), "before");
    std::fs::write(&file, format!("name: {name}\nlinks: [a -- b, b -- c]\n")).unwrap();
    place.hop(&["up", &file]);
    assert_eq!(ask("after"), "after");
    drop(asking.stdin.take());
    assert!(asking.wait().unwrap().success());
    assert!(serving.wait().unwrap().success());
}

#[test]
fn a_failed_start_leaves_nothing_and_names_the_place() {
    let place = Place::new();
    let name = unique("broken");
    let yaml =
        format!("name: {name}\nnodes:\n  a: {{ sysctls: {{ net.ipv4.no_such_thing: 1 }} }}\n  b:\nlinks: [a -- b]\n");
    let file = place.file("broken.hop.yaml", &yaml);
    let said = place.fails(1, &["up", &file]);
    assert!(said.contains("error: cannot set net.ipv4.no_such_thing = 1 in a"), "{said}");
    assert!(said.contains("broken.hop.yaml:3:"), "{said}");
    assert!(said.contains("  ran: ip netns exec a sysctl -w net.ipv4.no_such_thing=1"), "{said}");
    assert!(!place.records().exists());
}

#[test]
fn a_failed_change_says_what_was_done_and_up_again_finishes_it() {
    let place = Place::new();
    let name = unique("half");
    let yaml = |extra: &str| {
        format!("name: {name}\nnodes:\n  a: {{ sysctls: {{ {extra} }} }}\n  b:\n  c:\nlinks: [a -- b, b -- c]\n")
    };
    let file = place.file("half.hop.yaml", &format!("name: {name}\nnodes: [a, b]\nlinks: [a -- b]\n"));
    place.hop(&["up", &file]);
    std::fs::write(&file, yaml("net.ipv4.no_such_thing: 1")).unwrap();
    let steps: Vec<serde_json::Value> = serde_json::from_str(&place.hop(&["plan", "--json", &file])).unwrap();
    let said = place.fails(1, &["up", &file]);
    assert!(
        said.contains(&format!(" of {} steps were done; those in nodes that were there before stay done", steps.len())),
        "{said}"
    );
    assert!(place.hop(&["ls"]).contains(&name), "the lab is gone");
    std::fs::write(&file, yaml("")).unwrap();
    place.hop(&["up", &file]);
    assert!(place.hop(&["ping", "--all"]).contains("12 of 12"));
    assert_eq!(place.hop(&["diff"]), "");
}

#[test]
fn a_lab_of_run_lives_as_long_as_its_command() {
    let place = Place::new();
    let name = unique("brief");
    let hop = env!("CARGO_BIN_EXE_hop");
    let script = format!("{hop} ping --all && {hop} exec b hostname && exit 7");
    let output = place.output(&["run", "--name", &name, "a -- b", "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).ends_with("4 of 4 requests answered, 2 nodes in 0 ms\nb\n")
            || text(&output.stdout).contains("\nb\n")
    );
    assert!(!place.records().exists());
    let output =
        place.output(&["run", "--name", &name, "--node", "b", "a -- b", "--", "sh", "-c", "hostname; kill -9 $$"]);
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "b\n");
    let output = place.output(&["run", "--name", &name, "a -- b", "--", "/no/such/command"]);
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
    assert!(!place.records().exists());
}

#[test]
fn a_node_that_goes_takes_its_processes_with_it() {
    let place = Place::new();
    let name = unique("leave");
    place.hop(&["up", "x -- y", "--name", &name]);
    let mut sleeping = place.command(&["exec", "y", "sleep", "1000"]).spawn().unwrap();
    let mut kept = place.command(&["exec", "x", "sleep", "1000"]).spawn().unwrap();
    let in_node = |node: &str| place.hop(&["exec", node, "sh", "-c", "ls /proc/*/ns/net | wc -l"]);
    common::wait_until("both run", || in_node("x") == in_node("x") && in_node("y").trim().parse::<u32>().unwrap() >= 6);
    place.hop(&["up", "x -- z", "--name", &name]);
    assert!(!sleeping.wait().unwrap().success());
    assert!(kept.try_wait().unwrap().is_none(), "a process of another node was ended");
    place.hop(&["down"]);
    kept.wait().unwrap();
}

#[test]
fn one_topology_can_be_run_many_times_at_once() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    let file = place.file("same.hop.yaml", &format!("name: {}\nlinks: [a -- b]\n", unique("same")));
    let running: Vec<_> = (0..4)
        .map(|_| {
            place
                .command(&["run", &file, "--", hop, "ping", "--all"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains("4 of 4"), "{output:?}");
    }
    assert!(!place.records().exists());
}

#[test]
fn two_labs_do_not_meet() {
    let place = Place::new();
    let (one, two) = (unique("one"), unique("two"));
    place.hop(&["up", "a -- b", "--name", &one]);
    place.hop(&["up", "a -- b", "--name", &two]);
    let said = place.fails(2, &["exec", "a", "true"]);
    assert!(said.contains("several labs are running") && said.contains(&one), "{said}");
    let said = place.fails(2, &["down"]);
    assert!(said.contains("`hop down LAB`") && !said.contains("-l"), "{said}");
    let said = place.fails(2, &["diff"]);
    assert!(said.contains("`hop diff LAB`") && !said.contains("NODE"), "{said}");
    place.hop(&["exec", &format!("{one}/a"), "--", "ip", "link", "set", "eth0", "down"]);
    assert!(place.hop(&["ping", "-l", &two, "--all"]).contains("4 of 4"));
    assert_eq!(place.output(&["ping", "-l", &one, "a", "b", "-W", "300"]).status.code(), Some(1));
    place.hop(&["down", &one]);
    assert!(place.hop(&["ping", "--all"]).contains("4 of 4"));
}

/// Its keeper has no number there, and so must not be taken for one that has ended.
#[test]
fn from_inside_of_a_node_no_lab_is_called_dead() {
    let place = Place::new();
    let name = unique("inside");
    place.hop(&["up", "a -- b", "--name", &name]);
    let hop = env!("CARGO_BIN_EXE_hop");
    for args in [&["ls"][..], &["ls", "--json"], &["show"], &["exec", "b", "true"]] {
        let said = place.fails(2, &[&["exec", "a", hop], args].concat());
        assert!(said.contains("inside of node `a`") && !said.contains("ended"), "{args:?}: {said}");
    }
    assert!(place.hop(&["exec", "a", hop, "run", "x -- y", "--", hop, "ls"]).contains("x-y"));
}

#[test]
fn a_lab_whose_keeper_has_ended_is_told_of_by_whoever_asks_for_it() {
    let place = Place::new();
    let name = unique("ended");
    place.hop(&["up", "a -- b", "--name", &name]);
    let labs: serde_json::Value = serde_json::from_str(&place.hop(&["ls", "--json"])).unwrap();
    let keeper = labs[0]["keeper"].to_string();
    assert!(Command::new("kill").args(["-9", &keeper]).status().unwrap().success());
    let down = format!("`hop down {name}` clears its remains");
    common::wait_until("the keeper has ended", || text(&place.output(&["ls"]).stderr).contains(&down));
    for args in [&["exec", "a", "true"][..], &["exec", "-l", &name, "a", "true"], &["why", "a", "b"], &["diff"]] {
        let output = place.output(args);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("keeper") && said.contains(&down), "{args:?}: {said}");
    }
    place.hop(&["down", &name]);
}

#[test]
fn a_lab_of_a_command_stays_as_it_began_and_says_why() {
    let place = Place::new();
    let hop = env!("CARGO_BIN_EXE_hop");
    let again = format!("{hop} up 'a -- b -- c' --name $HOP_LAB; echo status $?; {hop} diff $HOP_LAB");
    let output = place.output(&["run", "--name", &unique("run"), "a -- b", "--", "sh", "-c", &again]);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("status 1") && output.status.success(), "{said}{errors}");
    assert!(errors.contains("stays as it began") && errors.contains("is as declared"), "{errors}");
}

#[test]
fn a_keeper_without_room_for_all_new_nodes_keeps_none_of_them() {
    let place = Place::new();
    let (name, file) = three(&place);
    place.hop(&["up", &file]);
    let record = std::fs::read(place.records().join(&name).join("record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let keeper = record["keeper"]["pid"].as_u64().unwrap();
    let of_networks = || {
        let fds = std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap();
        let targets = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("net:[")).count()
    };
    let before = of_networks();
    // Room for all that are handed over first and some of the next; then for some of the first.
    let more = (0..300).map(|n| format!("  n{n}:\n")).collect::<Vec<_>>().concat();
    let text = std::fs::read_to_string(&file).unwrap().replace("  home:\n", &format!("  home:\n{more}"));
    let larger = place.file("larger.hop.yaml", &text);
    for room in [330, 200] {
        let limit = format!("--nofile={room}");
        let limited = Command::new("prlimit").args(["--pid", &keeper.to_string(), &limit]).status().unwrap();
        assert!(limited.success());
        let said = place.fails(1, &["up", &larger]);
        assert!(said.contains("(EMFILE)"), "{said}");
        assert_eq!(of_networks(), before, "with room for {room}");
    }
    place.hop(&["up", &file]);
    assert!(place.hop(&["ping", "--all"]).contains("12 of 12 requests answered"));
}

/// All that a keeper holds, by its numbers.
fn held_by(keeper: &Process) -> Vec<(u32, std::path::PathBuf)> {
    let held = keeper::all_held(keeper).unwrap().into_iter();
    let path = |number| format!("/proc/{}/fd/{number}", keeper.pid());
    let mut held: Vec<_> = held.map(|number| (number, std::fs::read_link(path(number)).unwrap())).collect();
    held.sort();
    held
}

fn keeper_of(place: &Place, lab: &str) -> Process {
    let record = std::fs::read(place.records().join(lab).join("record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    Process::open(i32::try_from(record["keeper"]["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

#[test]
fn what_was_handed_to_a_keeper_and_is_on_no_record_goes_with_the_next_change() {
    let place = Place::new();
    let (name, file) = three(&place);
    place.hop(&["up", &file]);
    let keeper = keeper_of(&place, &name);
    let before = held_by(&keeper);
    // As it is when a command is killed between the two.
    let network = std::fs::File::open("/proc/self/ns/net").unwrap();
    keeper::hold(&place.records().join(&name), &[network.as_fd(), network.as_fd()]).unwrap();
    assert_eq!(held_by(&keeper).len(), before.len() + 2);
    place.hop(&["up", &file]);
    assert_eq!(held_by(&keeper), before);
    assert!(place.hop(&["ping", "--all"]).contains("12 of 12 requests answered"));
}

#[test]
fn a_keeper_that_was_stopped_is_told_of_and_the_lab_still_ends() {
    let place = Place::new();
    let (name, file) = three(&place);
    place.hop(&["up", &file]);
    let keeper = keeper_of(&place, &name);
    let before = held_by(&keeper).len();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &keeper.pid().to_string()]).status().unwrap().success());
    };
    signal("-STOP");
    let text = std::fs::read_to_string(&file).unwrap();
    let larger = place.file("larger.hop.yaml", &text.replace("  home:\n", "  home:\n  alone:\n"));
    let mut up = Command::new("timeout");
    up.args(["--signal=KILL", "60", env!("CARGO_BIN_EXE_hop"), "up", &larger]).env("HOPYARD_DIR", place.records());
    let said = fail(1, up);
    assert!(said.contains("(ETIMEDOUT)") && said.contains("`kill -CONT PID` lets it go on"), "{said}");
    signal("-CONT");
    // What it was asked meanwhile, and nobody waits for any more, comes to nothing as well.
    place.hop(&["up", &larger]);
    assert_eq!(held_by(&keeper).len(), before + 1);
    place.hop(&["ping", "home", "far"]);
    signal("-STOP");
    assert_eq!(place.hop(&["down", &name]), format!("{name} is down\n"));
}

#[test]
fn two_ups_of_one_lab_at_once_make_one_lab() {
    let place = Place::new();
    let name = unique("race");
    let started: Vec<_> = (0..6)
        .map(|_| {
            let mut command = place.command(&["up", "chain:20", "--name", &name]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let said: Vec<String> = started
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            text(&output.stdout)
        })
        .collect();
    let made = said.iter().filter(|said| said.contains("is up: ")).count();
    let found = said.iter().filter(|said| said.contains("nothing to change")).count();
    assert_eq!((made, found), (1, 5), "{said:?}");
    place.hop(&["ping", "n1", "n20"]);
}

#[test]
fn root_finds_the_nodes_by_ip_netns_too() {
    if !is_root() {
        println!("skipped: not root");
        return;
    }
    let place = Place::new();
    let name = unique("visible");
    place.hop(&["up", "a -- b", "--name", &name]);
    let ip = |args: &[&str]| text(&std::process::Command::new("ip").args(args).output().unwrap().stdout);
    let list = ip(&["netns", "list"]);
    for node in ["a", "b"] {
        assert!(list.lines().any(|line| line.split(' ').next() == Some(&format!("{name}.{node}"))), "{list}");
    }
    assert!(ip(&["netns", "exec", &format!("{name}.a"), "ip", "-br", "link"]).contains("eth0@"));
    place.hop(&["down", &name]);
    assert!(!ip(&["netns", "list"]).contains(&name));
}

#[test]
fn where_nobody_may_look_no_lab_is_said_to_be_down() {
    use std::os::unix::fs::PermissionsExt as _;
    // Root may look everywhere.
    if is_root() {
        return;
    }
    let place = Place::new();
    place.hop(&["up", "a -- b", "--name", "lab"]);
    let allow = |mode| std::fs::set_permissions(place.records(), std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0);
    let output = place.output(&["down", "lab"]);
    allow(0o700);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(text(&output.stderr).contains("Permission denied (EACCES)"), "{output:?}");
    place.hop(&["down", "lab"]);
}
