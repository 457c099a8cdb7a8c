//! A lab is the same on every machine, whatever is set there for interfaces to come: a new network namespace has of IPv4
//! what the machine's first one has. In the virtual machine of `.ci/vm`, whose settings the tests have to themselves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what is wrong by failing")]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::text;
use common::vm::{CALLERS, HOP, Machine, Setting, hop, output};

/// To `b` by `r1`, and back by `r2`.
const ASYMMETRIC: &str = "\
name: asymmetric
routing: none
nodes:
  a:
    addresses: { eth0: 10.0.1.1/24, eth1: 10.0.2.1/24 }
    routes: 10.0.3.0/24 via 10.0.1.2
  b:
    addresses: { eth0: 10.0.3.1/24, eth1: 10.0.4.1/24 }
    routes: 10.0.1.0/24 via 10.0.4.2
    sysctls: { net.ipv4.conf.default.log_martians: 1, net.ipv4.conf.all.arp_ignore: 2 }
  r1:
    forward: true
    addresses: { eth0: 10.0.1.2/24, eth1: 10.0.3.2/24 }
  r2:
    forward: true
    addresses: { eth0: 10.0.2.2/24, eth1: 10.0.4.2/24 }
    routes: 10.0.1.0/24 via 10.0.2.1
  beside:
  next: { forward: true, sysctls: { net.ipv4.conf.all.accept_redirects: 1 } }
switches: { sw: }
links: [a -- r1, r1 -- b, a -- r2, r2 -- b, beside -- sw, next -- sw]
";

const NODES: [&str; 6] = ["a", "b", "r1", "r2", "beside", "next"];

/// As `sysctl` tells them, by their names.
type Conf = BTreeMap<String, String>;

fn conf_of(lines: &str) -> Conf {
    let lines = lines.lines().filter_map(|line| line.split_once(" = "));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

const READ: [&str; 4] = ["sysctl", "-a", "-r", r"^net\.ipv4\.conf\."];

/// Of all nodes.
fn conf_in_nodes(machine: &Machine, caller: &[&str]) -> BTreeMap<&'static str, Conf> {
    let of = |node| conf_of(&hop(machine, caller, &[&["exec", node, "--"], &READ[..]].concat()));
    NODES.map(|node| (node, of(node))).into()
}

fn conf_of_machine(machine: &Machine) -> Conf {
    conf_of(&machine.sh(r"sysctl -a -r '^net\.ipv4\.conf\.(all|default)\.'"))
}

/// What the machine shall have: everything otherwise, but what the kernel alone sets, and what hop leaves as it is.
fn odd(usual: &Conf) -> Vec<(String, String)> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let left = |key: &str| matches!(name(key).as_str(), "mc_forwarding" | "log_martians" | "tag");
    let mut odd: Vec<(String, String)> = usual
        .iter()
        .filter(|(key, _)| !left(key))
        .map(|(key, value)| {
            let value = match value.as_str() {
                "1" => "0".to_owned(),
                "0" | "2" => "1".to_owned(),
                other => format!("{other}1"),
            };
            (key.clone(), value)
        })
        .collect();
    // It sets others.
    odd.sort_by_key(|(key, _)| !key.ends_with(".all.forwarding"));
    odd
}

/// What decides nothing in `all`.
fn decides(key: &str) -> bool {
    let of_interfaces = [
        "disable_xfrm",
        "medium_id",
        "proxy_arp_pvlan",
        "igmpv2_unsolicited_report_interval",
        "igmpv3_unsolicited_report_interval",
    ];
    key.strip_prefix("net.ipv4.conf.all.").is_none_or(|name| !of_interfaces.contains(&name))
}

fn differences(found: &BTreeMap<&str, Conf>, wanted: &BTreeMap<&str, Conf>) -> Vec<String> {
    let mut all = Vec::new();
    for (node, conf) in wanted {
        let there = &found[node];
        assert!(conf.keys().eq(there.keys()), "{node} has other interfaces: {there:?}");
        for (key, value) in conf.iter().filter(|(key, value)| decides(key) && there[*key] != **value) {
            all.push(format!("{node}: {key} = {}, not {value}", there[key]));
        }
    }
    all
}

fn arrives(machine: &Machine, caller: &[&str]) -> bool {
    output(machine, caller, &["exec", "a", "--", "ping", "-c1", "-W2", "10.0.3.1"]).status.success()
}

fn lab_file() -> &'static str {
    std::fs::write("/var/tmp/asymmetric.hop.yaml", ASYMMETRIC).unwrap();
    "/var/tmp/asymmetric.hop.yaml"
}

#[test]
fn what_the_machine_has_set_is_not_inherited() {
    let Some(machine) = Machine::new() else { return };
    let usual_of_machine = conf_of_machine(&machine);
    let usual = {
        // A machine on which nobody has set anything: distributions do.
        let _usual = [
            ("rp_filter", "0", "0"),
            ("accept_source_route", "0", "1"),
            ("promote_secondaries", "0", "0"),
            ("accept_redirects", "1", "1"),
        ]
        .map(|(name, all, default)| {
            let file = |of: &str| format!("net/ipv4/conf/{of}/{name}");
            [Setting::new(&machine, &file("all"), all), Setting::new(&machine, &file("default"), default)]
        });
        hop(&machine, CALLERS[0], &["up", lab_file()]);
        let usual = conf_in_nodes(&machine, CALLERS[0]);
        hop(&machine, CALLERS[0], &["down", "--all"]);
        usual
    };
    let of = |node: &str, key: &str| usual[node][&format!("net.ipv4.conf.{key}")].clone();
    assert_eq!([of("a", "eth0.rp_filter"), of("a", "all.send_redirects")], ["0", "1"]);
    assert_eq!([of("a", "all.accept_redirects"), of("r1", "all.accept_redirects")], ["1", "0"]);
    assert_eq!([of("b", "all.arp_ignore"), of("next", "all.accept_redirects")], ["2", "1"], "the file says so");

    let settings: Vec<Setting<'_>> = odd(&usual_of_machine)
        .iter()
        .map(|(key, value)| Setting::new(&machine, &key.replace('.', "/"), value))
        .collect();
    let odd_of_machine = conf_of_machine(&machine);
    for (key, value) in odd(&usual_of_machine) {
        assert_eq!(odd_of_machine[&key], value, "{key}");
    }
    // So it is with namespaces of ip(8), and with names of hop, which are to be no other.
    machine.sh(&format!("ip netns add theirs; {HOP} ns add ours"));
    for name in ["theirs", "ours"] {
        let there = conf_of(&machine.sh(&format!("ip netns exec {name} sysctl -a -r '^net.ipv4.conf.(all|default)'")));
        assert_eq!(there, odd_of_machine, "{name}");
    }
    machine.sh(&format!("ip netns delete theirs; {HOP} ns delete ours"));

    for caller in CALLERS {
        hop(&machine, caller, &["up", lab_file()]);
        assert_eq!(differences(&conf_in_nodes(&machine, caller), &usual), [""; 0], "by {caller:?}");
        assert!(arrives(&machine, caller), "by {caller:?}");
        assert_eq!(hop(&machine, caller, &["diff"]), "");

        // Somebody sets in a node what the machine has.
        hop(&machine, caller, &["exec", "b", "--", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
        assert!(!arrives(&machine, caller), "by {caller:?}");
        let why = text(&output(&machine, caller, &["why", "a", "10.0.3.1"]).stdout);
        assert!(why.contains("(rp_filter)") && why.contains("sysctl -w net.ipv4.conf.all.rp_filter=0"), "{why}");
        let diff = text(&output(&machine, caller, &["diff"]).stdout);
        assert_eq!(diff.trim(), "ip netns exec b sysctl -w net.ipv4.conf.all.rp_filter=0");
        // A node that comes later is as the others.
        std::fs::write("/var/tmp/more.hop.yaml", ASYMMETRIC.replace("next: {", "later: { forward: true }\n  next: {"))
            .unwrap();
        hop(&machine, caller, &["up", "/var/tmp/more.hop.yaml"]);
        let later = conf_of(&hop(&machine, caller, &[&["exec", "later", "--"], &READ[..]].concat()));
        let like = |conf: &Conf| -> Conf {
            let general = |key: &String| key.contains(".all.") || key.contains(".default.") || key.contains(".lo.");
            conf.iter().filter(|(key, _)| general(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let [later, r1] = [later, usual["r1"].clone()].map(|conf| BTreeMap::from([("later", like(&conf))]));
        assert_eq!(differences(&later, &r1), [""; 0], "by {caller:?}");
        // And what somebody has set is set back.
        assert!(arrives(&machine, caller), "by {caller:?}");
        assert_eq!(hop(&machine, caller, &["diff"]), "");
        hop(&machine, caller, &["sandbox", "--", "true"]);
        hop(&machine, caller, &["down", "--all"]);
    }
    assert_eq!(conf_of_machine(&machine), odd_of_machine, "the machine's own are not touched");
    // Forwarding last, as it was set first.
    settings.into_iter().rev().for_each(drop);
    assert_eq!(conf_of_machine(&machine), usual_of_machine);
}

/// Wherever in between somebody changes the machine, a lab is the same.
#[test]
fn a_change_meanwhile_changes_no_lab() {
    let Some(machine) = Machine::new() else { return };
    let _before = [
        Setting::new(&machine, "net/ipv4/conf/all/arp_ignore", "0"),
        Setting::new(&machine, "net/ipv4/conf/default/arp_announce", "0"),
        Setting::new(&machine, "net/ipv4/conf/default/rp_filter", "0"),
    ];
    let keys = ["all.arp_ignore", "default.arp_announce", "default.rp_filter"].map(|it| format!("net.ipv4.conf.{it}"));
    let set = |value: usize| keys.each_ref().map(|key| format!("{key}={value}")).join(" ");
    // Those that its keeper holds.
    let read = format!(
        "keeper=$({HOP} ls --json | sed -n 's/.*\"keeper\": \\([0-9]*\\),/\\1/p')
        for fd in /proc/$keeper/fd/*; do
            case $(readlink $fd) in net:*) nsenter --net=$fd sysctl -n {} ;; esac
        done",
        keys.join(" ")
    );
    for tenths in [1, 2, 4] {
        let value = usize::from(tenths == 2);
        machine.sh(&format!("sysctl -qw {}", set(value)));
        let later = format!("sleep 0.{tenths}; exec sysctl -qw {}", set(1 - value));
        let mut other = Command::new("sh").args(["-c", &later]).spawn().unwrap();
        hop(&machine, CALLERS[0], &["up", "chain:12"]);
        assert!(other.wait().unwrap().success());
        assert_eq!(
            machine.sh(&read),
            "0\n".repeat(12 * keys.len()),
            "the change was {tenths} tenths of a second later"
        );
        hop(&machine, CALLERS[0], &["down", "--all"]);
    }
}
