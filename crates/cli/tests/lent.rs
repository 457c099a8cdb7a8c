//! Interfaces of the machine that a lab's nodes are lent, and that come back.
//!
//! The machine is a network namespace of the test's own; its interfaces are veths, whose other ends are in a namespace
//! outside.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::machine::{HOP, Machine};
use common::{Place, fail, is_root, text, wait_until};

const WEB: &str = "nodes:\n  web:\n    interfaces: [wan]\n    addresses: { wan: 192.0.2.10/24 }\n    routes: default via 192.0.2.1\n  db:\nlinks: [web -- db]\n";

/// A machine with an interface to the outside.
fn machine() -> Option<Machine> {
    let machine = Machine::new()?;
    machine.sh("ip link set lo up; ip netns add outside; ip -n outside link set lo up");
    wire(&machine);
    machine.sh("ip address add 192.0.2.7/24 dev wan; ip link set wan up; ip route add 198.51.100.0/24 via 192.0.2.1");
    Some(machine)
}

/// The interface, which has nothing yet.
fn wire(machine: &Machine) {
    machine.sh("ip link add wan address 02:00:00:00:00:07 type veth peer name eth0 netns outside
         ip -n outside address add 192.0.2.1/24 dev eth0; ip -n outside link set eth0 up");
}

fn file(machine: &Machine, text: &str) {
    std::fs::write(format!("/proc/{}/root/run/web.hop.yaml", machine.pid()), text).unwrap();
}

fn up(machine: &Machine, text: &str) -> String {
    file(machine, text);
    machine.run(HOP, &["up", "/run/web.hop.yaml"])
}

/// What the machine has on the interface.
fn state(machine: &Machine) -> String {
    machine.sh("(ip -br -4 address show dev wan; ip -br link show dev wan) | tr -s ' ' | cut -d' ' -f2-3; ip -4 route show dev wan")
}

fn answers(machine: &Machine, address: &str) -> bool {
    machine.output("ip", &["netns", "exec", "outside", "ping", "-c1", "-w5", address]).status.success()
}

#[test]
fn a_lent_interface_works_in_its_node_and_comes_back_as_it_was() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    assert!(before.contains("192.0.2.7/24") && before.contains("198.51.100.0/24"), "{before}");
    up(&machine, WEB);
    assert!(answers(&machine, "192.0.2.10") && !answers(&machine, "192.0.2.7"));
    assert!(machine.run(HOP, &["exec", "web", "--", "ip", "route"]).contains("default via 192.0.2.1 dev wan"));
    assert!(machine.run(HOP, &["up", "/run/web.hop.yaml"]).contains("nothing to change"));
    assert_eq!(machine.run(HOP, &["diff"]), "");
    // What is broken there by hand is mended.
    machine.run(HOP, &["exec", "web", "--", "ip", "address", "flush", "dev", "wan"]);
    assert!(up(&machine, WEB).contains("ip -n web address add 192.0.2.10/24 dev wan"));
    assert!(answers(&machine, "192.0.2.10"));
    machine.run(HOP, &["down"]);
    assert_eq!(state(&machine), before);
    // Outside it takes a moment until somebody asks again for an address that was not there.
    wait_until("the interface answers again", || answers(&machine, "192.0.2.7"));
    // The same with a lab that ends with its command.
    file(&machine, WEB);
    let inside = machine.run(HOP, &["run", "/run/web.hop.yaml", "--", "ip", "-br", "link"]);
    assert!(!inside.contains("wan"), "{inside}");
    assert_eq!(state(&machine), before);
}

#[test]
fn without_addresses_in_the_file_it_keeps_its_own() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let bare = "nodes:\n  web: { interfaces: wan }\n  db:\nlinks: [web -- db]\n";
    up(&machine, bare);
    assert!(answers(&machine, "192.0.2.7"));
    assert!(machine.run(HOP, &["exec", "web", "--", "ip", "route"]).contains("198.51.100.0/24 via 192.0.2.1"));
    // What a DHCP client adds is its own affair.
    machine.run(HOP, &["exec", "web", "--", "ip", "address", "add", "192.0.2.99/24", "dev", "wan"]);
    assert!(up(&machine, bare).contains("nothing to change"));
    assert!(answers(&machine, "192.0.2.99"));
    // From node to node, and back when nobody asks for it.
    up(&machine, "nodes:\n  web:\n  db: { interfaces: wan }\nlinks: [web -- db]\n");
    assert!(machine.run(HOP, &["exec", "db", "--", "ip", "-br", "address"]).contains("192.0.2.7/24"));
    assert!(answers(&machine, "192.0.2.7"));
    up(&machine, "links: [web -- db]\n");
    assert_eq!(state(&machine), before);
    // A node that goes gives it back.
    up(&machine, WEB);
    up(&machine, "links: [db -- other]\n");
    assert_eq!(state(&machine), before);
    machine.run(HOP, &["down"]);
}

#[test]
fn a_lent_interface_takes_its_place_in_a_bridge_again_and_its_sysctls() {
    let Some(machine) = machine() else { return };
    machine.sh("ip link add br0 type bridge; ip link set wan master br0; sysctl -qw net.ipv4.conf.wan.proxy_arp=1");
    let has_all = || {
        machine.sh("ip -o link show dev wan").contains("master br0")
            && machine.sh("cat /proc/sys/net/ipv4/conf/wan/proxy_arp").trim() == "1"
    };
    assert!(has_all());
    up(&machine, WEB);
    // In a node they are those of the lab.
    assert_eq!(machine.run(HOP, &["exec", "web", "--", "cat", "/proc/sys/net/ipv4/conf/wan/proxy_arp"]).trim(), "0");
    up(&machine, "nodes: { web: , db: }\nlinks: [web -- db]\n");
    assert!(has_all());
    up(&machine, WEB);
    machine.run(HOP, &["down"]);
    assert!(has_all());
}

#[test]
fn an_interface_that_is_called_something_else_in_its_node_is_not_lost() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let rename = || {
        let script = "ip link set wan down; ip link set wan name front; ip link set front up";
        machine.run(HOP, &["exec", "web", "--", "sh", "-ec", script]);
    };
    up(&machine, WEB);
    rename();
    let diff = text(&machine.output(HOP, &["diff"]).stdout);
    assert!(diff.contains("ip -n web link set dev front netns 1") && !diff.contains("delete"), "{diff}");
    let said = up(&machine, WEB);
    assert!(!said.contains("delete") && answers(&machine, "192.0.2.10"), "{said}");
    assert_eq!(machine.run(HOP, &["diff"]), "");
    rename();
    machine.run(HOP, &["down"]);
    assert_eq!(state(&machine), before);
    // Nor is another one taken for it.
    up(&machine, WEB);
    rename();
    machine.run(HOP, &["exec", "web", "--", "ip", "link", "add", "wan", "type", "veth", "peer", "name", "v1"]);
    let said = fail(1, machine.command(HOP, &["down"]));
    assert!(said.contains("call the interface front wan"), "{said}");
    machine.run(HOP, &["exec", "web", "--", "ip", "link", "delete", "wan"]);
    machine.run(HOP, &["down"]);
    assert_eq!(state(&machine), before);
}

#[test]
fn what_cannot_be_lent_is_told_and_changes_nothing() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let fails = |text: &str| {
        file(&machine, text);
        let output = machine.output(HOP, &["up", "/run/web.hop.yaml"]);
        assert!(!output.status.success(), "{text}: {output:?}");
        self::text(&output.stderr)
    };
    let said = fails(&WEB.replace("[wan]", "[wam]").replace("wan:", "wam:"));
    assert!(said.contains("there is no interface `wam` here") && said.contains("did you mean `wan`?"), "{said}");
    // It fails behind the move.
    let said = fails(&WEB.replace("    routes:", "    sysctls: { net.ipv4.conf.wan.nonsense: 1 }\n    routes:"));
    assert!(said.contains("no such sysctl"), "{said}");
    assert_eq!(state(&machine), before);
    assert!(!machine.run(HOP, &["ls"]).contains("web"));

    // It cannot come back where it did not come from.
    up(&machine, WEB);
    let away = machine.output("ip", &["netns", "exec", "outside", HOP, "down", "web"]);
    assert_eq!(away.status.code(), Some(1));
    assert!(text(&away.stderr).contains("came from another network namespace"), "{away:?}");
    // Nor where there is another of its name.
    machine.sh("ip link add wan type veth peer name nawpeer");
    let output = machine.output(HOP, &["down", "web"]);
    assert!(
        text(&output.stderr).contains("cannot give the interface wan of web back to the machine: File exists"),
        "{output:?}"
    );
    assert!(answers(&machine, "192.0.2.10"), "the lab goes on");
    machine.sh("ip link delete wan");
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
}

#[test]
fn a_change_that_fails_behind_the_move_loses_no_interface() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let fails = |text: &str| {
        file(&machine, text);
        let output = machine.output(HOP, &["up", "/run/web.hop.yaml"]);
        let said = self::text(&output.stderr);
        assert!(!output.status.success() && said.contains("no such sysctl"), "{text}: {output:?}");
        assert!(machine.run(HOP, &["ping", "web", "db"]).contains("web reaches db"), "the lab goes on");
    };
    let is_on_record = || machine.output("test", &["-e", "/run/hopyard/web/lent.json"]).status.success();
    let taken = |text: &str, node: &str| {
        let asks = "interfaces: [wan], addresses: { wan: 192.0.2.10/24 }, sysctls: { net.ipv4.conf.wan.nonsense: 1 }";
        text.replace(&format!("{node}:,"), &format!("{node}: {{ {asks} }},"))
    };
    let bare = "nodes: { web:, db:, c:, }\nlinks: [web -- db]\n";
    let two = "nodes: { web:, db:, }\nlinks: [web -- db]\n";
    // To a new node, of which the keeper knows nothing yet.
    up(&machine, two);
    fails(&taken(bare, "c"));
    assert_eq!(state(&machine), before);
    assert!(!is_on_record());
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
    // From a node to a new one.
    up(&machine, WEB);
    fails(&taken(bare, "c"));
    assert_eq!(state(&machine), before);
    // What is wanted comes to be when the fault is mended, whatever was tried before.
    up(&machine, &taken(bare, "c").replace(", sysctls: { net.ipv4.conf.wan.nonsense: 1 }", ""));
    wait_until("the new node answers", || answers(&machine, "192.0.2.10"));
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
    // From a node to another that was there: there it stays, and from there it comes back.
    up(&machine, WEB);
    fails(&taken(two, "db"));
    assert!(machine.run(HOP, &["exec", "db", "--", "ip", "link"]).contains("wan"));
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
    // Out of a node while something else fails.
    up(&machine, WEB);
    fails(&two.replace("db:,", "db: { sysctls: { net.ipv4.conf.eth0.nonsense: 1 } },"));
    up(&machine, two);
    assert_eq!(state(&machine), before);
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
}

#[test]
fn what_others_lose_by_a_move_they_have_again_when_it_fails() {
    let Some(machine) = machine() else { return };
    // What stands on it, and a route that has another way too.
    machine.sh(
        "ip link add link wan name mv type macvlan mode bridge; ip link set mv up; ip address add 10.3.0.1/24 dev mv
        ip route add 10.4.0.0/16 via 10.3.0.2
        ip link add p0 type veth peer name p1; ip link set p0 up; ip link set p1 up; ip address add 10.9.0.1/24 dev p0
        ip route add 10.7.0.0/16 nexthop via 192.0.2.1 dev wan nexthop via 10.9.0.2 dev p0",
    );
    let state =
        || machine.sh("ip route | sort; ip -br -4 address show dev mv; ip -br -4 address show dev wan 2>&1 || true");
    let before = state();
    let fault = WEB.replace("    routes:", "    sysctls: { net.ipv4.conf.wan.nonsense: 1 }\n    routes:");
    let without = "nodes: { web:, db: }\nlinks: [web -- db]\n";
    let fails = || {
        file(&machine, &fault);
        assert!(fail(1, machine.command(HOP, &["up", "/run/web.hop.yaml"])).contains("no such sysctl"));
    };
    // Of a lab that was not there, and of one in whose node the interface stays until it is asked back.
    fails();
    assert_eq!(state(), before);
    up(&machine, without);
    fails();
    assert!(state().contains("10.7.0.0/16 via 10.9.0.2 dev p0"), "{}", state());
    up(&machine, without);
    assert_eq!(state(), before);
    // Somebody who does without the rest of the route meanwhile has his way.
    up(&machine, WEB);
    machine.sh("ip route delete 10.7.0.0/16");
    machine.run(HOP, &["down"]);
    assert!(!state().contains("10.7.0.0/16"), "{}", state());
}

#[test]
fn a_keeper_that_is_killed_takes_a_virtual_interface_along_and_the_next_up_says_so() {
    let Some(machine) = machine() else { return };
    up(&machine, WEB);
    machine.sh(&format!("kill -9 $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"));
    wait_until("the kernel has freed the namespaces", || {
        !machine.output("ip", &["-n", "outside", "link", "show", "eth0"]).status.success()
    });
    let output = machine.output(HOP, &["up", "/run/web.hop.yaml"]);
    assert!(text(&output.stderr).contains("there is no interface `wan` here"), "{output:?}");
    assert!(machine.run(HOP, &["down", "web"]).contains("was not running"));
}

/// Begins to bring up what the file says, and kills that after a while.
fn up_that_is_killed(machine: &Machine, after: Duration) {
    let mut starting = machine.command(HOP, &["up", "/run/web.hop.yaml"]);
    let mut starting = starting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The moment is what is tried here, no event.
    std::thread::sleep(after);
    let inside = format!("/proc/{0}/task/{0}/children", starting.id());
    // `nsenter` has gone over into hop, or forked it.
    for pid in std::fs::read_to_string(inside).unwrap_or_default().split_whitespace() {
        Command::new("kill").args(["-9", pid]).output().unwrap();
    }
    starting.kill().ok();
    starting.wait().unwrap();
}

#[test]
fn a_change_that_is_killed_loses_no_interface_of_a_new_node() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let without = "nodes: { web:, db:, }\nlinks: [web -- db]\n";
    let lent =
        "nodes: { web:, db:, c: { interfaces: [wan], addresses: { wan: 192.0.2.10/24 } } }\nlinks: [web -- db]\n";
    let mut on_the_way = 0;
    for moment in 0..30 {
        up(&machine, without);
        file(&machine, lent);
        up_that_is_killed(&machine, Duration::from_millis(moment * 2));
        let record = text(&machine.output("cat", &["/run/hopyard/web/record.json"]).stdout);
        on_the_way += usize::from(record.contains("\"changing\""));
        // As if nothing had been: the interface, which the kernel would have destroyed with its namespace, is there.
        up(&machine, lent);
        wait_until("the new node answers", || answers(&machine, "192.0.2.10"));
        machine.run(HOP, &["down", "web"]);
        assert_eq!(state(&machine), before, "killed after {} ms", moment * 2);
    }
    println!("{on_the_way} times it was on the way");
}

#[test]
fn nothing_but_what_an_interface_had_is_remains_as_well() {
    let Some(machine) = machine() else { return };
    machine.sh("mkdir -m 700 -p /run/hopyard/web && echo '[]' >/run/hopyard/web/lent.json && chmod 700 /run/hopyard");
    assert!(machine.run(HOP, &["down"]).contains("web was not running; its remains are cleared"));
    assert!(!machine.output("test", &["-e", "/run/hopyard"]).status.success(), "nothing is left");
}

#[test]
fn a_record_of_loans_that_cannot_be_read_is_told_with_a_way_out_that_loses_no_interface() {
    let Some(machine) = machine() else { return };
    file(&machine, WEB);
    machine.run(HOP, &["up", "/run/web.hop.yaml"]);
    machine.sh("echo '[' >/run/hopyard/web/lent.json");
    let output = machine.output(HOP, &["down", "web"]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("`kill PID` of the lab's keeper"), "{said}");
    // As it says.
    machine.sh(&format!("kill $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\).*/\\1/p')"));
    wait_until("the interface is back", || machine.output("ip", &["link", "show", "wan"]).status.success());
    machine.sh("rm /run/hopyard/web/lent.json");
    machine.run(HOP, &["down", "web"]);
    assert!(!machine.output("test", &["-e", "/run/hopyard"]).status.success(), "nothing is left");
}

#[test]
fn a_lab_whose_record_cannot_be_read_loses_no_interface() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    file(&machine, WEB);
    for (record, text) in [("nodes", ""), ("nodes", "x"), ("record.json", "{"), ("record.json", "")] {
        machine.run(HOP, &["up", "/run/web.hop.yaml"]);
        machine.sh(&format!("printf '{text}' >/run/hopyard/web/{record}"));
        machine.run(HOP, &["down", "web"]);
        assert_eq!(state(&machine), before, "{record}: {text:?}");
        assert!(!machine.output("test", &["-e", "/run/hopyard"]).status.success(), "nothing is left");
    }
}

#[test]
fn what_a_killed_change_has_moved_from_node_to_node_is_not_lost() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    let db = "nodes: { web:, db: { interfaces: [wan] } }\nlinks: [web -- db]\n";
    let none = "nodes: { web:, db:, }\nlinks: [web -- db]\n";
    for next in [Some(WEB), Some(db), Some(none), None] {
        up(&machine, WEB);
        // As it is when `up` is killed after the move, and before that is written down.
        machine.sh(
            "ip -n web.web link set wan netns web.db && cd /run/hopyard/web
            sed -i 's/\"to\":null/\"to\":\"db\"/' lent.json && sed -i 's/\"stage\":\"up\"/\"stage\":\"changing\"/' record.json",
        );
        if let Some(next) = next {
            up(&machine, next);
        }
        machine.run(HOP, &["down", "web"]);
        assert_eq!(state(&machine), before, "{next:?}");
    }
    // Also the other way round: it was on record, and was not moved any more.
    up(&machine, WEB);
    machine.sh("sed -i 's/\"to\":null/\"to\":\"db\"/' /run/hopyard/web/lent.json");
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
}

#[test]
fn an_up_that_is_killed_loses_no_interface() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    file(&machine, WEB);
    let succeeds = |program: &str, args: &[&str]| machine.output(program, args).status.success();
    let is_here = || succeeds("ip", &["link", "show", "wan"]);
    let mut brought_back = 0;
    let started = Instant::now();
    machine.run(HOP, &["up", "/run/web.hop.yaml"]);
    let whole = started.elapsed();
    machine.run(HOP, &["down", "web"]);
    for moment in 0..40 {
        let after = whole * moment / 40;
        up_that_is_killed(&machine, after);
        // At once now and then, and when all is settled otherwise: it is up, or the keeper has ended, or there was none yet.
        let record = || text(&machine.output("cat", &["/run/hopyard/web/record.json"]).stdout);
        let is_up = || record().contains("\"stage\":\"up\"");
        let at_once = moment % 3 == 0;
        if !at_once {
            wait_until("the lab is up or gone", || {
                is_up() || record().is_empty() || record().contains("\"keeper\":null")
            });
        }
        if !at_once && !is_up() {
            // The kernel would have destroyed it with its namespace.
            wait_until("the interface is here", is_here);
            brought_back += usize::from(state(&machine) != before);
            assert!(!machine.run(HOP, &["ls"]).contains("web"));
        }
        machine.run(HOP, &["down", "web"]);
        assert_eq!(state(&machine), before, "killed after {after:?}");
        assert!(!succeeds("test", &["-e", "/run/hopyard"]), "nothing is left");
    }
    println!("{brought_back} times the keeper brought it back, bare");
}

#[test]
fn a_run_that_is_killed_loses_no_interface() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    file(&machine, WEB);
    machine.sh(&format!("{HOP} run /run/web.hop.yaml -- sleep 1000 >/dev/null 2>&1 & echo $! >/run/pid"));
    wait_until("the node answers", || answers(&machine, "192.0.2.10"));
    machine.sh("kill -9 $(cat /run/pid)");
    wait_until("the interface is here", || machine.output("ip", &["link", "show", "wan"]).status.success());
    machine.run(HOP, &["down", "web"]);
    assert_eq!(state(&machine), before);
}

#[test]
fn a_keeper_that_is_asked_to_end_brings_back_what_was_lent() {
    let Some(machine) = machine() else { return };
    let before = state(&machine);
    // From one node to another: the keeper is told of that one too.
    let db = "nodes: { web:, db: { interfaces: [wan], addresses: { wan: 192.0.2.10/24 } } }\nlinks: [web -- db]\n";
    // Whatever somebody calls it there, and whatever else has its name.
    let renamed = "ip link set wan down; ip link set wan name front; ip link add wan type veth peer name v1";
    for script in ["true", renamed] {
        up(&machine, WEB);
        up(&machine, db);
        machine.run(HOP, &["exec", "db", "--", "sh", "-ec", script]);
        machine.sh(&format!("kill $({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')"));
        wait_until("the interface is here", || machine.output("ip", &["link", "show", "wan"]).status.success());
        wait_until("no lab runs", || !machine.run(HOP, &["ls"]).contains("web"));
        machine.run(HOP, &["down", "web"]);
        assert_eq!(state(&machine), before);
    }
}

#[test]
fn a_user_is_told_that_it_takes_root() {
    const WHY: &str = "`web` cannot have the machine's interface `wan`: that takes root";
    if is_root() {
        println!("skipped: it is an ordinary user that is told");
        return;
    }
    let place = Place::new();
    let file = place.file("web.hop.yaml", WEB);
    let said = place.fails(1, &["up", &file]);
    assert!(said.contains(WHY), "{said}");
    // It would fail whenever the machine starts, when nobody looks.
    let said = place.fails(1, &["enable", "--print", &file]);
    assert!(said.contains(WHY), "{said}");
    let plan = place.command(&["plan", &file]).output().unwrap();
    let said = text(&plan.stderr);
    assert!(plan.status.success() && said.contains(&format!("warning: `hop up` would refuse it: {WHY}")), "{said}");
}
